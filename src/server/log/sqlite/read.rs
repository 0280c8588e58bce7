//! Reads: pages of messages and the list of streams, each from one snapshot of the store.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::row_key::{Slot, offset};
use crate::{
    message::Message,
    server::log::{
        Bound, EventId, Generation, MessagePage, Position, Range, ReadCursor, ReadError,
        StreamInfo, StreamName,
    },
};

/// A row of `streams`.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    /// The sequence before the first one of this generation.
    pub(super) base: u64,
    /// The id of the newest message, or of the end.
    pub(super) head: EventId,
    pub(super) trimmed: Trimmed,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Number of idempotency keys.
    pub(super) keys: u64,
    pub(super) skew: Option<ClockSkew>,
    pub(super) closing: Option<String>,
}

/// The id of the newest trimmed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trimmed {
    /// Its sequence; the base of the stream while no message is trimmed.
    pub(super) seq: u64,
    /// None while no message is trimmed, and where an earlier version did not store it.
    pub(super) millis: Option<u64>,
}

/// Ids further ahead of the clock than this, in milliseconds, come from a clock that was wrong.
const CLOCK_SKEW_TOLERANCE_MS: u64 = 60 * 1000;

/// Ids with later milliseconds than this come from a clock that was wrong.
pub(super) fn skew_threshold(now: u64) -> u64 {
    now.saturating_add(CLOCK_SKEW_TOLERANCE_MS)
}

/// Marks a stream whose ids are far ahead of the clock. Ids do not decrease within a stream, so that
/// their milliseconds do not show the age of its messages. This mark replaces them: messages up to `seq`
/// are older than `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockSkew {
    /// When the skew was detected, by the clock, in Unix milliseconds.
    pub(super) since: u64,
    /// The newest sequence of the stream at that time.
    pub(super) seq: u64,
}

impl StreamRow {
    /// A stream without messages, whose sequences continue after `base`.
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

    /// Reads the row of a stream. None if there is no such stream.
    pub(super) fn load(
        connection: &Connection,
        name: &StreamName,
    ) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT slot, generation, base, seq, millis, trimmed, trimmed_millis, count, bytes, \
                 keys, ahead_since, ahead_seq, closing FROM streams WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| {
                let skew = (optional_unsigned(row, 10)?, optional_unsigned(row, 11)?);
                Ok(Self {
                    slot: Slot(row.get(0)?),
                    generation: Generation(row.get(1)?),
                    base: unsigned(row, 2)?,
                    head: event_id(row, 3)?,
                    trimmed: Trimmed { seq: unsigned(row, 5)?, millis: optional_unsigned(row, 6)? },
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

    /// The row key of the message with this sequence.
    pub(super) fn row_key(&self, seq: u64) -> i64 {
        self.slot.row_key(seq.saturating_sub(self.base))
    }

    /// Whether the ids are far ahead of the clock: it was wrong earlier, or is wrong now.
    pub(super) fn is_ahead_of_clock(&self, now: u64) -> bool {
        self.head.millis > skew_threshold(now)
    }

    /// The sequence up to which messages have expired, regardless of their ids. None without clock skew.
    pub(super) fn expired_seq(&self, now: u64, cutoff: u64) -> Option<u64> {
        let skew = self.skew.filter(|skew| self.is_ahead_of_clock(now) && skew.since < cutoff);
        skew.map(|skew| skew.seq)
    }

    fn end(&self) -> Option<Message> {
        self.closing.clone().map(|data| Message { id: self.head, data })
    }

    /// Resolves a cursor to the sequence after which a range begins, or before which it ends.
    fn locate(
        &self,
        tx: &Transaction<'_>,
        cursor: ReadCursor,
    ) -> rusqlite::Result<Result<u64, ReadError>> {
        Ok(match cursor {
            ReadCursor::Earliest => Ok(self.trimmed.seq),
            // Before the end, which is not a message: a reader that begins here still receives it.
            ReadCursor::Latest if self.closing.is_some() => Ok(self.head.seq.saturating_sub(1)),
            ReadCursor::Latest => Ok(self.head.seq),
            ReadCursor::Id(id) if self.is_known_id(tx, id)? => Ok(id.seq),
            ReadCursor::Id(_) => Err(ReadError::UnknownCursor),
            // Before the first message.
            ReadCursor::Position(Position { generation: None, .. })
                if self.trimmed.seq == self.base =>
            {
                Ok(self.base)
            }
            ReadCursor::Position(Position { generation: Some(generation), .. })
                if generation != self.generation =>
            {
                Err(ReadError::UnknownCursor)
            }
            ReadCursor::Position(Position { seq, .. }) if seq >= self.trimmed.seq => Ok(seq),
            ReadCursor::Position(_) => Err(ReadError::Trimmed),
        })
    }

    /// Whether this is a valid cursor, after which no message is missing: the id of a message, of the
    /// end, or of the newest trimmed message.
    fn is_known_id(&self, tx: &Transaction<'_>, id: EventId) -> rusqlite::Result<bool> {
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

/// Reads a page of messages.
pub(super) fn page(
    connection: &mut Connection,
    name: &StreamName,
    range: Range,
    bound: Bound,
) -> rusqlite::Result<Result<MessagePage, ReadError>> {
    let tx = connection.transaction()?;
    let Some(stream) = StreamRow::load(&tx, name)? else { return Ok(Err(ReadError::NoStream)) };
    let (Range::After(cursor) | Range::Before(cursor)) = range;
    let from = match stream.locate(&tx, cursor)? {
        Ok(from) => from,
        Err(error) => return Ok(Err(error)),
    };
    let (messages, more) = match range {
        Range::After(_) => messages_after(&tx, &stream, from, bound)?,
        // Includes the newest message.
        Range::Before(ReadCursor::Latest) => messages_before(&tx, &stream, from + 1, bound)?,
        Range::Before(_) => messages_before(&tx, &stream, from, bound)?,
    };
    let seq = match messages.last() {
        Some(last) if more => last.id.seq,
        _ => stream.head.seq.max(from),
    };
    let position = Position { generation: Some(stream.generation), seq };
    Ok(Ok(MessagePage { messages, more, position, head: stream.head, end: stream.end() }))
}

pub(super) fn messages_after(
    tx: &Transaction<'_>,
    stream: &StreamRow,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT key, millis, data FROM messages WHERE key > ?1 AND key <= ?2 ORDER BY key",
    )?;
    collect_rows(stream, select.query((stream.row_key(seq), stream.slot.end()))?, bound)
}

fn messages_before(
    tx: &Transaction<'_>,
    stream: &StreamRow,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT key, millis, data FROM messages WHERE key < ?1 AND key > ?2 ORDER BY key DESC",
    )?;
    let rows = select.query((stream.row_key(seq), stream.slot.start()))?;
    let (mut messages, more) = collect_rows(stream, rows, bound)?;
    messages.reverse();
    Ok((messages, more))
}

/// Reads as many rows as the bound allows; returns whether there are more.
fn collect_rows(
    stream: &StreamRow,
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

/// The position after the newest message of a stream, or after its end.
pub(super) fn position(connection: &Connection, name: &StreamName) -> rusqlite::Result<Position> {
    let stream = StreamRow::load(connection, name)?;
    Ok(stream.map_or(Position::NO_STREAM, |stream| Position {
        generation: Some(stream.generation),
        seq: stream.head.seq,
    }))
}

/// Characters of the last message that the list of streams returns.
const PREVIEW_CHARS: i64 = 200;

/// Lists at most `max` streams, newest activity first.
pub(super) fn streams(
    connection: &mut Connection,
    max: usize,
) -> rusqlite::Result<Vec<StreamInfo>> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let tx = connection.transaction()?;
    // Sorted before the texts are read, with one seek for each listed stream.
    let mut select = tx.prepare_cached(
        "SELECT slot, base, name, count, seq, millis, substr(closing, 1, ?2) FROM streams \
         ORDER BY millis DESC, name LIMIT ?1",
    )?;
    let mut select_text =
        tx.prepare_cached("SELECT substr(data, 1, ?2) FROM messages WHERE key = ?1")?;
    let mut rows = select.query((max, PREVIEW_CHARS))?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let (slot, base, id) = (Slot(row.get(0)?), unsigned(row, 1)?, event_id(row, 4)?);
        let closing: Option<String> = row.get(6)?;
        let ended = closing.is_some();
        let last = if ended {
            closing
        } else {
            let key = slot.row_key(id.seq.saturating_sub(base));
            select_text.query_row((key, PREVIEW_CHARS), |row| row.get(0)).optional()?
        };
        // A row with an invalid name was not written by this server.
        let Ok(name) = row.get::<_, String>(2)?.parse() else { continue };
        let last = last.map(|data| Message { id, data });
        listed.push(StreamInfo { name, messages: unsigned(row, 3)?, ended, last });
    }
    Ok(listed)
}

/// Number of streams, and of their messages.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached("SELECT count(*), coalesce(sum(count), 0) FROM streams")?
        .query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
}

fn event_id(row: &Row<'_>, first: usize) -> rusqlite::Result<EventId> {
    Ok(EventId { seq: unsigned(row, first)?, millis: unsigned(row, first + 1)? })
}

/// Reads an integer that is never negative; those of `SQLite` are signed.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn optional_unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(column).map(|number| number.map(i64::unsigned_abs))
}

/// Converts to a signed integer. A number that is too large becomes the largest one.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The time of `age` ago, in Unix milliseconds.
pub(super) fn time_before(now: u64, age: Duration) -> u64 {
    now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
