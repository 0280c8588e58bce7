//! Copies: reads the store in a database for a copy, or writes a copy into a database.
//!
//! A copy holds an advisory lock, so that no server starts meanwhile. The store of an unfinished copy has
//! the negative version, which servers refuse.

use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Row, Statement, error::SqlState, types::ToSql};

use super::{
    durability::Durability,
    options::PostgresOptions,
    read::{STREAM_COLUMNS, StreamRow, signed, unsigned},
    schema::{self, COPY_LOCK},
    session::{Connector, Session},
};
use crate::{
    message::{EventId, Message, StreamName},
    server::log::copied::{
        CopiedKey, CopiedStream, KEYS_PER_PAGE, PAGE, STREAMS_PER_PAGE, StoreCounters,
        StreamCounts, StreamPart,
    },
};

/// How long sessions of a server or of a copy that has just ended may take to end too.
const END_TIMEOUT: Duration = Duration::from_secs(3);
const END_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The store in a database that is copied, or becomes a copy.
pub(crate) struct PostgresCopy {
    session: Session,
    streams: Statement,
    messages: Statement,
    keys: Statement,
}

impl PostgresCopy {
    /// Opens a database to read its store.
    ///
    /// # Errors
    /// When it cannot be reached, has no store of this version, or a server uses it.
    pub(crate) async fn open_source(options: PostgresOptions) -> anyhow::Result<Self> {
        let mut session = open(options).await?;
        ensure!(version(&session).await?.is_some(), "the database holds no store");
        schema::prepare(&mut session.client).await?;
        Self::new(session).await
    }

    /// Opens a database to write a copy into it, or to go on with an unfinished one.
    ///
    /// # Errors
    /// When it cannot be reached, holds a store already, or a server uses it.
    pub(crate) async fn open_target(options: PostgresOptions) -> anyhow::Result<Self> {
        let mut session = open(options).await?;
        if version(&session).await? != Some(schema::UNFINISHED_VERSION) {
            schema::prepare(&mut session.client).await?;
            let is_used = "SELECT generation <> 0 OR sequence <> 0 \
                           OR EXISTS (SELECT FROM tidings.streams) FROM tidings.store";
            let is_used: bool = session.client.query_one(is_used, &[]).await?.try_get(0)?;
            ensure!(!is_used, "the database holds a store; copy to another one");
            let unfinished = schema::UNFINISHED_VERSION;
            session.client.execute("UPDATE tidings.store SET version = $1", &[&unfinished]).await?;
        }
        Self::new(session).await
    }

    async fn new(session: Session) -> anyhow::Result<Self> {
        let client = &session.client;
        let streams = format!(
            "SELECT name, {STREAM_COLUMNS} FROM tidings.streams WHERE name > $1 ORDER BY name LIMIT $2"
        );
        let streams = client.prepare(&streams).await?;
        let messages = client
            .prepare(
                "SELECT seq, millis, data FROM (
                     SELECT seq, millis, data,
                            sum(octet_length(data)) OVER (ORDER BY seq) - octet_length(data) AS before
                     FROM (SELECT seq, millis, data FROM tidings.messages
                           WHERE stream = $1 AND seq > $2 ORDER BY seq LIMIT $3) next
                 ) m WHERE before < $4 ORDER BY seq",
            )
            .await?;
        let keys = client
            .prepare(
                "SELECT seq, millis, name, digest, used FROM tidings.keys \
                 WHERE stream = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            )
            .await?;
        Ok(Self { session, streams, messages, keys })
    }

    pub(crate) async fn counters(&self) -> anyhow::Result<StoreCounters> {
        let select = "SELECT generation, sequence FROM tidings.store";
        let row = self.session.client.query_one(select, &[]).await?;
        Ok(StoreCounters { generation: row.try_get(0)?, sequence: unsigned(&row, 1)? })
    }

    /// Number of messages.
    pub(crate) async fn messages_total(&self) -> anyhow::Result<u64> {
        let select = "SELECT coalesce(sum(count), 0)::bigint FROM tidings.streams";
        Ok(unsigned(&self.session.client.query_one(select, &[]).await?, 0)?)
    }

    /// The next streams in the order of their names, with what the database says that it has of them.
    pub(crate) async fn streams(
        &self,
        after: Option<&StreamName>,
    ) -> anyhow::Result<Vec<(CopiedStream, StreamCounts)>> {
        let after = after.map_or("", StreamName::as_str);
        let limit = i64::from(STREAMS_PER_PAGE);
        let rows = self.session.client.query(&self.streams, &[&after, &limit]).await?;
        rows.iter().map(stream).collect()
    }

    /// The next messages after a sequence.
    pub(crate) async fn messages(
        &self,
        stream: &CopiedStream,
        after: u64,
    ) -> anyhow::Result<Vec<Message>> {
        let limits = (signed(PAGE.messages as u64), signed(PAGE.bytes as u64));
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&stream.number, &signed(after), &limits.0, &limits.1];
        let rows = self.session.client.query(&self.messages, &parameters).await?;
        let message = |row: &Row| {
            let id = event_id(row)?;
            let data = String::from_utf8(row.try_get(2)?)
                .map_err(|_| anyhow!("the message {id} of {} is not UTF-8", stream.name))?;
            Ok(Message { id, data })
        };
        rows.iter().map(message).collect()
    }

    /// The next idempotency keys, of messages after a sequence.
    pub(crate) async fn keys(
        &self,
        stream: &CopiedStream,
        after: u64,
    ) -> anyhow::Result<Vec<CopiedKey>> {
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&stream.number, &signed(after), &i64::from(KEYS_PER_PAGE)];
        let rows = self.session.client.query(&self.keys, &parameters).await?;
        let key = |row: &Row| {
            let hash = |column| {
                let bytes: &[u8] = row.try_get(column)?;
                bytes.try_into().map_err(|_| anyhow!("a key of {} has no hash", stream.name))
            };
            let (name, digest) = (hash(2)?, hash(3)?);
            Ok(CopiedKey { name, last: event_id(row)?, digest, used: unsigned(row, 4)? })
        };
        rows.iter().map(key).collect()
    }

    /// The sequences of the newest message and of the newest idempotency key, 0 without one.
    pub(crate) async fn newest(&self, stream: &CopiedStream) -> anyhow::Result<(u64, u64)> {
        let select = "SELECT \
            coalesce((SELECT max(seq) FROM tidings.messages WHERE stream = $1), 0), \
            coalesce((SELECT max(seq) FROM tidings.keys WHERE stream = $1), 0)";
        let row = self.session.client.query_one(select, &[&stream.number]).await?;
        Ok((unsigned(&row, 0)?, unsigned(&row, 1)?))
    }

    /// Stores parts, each of another stream, in one transaction.
    pub(crate) async fn write(&mut self, parts: &[StreamPart]) -> anyhow::Result<()> {
        let tx = self.session.client.transaction().await?;
        let column = |value: fn(&StreamPart) -> i64| parts.iter().map(value).collect::<Vec<i64>>();
        tx.execute(
            INSERT_STREAMS,
            &[
                &parts.iter().map(|part| part.stream.name.as_str()).collect::<Vec<_>>(),
                &column(|part| part.stream.number),
                &column(|part| signed(part.stream.base)),
                &column(|part| signed(part.stream.head.seq)),
                &column(|part| signed(part.stream.head.millis)),
                &column(|part| signed(part.stream.trimmed)),
                &parts
                    .iter()
                    .map(|part| part.stream.trimmed_millis.map(signed))
                    .collect::<Vec<_>>(),
                &column(|part| signed(part.counts().messages)),
                &column(|part| signed(part.counts().bytes)),
                &column(|part| signed(part.counts().keys)),
                &parts
                    .iter()
                    .map(|part| part.stream.closing.as_deref().map(str::as_bytes))
                    .collect::<Vec<_>>(),
            ],
        )
        .await?;
        for StreamPart { stream, messages, keys } in parts {
            if !messages.is_empty() {
                tx.execute(
                    INSERT_MESSAGES,
                    &[
                        &stream.number,
                        &messages.iter().map(|message| signed(message.id.seq)).collect::<Vec<_>>(),
                        &messages
                            .iter()
                            .map(|message| signed(message.id.millis))
                            .collect::<Vec<_>>(),
                        &messages.iter().map(|message| message.data.as_bytes()).collect::<Vec<_>>(),
                    ],
                )
                .await?;
            }
            if !keys.is_empty() {
                tx.execute(
                    INSERT_KEYS,
                    &[
                        &stream.number,
                        &keys.iter().map(|key| key.name.as_slice()).collect::<Vec<_>>(),
                        &keys.iter().map(|key| signed(key.last.seq)).collect::<Vec<_>>(),
                        &keys.iter().map(|key| signed(key.last.millis)).collect::<Vec<_>>(),
                        &keys.iter().map(|key| key.digest.as_slice()).collect::<Vec<_>>(),
                        &keys.iter().map(|key| signed(key.used)).collect::<Vec<_>>(),
                    ],
                )
                .await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Checks again that no server uses the database: one may have been without a session before.
    pub(crate) async fn refuse_servers(&self) -> anyhow::Result<()> {
        refuse_servers(&self.session).await
    }

    /// Makes the copy a store that servers use.
    pub(crate) async fn finish(self, counters: StoreCounters) -> anyhow::Result<()> {
        let update = "UPDATE tidings.store SET version = $1, generation = $2, sequence = $3, \
                      streams = (SELECT count(*) FROM tidings.streams)";
        let StoreCounters { generation, sequence } = counters;
        let client = &self.session.client;
        client.execute(update, &[&schema::VERSION, &generation, &signed(sequence)]).await?;
        Ok(())
    }
}

/// Adds to the counts of a stream that is there.
const INSERT_STREAMS: &str = "
    INSERT INTO tidings.streams AS s (name, stream, generation, base, seq, millis, trimmed,
                                      trimmed_millis, count, bytes, keys, closing)
    SELECT name, stream, stream, base, seq, millis, trimmed, trimmed_millis, count, bytes, keys, closing
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[])
         AS part (name, stream, base, seq, millis, trimmed, trimmed_millis, count, bytes, keys, closing)
    ON CONFLICT (stream) DO UPDATE SET count = s.count + excluded.count,
        bytes = s.bytes + excluded.bytes, keys = s.keys + excluded.keys";
const INSERT_MESSAGES: &str = "
    INSERT INTO tidings.messages (stream, seq, millis, data)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bytea[])";
const INSERT_KEYS: &str = "
    INSERT INTO tidings.keys (stream, name, seq, millis, digest, used)
    SELECT $1, * FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[])";

/// A copy waits for a lock of a copy that was interrupted. What it commits is as durable as what a server
/// commits. The database notices soon when the machine of the copy is lost.
const SETTINGS: &str = "
    SET client_min_messages = warning;
    SET statement_timeout = 0;
    SET lock_timeout = 3000;
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');";

/// Opens a session that excludes servers and other copies.
async fn open(options: PostgresOptions) -> anyhow::Result<Session> {
    let connector = Connector::new(options, || {})?;
    let session = connector.connect("tidings copy", None).await?;
    let client = &session.client;
    client.batch_execute(SETTINGS).await?;
    Durability::of(client).await?.check(connector.options())?;
    if let Err(error) = client.execute("SELECT pg_advisory_lock($1)", &[&COPY_LOCK]).await {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            bail!("another `tidings copy` uses the database");
        }
        return Err(error.into());
    }
    // With the lock: a server that has no session yet will see it.
    refuse_servers(&session).await?;
    Ok(session)
}

/// Refuses a database that a server uses.
async fn refuse_servers(session: &Session) -> anyhow::Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        let select = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND (application_name = 'tidings' \
                      OR application_name LIKE 'tidings writer %')";
        let servers: i64 = session.client.query_one(select, &[]).await?.try_get(0)?;
        if servers == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "a server uses the database; stop all of its servers first"
        );
        sleep(END_POLL_INTERVAL).await;
    }
}

/// The version of the store in the database, if there is one.
async fn version(session: &Session) -> anyhow::Result<Option<i32>> {
    let client = &session.client;
    let has_store = "SELECT to_regclass('tidings.store') IS NOT NULL";
    if !client.query_one(has_store, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    Ok(Some(client.query_one("SELECT version FROM tidings.store", &[]).await?.try_get(0)?))
}

fn stream(row: &Row) -> anyhow::Result<(CopiedStream, StreamCounts)> {
    let Ok(name) = row.try_get::<_, &str>(0)?.parse() else {
        bail!("the name of a stream is invalid");
    };
    let row = StreamRow::of(row, 1)?;
    let counts = StreamCounts { messages: row.count, bytes: row.bytes, keys: row.keys };
    let stream = CopiedStream {
        name,
        number: row.stream,
        base: row.base,
        head: row.head,
        trimmed: row.trimmed,
        trimmed_millis: row.trimmed_millis,
        closing: row.closing,
    };
    Ok((stream, counts))
}

/// The id in the first two columns of a row.
fn event_id(row: &Row) -> Result<EventId, tokio_postgres::Error> {
    Ok(EventId { seq: unsigned(row, 0)?, millis: unsigned(row, 1)? })
}
