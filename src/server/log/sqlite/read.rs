//! Reading: each read sees the store as it was at one moment.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::super::{
    Bound, EventId, Life, Listed, NotRead, Page, Place, Position, Range, StreamName,
};
use crate::message::Message;

/// A row of `streams`.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) life: Life,
    /// The id of the newest message, or of the end.
    pub(super) head: EventId,
    /// The sequence of the newest message that is not kept any more.
    pub(super) trimmed: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) closing: Option<String>,
}

impl Stream {
    pub(super) fn of(connection: &Connection, name: &StreamName) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT life, seq, millis, trimmed, count, bytes, closing FROM streams \
                 WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| {
                Ok(Self {
                    life: Life(row.get(0)?),
                    head: id(row, 1)?,
                    trimmed: unsigned(row, 3)?,
                    count: unsigned(row, 4)?,
                    bytes: unsigned(row, 5)?,
                    closing: row.get(6)?,
                })
            })
            .optional()
    }

    fn end(&self) -> Option<Message> {
        self.closing.clone().map(|data| Message { id: self.head, data })
    }

    /// The sequence after which a range begins, or before which it ends.
    fn locate(&self, tx: &Transaction<'_>, place: Place) -> rusqlite::Result<Option<u64>> {
        Ok(match place {
            Place::Earliest | Place::Position(Position { life: None, .. }) => Some(self.trimmed),
            // The end is no message: whoever begins there is still told of it.
            Place::Latest if self.closing.is_some() => Some(self.head.seq.saturating_sub(1)),
            Place::Latest => Some(self.head.seq),
            Place::Id(id) if id == self.head => Some(id.seq),
            Place::Id(id) => {
                let stored = tx
                    .prepare_cached("SELECT millis FROM messages WHERE life = ?1 AND seq = ?2")?
                    .query_row((self.life.0, signed(id.seq)), |row| unsigned(row, 0))
                    .optional()?;
                (stored == Some(id.millis)).then_some(id.seq)
            }
            Place::Position(Position { life: Some(life), seq }) => {
                (life == self.life && seq >= self.trimmed).then_some(seq)
            }
        })
    }
}

/// A page of messages.
pub(super) fn page(
    connection: &mut Connection,
    name: &StreamName,
    range: Range,
    bound: Bound,
) -> rusqlite::Result<Result<Page, NotRead>> {
    let tx = connection.transaction()?;
    let Some(stream) = Stream::of(&tx, name)? else { return Ok(Err(NotRead::NoStream)) };
    let (Range::After(place) | Range::Before(place)) = range;
    let Some(from) = stream.locate(&tx, place)? else {
        return Ok(Err(NotRead::UnknownPlace));
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
    let position = Position { life: Some(stream.life), seq };
    Ok(Ok(Page { messages, more, position, head: stream.head, end: stream.end() }))
}

fn after(
    tx: &Transaction<'_>,
    stream: &Stream,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT seq, millis, data FROM messages WHERE life = ?1 AND seq > ?2 ORDER BY seq",
    )?;
    take(select.query((stream.life.0, signed(seq)))?, bound)
}

fn before(
    tx: &Transaction<'_>,
    stream: &Stream,
    seq: u64,
    bound: Bound,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut select = tx.prepare_cached(
        "SELECT seq, millis, data FROM messages WHERE life = ?1 AND seq < ?2 ORDER BY seq DESC",
    )?;
    let (mut messages, more) = take(select.query((stream.life.0, signed(seq)))?, bound)?;
    messages.reverse();
    Ok((messages, more))
}

/// As many rows as the bound allows, and whether there are more.
fn take(mut rows: rusqlite::Rows<'_>, bound: Bound) -> rusqlite::Result<(Vec<Message>, bool)> {
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if messages.len() >= bound.messages || bytes >= bound.bytes {
            return Ok((messages, true));
        }
        let data: String = row.get(2)?;
        bytes += data.len();
        let id = EventId { seq: unsigned(row, 0)?, millis: unsigned(row, 1)? };
        messages.push(Message { id, data });
    }
    Ok((messages, false))
}

/// How many characters of its last message the list of streams shows.
const PART: i64 = 200;

/// The streams there are, newest activity first.
pub(super) fn streams(connection: &mut Connection, most: usize) -> rusqlite::Result<Vec<Listed>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(
        "SELECT name, count, substr(closing, 1, ?2), s.seq, s.millis, substr(data, 1, ?2) \
         FROM streams s \
         LEFT JOIN messages m ON m.life = s.life AND m.seq = s.seq \
         ORDER BY s.millis DESC, name LIMIT ?1",
    )?;
    let rows = select.query_map((most, PART), |row| {
        let name: String = row.get(0)?;
        let closing: Option<String> = row.get(2)?;
        let last = match (&closing, row.get(5)?) {
            (Some(text), _) => Some(text.clone()),
            (None, data) => data,
        };
        let id = id(row, 3)?;
        // What is stored under a name that can not be a stream's is not ours to show.
        Ok(name.parse().ok().map(|name| Listed {
            name,
            messages: unsigned(row, 1).unwrap_or_default(),
            ended: closing.is_some(),
            last: last.map(|data| Message { id, data }),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
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

/// Larger than `SQLite` can hold is larger than anything it holds.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
