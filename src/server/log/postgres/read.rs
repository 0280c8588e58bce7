//! Reads: pages of messages and the list of streams, each one statement and so from one snapshot.

use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

use super::{feed::Delivered, session::Session};
use crate::{
    message::Message,
    server::log::{
        Bound, EventId, Generation, MessagePage, Position, Range, ReadCursor, ReadError,
        StreamInfo, StreamName,
    },
};

/// Characters of the last message that the list of streams returns.
const PREVIEW_CHARS: usize = 200;

/// The columns of `streams`, in the order of [`StreamRow::of`].
pub(super) const STREAM_COLUMNS: &str =
    "stream, generation, base, seq, millis, trimmed, trimmed_millis, count, bytes, keys, closing";

/// A row of `streams`.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    /// The key of its messages.
    pub(super) stream: i64,
    pub(super) generation: Generation,
    /// The sequence before the first one.
    pub(super) base: u64,
    /// The id of the newest message, or of the end.
    pub(super) head: EventId,
    /// The sequence of the newest trimmed message, or the base; and its milliseconds.
    pub(super) trimmed: u64,
    pub(super) trimmed_millis: Option<u64>,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Number of idempotency keys.
    pub(super) keys: u64,
    pub(super) closing: Option<String>,
}

impl StreamRow {
    /// A stream without messages, whose sequences continue after `base`.
    pub(super) fn new(stream: i64, base: u64) -> Self {
        Self {
            stream,
            generation: Generation(stream),
            base,
            head: EventId { millis: 0, seq: base },
            trimmed: base,
            trimmed_millis: None,
            count: 0,
            bytes: 0,
            keys: 0,
            closing: None,
        }
    }

    /// Reads [`STREAM_COLUMNS`] from the column `first` on.
    pub(super) fn of(row: &Row, first: usize) -> Result<Self, Error> {
        let closing: Option<Vec<u8>> = row.try_get(first + 10)?;
        Ok(Self {
            stream: row.try_get(first)?,
            generation: Generation(row.try_get(first + 1)?),
            base: unsigned(row, first + 2)?,
            head: EventId { seq: unsigned(row, first + 3)?, millis: unsigned(row, first + 4)? },
            trimmed: unsigned(row, first + 5)?,
            trimmed_millis: row.try_get::<_, Option<i64>>(first + 6)?.map(i64::unsigned_abs),
            count: unsigned(row, first + 7)?,
            bytes: unsigned(row, first + 8)?,
            keys: unsigned(row, first + 9)?,
            closing: closing.map(text),
        })
    }

    /// The sequence of the newest message; that of the end is not one.
    fn newest(&self) -> u64 {
        if self.closing.is_some() { self.head.seq.saturating_sub(1) } else { self.head.seq }
    }

    fn end(&self) -> Option<Message> {
        self.closing.clone().map(|data| Message { id: self.head, data })
    }

    /// Whether this is the id of a message, of the end, or of the newest trimmed message.
    /// `stored_millis` are those of the message with its sequence.
    fn is_known(&self, id: EventId, stored_millis: Option<u64>) -> bool {
        id == self.head
            || (id.seq == self.trimmed && self.trimmed_millis == Some(id.millis))
            || stored_millis == Some(id.millis)
    }

    /// Resolves a cursor to the sequence after which a range begins, or before which it ends.
    /// `stored_millis` are those of the message with the sequence of the cursor.
    fn locate(&self, cursor: ReadCursor, stored_millis: Option<u64>) -> Result<u64, ReadError> {
        match cursor {
            ReadCursor::Earliest => Ok(self.trimmed),
            // Before the end, which is not a message: a reader that begins here still receives it.
            ReadCursor::Latest => Ok(self.newest()),
            ReadCursor::Id(id) if self.is_known(id, stored_millis) => Ok(id.seq),
            ReadCursor::Id(_) => Err(ReadError::UnknownCursor),
            // Before the first message.
            ReadCursor::Position(Position { generation: None, .. })
                if self.trimmed == self.base =>
            {
                Ok(self.base)
            }
            ReadCursor::Position(Position { generation: Some(generation), .. })
                if generation != self.generation =>
            {
                Err(ReadError::UnknownCursor)
            }
            ReadCursor::Position(Position { seq, .. }) if seq >= self.trimmed => Ok(seq),
            ReadCursor::Position(_) => Err(ReadError::Trimmed),
        }
    }
}

/// A read ends on the side of the database too, soon after its caller has given up. What these sessions
/// write need not be durable, and must not wait for the standby. Plans are made for each statement: cached
/// ones may be from the time when the tables were small. Messages are read in the order of their index:
/// without statistics, as after a burst, the database would rather sort a whole stream for each page.
const SETTINGS: &str = "
    SET statement_timeout = 6000;
    SET lock_timeout = 3000;
    SET synchronous_commit = off;
    SET plan_cache_mode = force_custom_plan;
    SET jit = off;
    SET enable_bitmapscan = off;
    SET enable_sort = off;
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;";

/// What follows the message that was delivered last.
pub(super) enum NextPage {
    Read(Result<MessagePage, ReadError>),
    /// That message is not in the log: a promoted standby had not received it.
    Lost,
}

/// The statements of a session that reads.
pub(super) struct Reader {
    session: Session,
    page_after: Statement,
    page_before: Statement,
    heads: Statement,
    streams: Statement,
}

impl Reader {
    pub(super) async fn new(session: Session) -> Result<Self, Error> {
        session.client.batch_execute(SETTINGS).await?;
        session.detect_lost_client().await;
        let (after, before, streams) = (page_query(true), page_query(false), list_query());
        let statements = [after.as_str(), &before, HEADS, &streams];
        let [page_after, page_before, heads, streams] = session.prepare(statements).await?;
        Ok(Self { session, page_after, page_before, heads, streams })
    }

    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// Whether the session is open, and of a server that was not replaced.
    pub(super) fn is_usable(&self) -> bool {
        !self.client().is_closed() && self.session.is_current()
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.session.client
    }

    /// Reads a page of messages.
    pub(super) async fn page(
        &self,
        name: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<Result<MessagePage, ReadError>, Error> {
        let (Range::After(cursor) | Range::Before(cursor)) = range;
        let is_after = matches!(range, Range::After(_));
        // No message is at the sequences -1 and MAX.
        let from = match cursor {
            // The base of a stream that may not exist yet is not known here.
            ReadCursor::Earliest | ReadCursor::Position(Position { generation: None, .. }) => -1,
            ReadCursor::Latest => i64::MAX,
            ReadCursor::Id(id) => signed(id.seq),
            ReadCursor::Position(position) => signed(position.seq),
        };
        let statement = if is_after { &self.page_after } else { &self.page_before };
        let rows = self.query_page(statement, name, from, bound).await?;
        let (stream, messages) = rows_of(&rows)?;
        Ok(match stream {
            None => Err(ReadError::NoStream),
            Some((stream, stored_millis)) => {
                page_of(&stream, stored_millis, messages, cursor, is_after)
            }
        })
    }

    async fn query_page(
        &self,
        statement: &Statement,
        name: &StreamName,
        seq: i64,
        bound: Bound,
    ) -> Result<Vec<Row>, Error> {
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &seq, &limit(bound.messages), &limit(bound.bytes)];
        self.client().query(statement, &parameters).await
    }

    /// Reads what follows the message that was delivered last.
    pub(super) async fn page_after(
        &self,
        name: &StreamName,
        delivered: Delivered,
        bound: Bound,
    ) -> Result<NextPage, Error> {
        let Delivered { position, millis } = delivered;
        let seq = if position.generation.is_some() { signed(position.seq) } else { -1 };
        let rows = self.query_page(&self.page_after, name, seq, bound).await?;
        let (stream, messages) = rows_of(&rows)?;
        let Some((stream, stored_millis)) = stream else {
            return Ok(NextPage::Read(Err(ReadError::NoStream)));
        };
        let is_same = position.generation == Some(stream.generation);
        let id = EventId { millis, seq: position.seq };
        if is_same && position.seq >= stream.trimmed && !stream.is_known(id, stored_millis) {
            return Ok(NextPage::Lost);
        }
        let cursor = ReadCursor::Position(position);
        Ok(NextPage::Read(page_of(&stream, stored_millis, messages, cursor, true)))
    }

    /// The newest ids of streams, or those of their ends; of those that exist.
    pub(super) async fn heads(
        &self,
        names: &[&str],
    ) -> Result<Vec<(StreamName, Delivered)>, Error> {
        let rows = self.client().query(&self.heads, &[&names]).await?;
        let mut heads = Vec::with_capacity(rows.len());
        for row in &rows {
            let generation = Some(Generation(row.try_get(1)?));
            let position = Position { generation, seq: unsigned(row, 2)? };
            // A row with an invalid name was not written by this program.
            if let Ok(name) = row.try_get::<_, &str>(0)?.parse() {
                heads.push((name, Delivered { position, millis: unsigned(row, 3)? }));
            }
        }
        Ok(heads)
    }

    /// Lists at most `max` streams, newest activity first.
    pub(super) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, Error> {
        let rows = self.client().query(&self.streams, &[&limit(max)]).await?;
        let mut listed = Vec::with_capacity(rows.len());
        for row in &rows {
            let Ok(name) = row.try_get::<_, &str>(0)?.parse() else { continue };
            let id = EventId { seq: unsigned(row, 1)?, millis: unsigned(row, 2)? };
            let last = row.try_get::<_, Option<Vec<u8>>>(5)?.map(|data| {
                let data = text(data).chars().take(PREVIEW_CHARS).collect();
                Message { id, data }
            });
            let (messages, ended) = (unsigned(row, 3)?, row.try_get(4)?);
            listed.push(StreamInfo { name, messages, ended, last });
        }
        Ok(listed)
    }
}

/// The newest ids of streams.
const HEADS: &str =
    "SELECT name, generation, seq, millis FROM tidings.streams WHERE name = ANY($1)";

/// The stream in a first row, and its messages on one side of a sequence in further ones, which have
/// no generation.
fn page_query(is_after: bool) -> String {
    // Rows up to `trimmed` may still be in the index until they are vacuumed.
    let (range, order) =
        if is_after { ("> greatest($2, s.trimmed)", "ASC") } else { ("< $2", "DESC") };
    format!(
        "WITH s AS MATERIALIZED (SELECT * FROM tidings.streams WHERE name = $1)
         SELECT {STREAM_COLUMNS}, (SELECT m.millis FROM tidings.messages m
                                   WHERE m.stream = s.stream AND m.seq = $2) FROM s
         UNION ALL
         SELECT NULL, NULL, NULL, m.seq, m.millis, NULL, NULL, NULL, NULL, NULL, m.data, NULL
         FROM s CROSS JOIN LATERAL (
             SELECT seq, millis, data,
                    sum(octet_length(data)) OVER (ORDER BY seq {order}) - octet_length(data) AS before
             FROM (SELECT seq, millis, data FROM tidings.messages
                   WHERE stream = s.stream AND seq {range} ORDER BY seq {order} LIMIT $3) nearest
         ) m WHERE m.before < $4"
    )
}

/// The text of the last message is cut to what may be needed for the preview: a character has up to
/// four bytes.
fn list_query() -> String {
    let max = PREVIEW_CHARS * 4;
    format!(
        "SELECT name, seq, millis, count, closing IS NOT NULL, substring(coalesce(closing,
             (SELECT data FROM tidings.messages m WHERE m.stream = s.stream AND m.seq = s.seq))
             FOR {max})
         FROM tidings.streams s ORDER BY millis DESC, name LIMIT $1"
    )
}

/// The stream and the messages in the rows of a page query; the stream with the milliseconds of the
/// message at the sequence that was asked for.
type PageRows = (Option<(StreamRow, Option<u64>)>, Vec<Message>);

fn rows_of(rows: &[Row]) -> Result<PageRows, Error> {
    let mut stream = None;
    let mut messages = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<_, Option<i64>>(0)?.is_some() {
            let stored_millis = row.try_get::<_, Option<i64>>(11)?.map(i64::unsigned_abs);
            stream = Some((StreamRow::of(row, 0)?, stored_millis));
        } else {
            let id = EventId { seq: unsigned(row, 3)?, millis: unsigned(row, 4)? };
            messages.push(Message { id, data: text(row.try_get(10)?) });
        }
    }
    messages.sort_unstable_by_key(|message: &Message| message.id.seq);
    Ok((stream, messages))
}

/// Builds a page.
fn page_of(
    stream: &StreamRow,
    stored_millis: Option<u64>,
    messages: Vec<Message>,
    cursor: ReadCursor,
    is_after: bool,
) -> Result<MessagePage, ReadError> {
    let from = stream.locate(cursor, stored_millis)?;
    let more = match (messages.first(), messages.last()) {
        (Some(first), Some(last)) => {
            if is_after {
                last.id.seq < stream.newest()
            } else {
                first.id.seq > stream.trimmed + 1
            }
        }
        _ => false,
    };
    let seq = match messages.last() {
        Some(last) if more => last.id.seq,
        _ => stream.head.seq.max(from),
    };
    let position = Position { generation: Some(stream.generation), seq };
    let end = stream.end();
    Ok(MessagePage { messages, more, position, head: stream.head, end })
}

/// Reads an integer that is never negative; those of `PostgreSQL` are signed.
pub(super) fn unsigned(row: &Row, column: usize) -> Result<u64, Error> {
    row.try_get::<_, i64>(column).map(i64::unsigned_abs)
}

/// Converts to a signed integer. A number that is too large becomes the largest one.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored text. It was UTF-8 when it was stored; a preview may be cut within a character.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
