//! Reading: each read sees the store as it was at one moment.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::row_key::{Slot, offset};
use crate::{
    message::Message,
    server::log::{
        Bound, EventId, Generation, MessagePage, Place, Position, Range, ReadError, StreamInfo,
        StreamName,
    },
};

/// A row of `streams`.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    /// The sequence before the first one.
    pub(super) base: u64,
    /// The id of the newest message, or of the end.
    pub(super) head: EventId,
    pub(super) trimmed: Trimmed,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// How many idempotency keys are remembered.
    pub(super) keys: u64,
    pub(super) skew: Option<ClockSkew>,
    pub(super) closing: Option<String>,
}

/// The newest message that is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trimmed {
    /// Its sequence; that before the first one while all are kept.
    pub(super) seq: u64,
    /// None while all are kept, and where an earlier version has not noted it.
    pub(super) millis: Option<u64>,
}

/// Ids that are so far ahead of the clock, in milliseconds, come from a clock that was wrong.
const FAR_AHEAD: u64 = 60 * 1000;

pub(super) fn far_ahead(now: u64) -> u64 {
    now.saturating_add(FAR_AHEAD)
}

/// Ids of a stream are far ahead of the clock. Within a stream they do not go back, so that their
/// milliseconds say nothing of the age of its messages. What is known is when it had come to which
/// sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockSkew {
    /// Since when that is known, by the clock.
    pub(super) since: u64,
    /// The sequence that the stream had come to by then.
    pub(super) seq: u64,
}

impl Stream {
    /// A stream in which nothing was said yet, and whose sequences go on after `base`.
    pub(super) fn new(slot: Slot, generation: Generation, base: u64) -> Self {
        Self {
            slot,
            generation,
            base,
            head: EventId { millis: 0, seq: base },
            trimmed: Trimmed { seq: base, millis: None },
            count: 0,
            bytes: 0,
            keys: 0,
            skew: None,
            closing: None,
        }
    }

    pub(super) fn of(connection: &Connection, name: &StreamName) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT slot, generation, base, seq, millis, trimmed, trimmed_millis, count, bytes, \
                 keys, ahead_since, ahead_seq, closing FROM streams WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| {
                let skew = (maybe_unsigned(row, 10)?, maybe_unsigned(row, 11)?);
                Ok(Self {
                    slot: Slot(row.get(0)?),
                    generation: Generation(row.get(1)?),
                    base: unsigned(row, 2)?,
                    head: id(row, 3)?,
                    trimmed: Trimmed { seq: unsigned(row, 5)?, millis: maybe_unsigned(row, 6)? },
                    count: unsigned(row, 7)?,
                    bytes: unsigned(row, 8)?,
                    keys: unsigned(row, 9)?,
                    skew: skew.0.zip(skew.1).map(|(since, seq)| ClockSkew { since, seq }),
                    closing: row.get(12)?,
                })
            })
            .optional()
    }

    /// Writes the row back.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE streams SET seq = ?2, millis = ?3, trimmed = ?4, trimmed_millis = ?5, \
                 count = ?6, bytes = ?7, keys = ?8, ahead_since = ?9, ahead_seq = ?10, \
                 closing = ?11 WHERE slot = ?1",
            )?
            .execute((
                self.slot.0,
                signed(self.head.seq),
                signed(self.head.millis),
                signed(self.trimmed.seq),
                self.trimmed.millis.map(signed),
                signed(self.count),
                signed(self.bytes),
                signed(self.keys),
                self.skew.map(|skew| signed(skew.since)),
                self.skew.map(|skew| signed(skew.seq)),
                &self.closing,
            ))?;
        Ok(())
    }

    /// The key of the message with this sequence.
    pub(super) fn row_key(&self, seq: u64) -> i64 {
        self.slot.row_key(seq.saturating_sub(self.base))
    }

    /// Whether its ids come from a clock that was wrong, or the clock is wrong now.
    pub(super) fn is_ahead(&self, now: u64) -> bool {
        self.head.millis > far_ahead(now)
    }

    /// Up to which sequence its messages are known to be too old, whatever their ids say.
    pub(super) fn known_old(&self, now: u64, too_old: u64) -> Option<u64> {
        let skew = self.skew.filter(|skew| self.is_ahead(now) && skew.since < too_old);
        skew.map(|skew| skew.seq)
    }

    fn end(&self) -> Option<Message> {
        self.closing.clone().map(|data| Message { id: self.head, data })
    }

    /// The sequence after which a range begins, or before which it ends.
    fn locate(
        &self,
        tx: &Transaction<'_>,
        place: Place,
    ) -> rusqlite::Result<Result<u64, ReadError>> {
        Ok(match place {
            Place::Earliest => Ok(self.trimmed.seq),
            // The end is no message: a reader that begins there is still told of it.
            Place::Latest if self.closing.is_some() => Ok(self.head.seq.saturating_sub(1)),
            Place::Latest => Ok(self.head.seq),
            Place::Id(id) if self.is_place(tx, id)? => Ok(id.seq),
            Place::Id(_) => Err(ReadError::UnknownPlace),
            // Before the first message.
            Place::Position(Position { generation: None, .. }) if self.trimmed.seq == self.base => {
                Ok(self.base)
            }
            Place::Position(Position { generation: Some(generation), .. })
                if generation != self.generation =>
            {
                Err(ReadError::UnknownPlace)
            }
            Place::Position(Position { seq, .. }) if seq >= self.trimmed.seq => Ok(seq),
            Place::Position(_) => Err(ReadError::Trimmed),
        })
    }

    /// Whether the stream has come to this id, and nothing is missing after it: it is that of a
    /// message, or of the end, or of the last one that was trimmed.
    fn is_place(&self, tx: &Transaction<'_>, id: EventId) -> rusqlite::Result<bool> {
        let Trimmed { seq: trimmed, millis: trimmed_millis } = self.trimmed;
        if id == self.head || (id.seq == trimmed && trimmed_millis == Some(id.millis)) {
            return Ok(true);
        }
        if id.seq <= trimmed || id.seq >= self.head.seq {
            return Ok(false);
        }
        let stored = tx
            .prepare_cached("SELECT millis FROM messages WHERE key = ?1")?
            .query_row([self.row_key(id.seq)], |row| unsigned(row, 0))
            .optional()?;
        Ok(stored == Some(id.millis))
    }
}

/// A page of messages.
pub(super) fn page(
    connection: &mut Connection,
    name: &StreamName,
    range: Range,
    bound: Bound,
) -> rusqlite::Result<Result<MessagePage, ReadError>> {
    let tx = connection.transaction()?;
    let Some(stream) = Stream::of(&tx, name)? else { return Ok(Err(ReadError::NoStream)) };
    let (Range::After(place) | Range::Before(place)) = range;
    let from = match stream.locate(&tx, place)? {
        Ok(from) => from,
        Err(error) => return Ok(Err(error)),
    };
    let (messages, more) = match range {
        Range::After(_) => after(&tx, &stream, from, bound)?,
        // The newest message is before what comes after it.
        Range::Before(Place::Latest) => before(&tx, &stream, from + 1, bound)?,
        Range::Before(_) => before(&tx, &stream, from, bound)?,
    };
    let seq = match messages.last() {
        Some(last) if more => last.id.seq,
        _ => stream.head.seq.max(from),
    };
    let position = Position { generation: Some(stream.generation), seq };
    Ok(Ok(MessagePage { messages, more, position, head: stream.head, end: stream.end() }))
}

fn after(
    tx: &Transaction<'_>,
    stream: &Stream,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT key, millis, data FROM messages WHERE key > ?1 AND key <= ?2 ORDER BY key",
    )?;
    take(stream, select.query((stream.row_key(seq), stream.slot.end()))?, bound)
}

fn before(
    tx: &Transaction<'_>,
    stream: &Stream,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT key, millis, data FROM messages WHERE key < ?1 AND key > ?2 ORDER BY key DESC",
    )?;
    let rows = select.query((stream.row_key(seq), stream.slot.start()))?;
    let (mut messages, more) = take(stream, rows, bound)?;
    messages.reverse();
    Ok((messages, more))
}

/// As many rows as the bound allows, and whether there are more.
fn take(
    stream: &Stream,
    mut rows: rusqlite::Rows<'_>,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if messages.len() >= bound.messages || bytes >= bound.bytes {
            return Ok((messages, true));
        }
        let data: String = row.get(2)?;
        bytes += data.len();
        let seq = stream.base + offset(row.get(0)?);
        messages.push(Message { id: EventId { seq, millis: unsigned(row, 1)? }, data });
    }
    Ok((messages, false))
}

/// Where a stream is.
pub(super) fn position(connection: &Connection, name: &StreamName) -> rusqlite::Result<Position> {
    let stream = Stream::of(connection, name)?;
    Ok(stream.map_or(Position::NOWHERE, |stream| Position {
        generation: Some(stream.generation),
        seq: stream.head.seq,
    }))
}

/// How many characters of its last message the list of streams shows.
const PART: i64 = 200;

/// The streams there are, newest activity first.
pub(super) fn streams(
    connection: &mut Connection,
    max: usize,
) -> rusqlite::Result<Vec<StreamInfo>> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let tx = connection.transaction()?;
    // Sorted before the texts are read, one seek for each stream that is listed.
    let mut select = tx.prepare_cached(
        "SELECT slot, base, name, count, seq, millis, substr(closing, 1, ?2) FROM streams \
         ORDER BY millis DESC, name LIMIT ?1",
    )?;
    let mut select_text =
        tx.prepare_cached("SELECT substr(data, 1, ?2) FROM messages WHERE key = ?1")?;
    let mut rows = select.query((max, PART))?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let (slot, base, id) = (Slot(row.get(0)?), unsigned(row, 1)?, id(row, 4)?);
        let closing: Option<String> = row.get(6)?;
        let ended = closing.is_some();
        let last = if ended {
            closing
        } else {
            let key = slot.row_key(id.seq.saturating_sub(base));
            select_text.query_row((key, PART), |row| row.get(0)).optional()?
        };
        // What is stored under a name that cannot be a stream's is not ours to show.
        let Ok(name) = row.get::<_, String>(2)?.parse() else { continue };
        let last = last.map(|data| Message { id, data });
        listed.push(StreamInfo { name, messages: unsigned(row, 3)?, ended, last });
    }
    Ok(listed)
}

/// How many streams there are, and how many messages they have.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached("SELECT count(*), coalesce(sum(count), 0) FROM streams")?
        .query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
}

pub(super) fn id(row: &Row<'_>, first: usize) -> rusqlite::Result<EventId> {
    Ok(EventId { seq: unsigned(row, first)?, millis: unsigned(row, first + 1)? })
}

/// The integers of `SQLite` are signed; ours are never negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn maybe_unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(column).map(|number| number.map(i64::unsigned_abs))
}

/// Larger than `SQLite` can hold is larger than anything it holds.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time that is so long ago.
pub(super) fn time_before(now: u64, age: Duration) -> u64 {
    now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
