//! The `PostgreSQL` engine: the log in a database that several servers share.
//!
//! Every server writes, reads and follows; none of them is special. The row of a stream is locked by
//! the transaction that appends to it until its COMMIT, so that sequences have no gaps and no reader
//! skips a message that is committed later. A lost or changed connection costs time, never a message.
//!
//! - `options`, `session`: where the database is; connections to the server that accepts writes
//! - `schema`, `durability`: the tables; what an acknowledgement is worth
//! - `write`, `batch`: the writer, a transaction
//! - `read`, `pool`: pages of messages, the list of streams; the sessions that read
//! - `feed`, `listen`: fan-out of stored changes, of this server and of the others
//! - `copy`: reads or writes a store for a copy
//! - `retention`, `watchers`, `health`: removal of old messages; watchers of all servers; health

mod batch;
mod copy;
mod durability;
mod feed;
mod health;
mod listen;
mod options;
mod pool;
mod read;
mod retention;
mod schema;
mod session;
mod statements;
mod watchers;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

pub(super) use self::copy::PostgresCopy;
pub(crate) use self::options::{PostgresOptions, PostgresTls};
use self::{
    batch::{GroupId, Operation, Outcome},
    feed::{Beginning, Delivered, Feed},
    health::Health,
    listen::Listener,
    pool::Readers,
    session::Connector,
    write::{Command, UNREACHABLE, WriteSession, Writer},
};
use super::{
    ActivityListener, AppendError, Appended, Bound, EventId, Follow, Freshness, FreshnessSender,
    IdempotencyKey, MessagePage, MessageText, Range, ReadCursor, ReadError, RetentionLimits,
    StreamInfo, StreamName, Supervisor,
    metrics::{EngineMetrics, LogStats},
};

/// Capacity of the writer's queue, in commands. Further senders wait.
const COMMAND_CAPACITY: usize = 1024;
/// Approximate size of a message in a transaction beside its text, in bytes.
const ROW_OVERHEAD_BYTES: usize = 64;
/// How long the database may take to be ready for this server.
const START_TIMEOUT: Duration = Duration::from_secs(40);
/// How long this server waits at its end to be forgotten by the others.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason of errors after the log was closed.
const CLOSED: &str = "the store is closed";

/// A handle to the engine, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    /// A random number that identifies this process.
    server: i64,
    writer: Arc<Mutex<Option<mpsc::Sender<Command>>>>,
    /// The writer task, until the log is closed.
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    readers: Readers,
    feed: Feed,
    health: Health,
    freshness: Freshness,
    metrics: EngineMetrics,
    /// Wakes the sweep after a deletion.
    deleted: Arc<Notify>,
}

impl Postgres {
    pub(super) async fn open(
        options: PostgresOptions,
        limits: RetentionLimits,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let server = fastrand::i64(1..);
        let feed = Feed::default();
        let doubted = feed.clone();
        let connector = Connector::new(options, move || doubted.doubt())?;
        let group = GroupId { server, number: 0 };
        let readers = Readers::new(connector.clone())?;
        let (health, metrics) = (Health::default(), EngineMetrics::default());
        let stale = FreshnessSender::default();
        let freshness = stale.subscribe();
        let listener = Listener {
            connector: connector.clone(),
            server,
            feed: feed.clone(),
            freshness: stale,
            tested: Arc::default(),
        };
        let starting = async {
            let mut session = connector.connect("tidings", None).await?;
            schema::prepare(&mut session.client).await.map_err(describe_database_error)?;
            let first = WriteSession::begin(&connector, group).await?;
            // Not before: `tidings copy` sees a server by one of its sessions.
            drop(session);
            first.durability().await?.log();
            let listening = listener.open().await.context("cannot listen for notifications")?;
            listener.test(&readers).await?;
            anyhow::Ok((first, listening))
        };
        let (first, listening) = timeout(START_TIMEOUT, starting).await.map_err(|_| {
            anyhow!("the database does not answer, or its commits wait for a standby that is away")
        })??;
        supervisor.spawn("listener of the database", listener.run(listening));
        let delivering = listen::deliver_marked(feed.clone(), readers.clone());
        supervisor.spawn("delivery of the changes of other servers", delivering);
        let deleted = Arc::<Notify>::default();
        let sweep = retention::sweep(readers.clone(), limits, Arc::clone(&deleted));
        supervisor.spawn("sweep of old messages", sweep);

        let writer = Writer {
            connector,
            server,
            limits,
            feed: feed.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            group: 0,
            stored: 0,
            unresolved: None,
            left_over: None,
            was_refused: false,
        };
        let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        // It returns when the log is closed.
        let task = supervisor.spawn_abortable("store-writer", writer.run(first, commands));
        Ok(Self {
            server,
            writer: Arc::new(Mutex::new(Some(sender))),
            task: Arc::new(Mutex::new(Some(task))),
            readers,
            feed,
            health,
            freshness,
            metrics,
            deleted,
        })
    }

    pub(super) async fn append_all(
        &self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let size = batch.iter().map(|data| data.as_str().len() + ROW_OVERHEAD_BYTES).sum();
        self.write(size, Operation::Append { stream, batch, key }).await
    }

    pub(super) async fn end(
        &self,
        stream: StreamName,
        text: MessageText,
    ) -> Result<EventId, AppendError> {
        let size = text.as_str().len();
        self.write(size, Operation::End { stream, text }).await.map(|ended| ended.last)
    }

    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        self.write(0, Operation::Delete { stream }).await?;
        self.deleted.notify_one();
        Ok(())
    }

    /// Sends an operation to the writer, and waits for its outcome. `size` is in bytes, approximate.
    async fn write(&self, size: usize, operation: Operation) -> Outcome {
        let closed = || AppendError::Unavailable(CLOSED.into());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let writer = writer.ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        writer.send(Command { operation, size, reply }).await.map_err(|_| closed())?;
        drop(writer);
        // The writer replies to every command, unless it panicked: then the outcome is unknown.
        let failed = || AppendError::Unknown("the writer of the store failed".into());
        answer.await.unwrap_or_else(|_| Err(failed()))
    }

    pub(super) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        let (Range::After(cursor) | Range::Before(cursor)) = range;
        let is_resuming = matches!(cursor, ReadCursor::Id(_) | ReadCursor::Position(_));
        match self.read_page(stream, range, bound).await {
            // A primary that was replaced may answer like this too. It cannot commit where commits wait
            // for its standby, and a session with the new one shows that it was replaced.
            Err(ReadError::NoStream | ReadError::UnknownCursor | ReadError::Trimmed)
                if is_resuming =>
            {
                self.write(0, Operation::Confirm).await.map_err(|_| ReadError::Behind)?;
                self.read_page(stream, range, bound).await
            }
            page => page,
        }
    }

    async fn read_page(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        let read = self.readers.read(async |reader| reader.page(stream, range, bound).await);
        let page = read.await?;
        // Checked after the session was opened, which shows a promotion.
        if self.feed.is_doubtful(stream) { Err(ReadError::Behind) } else { page }
    }

    pub(super) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        self.readers.read(async |reader| reader.streams(max).await).await
    }

    pub(super) fn activity(&self) -> ActivityListener {
        self.feed.activity()
    }

    /// Changes are queued from this call on, or from when the position of the stream is known.
    pub(super) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        let (engine, stream) = (self.clone(), stream.clone());
        let beginning = self.feed.add(&stream);
        Box::pin(async move {
            match beginning.ok_or_else(|| ReadError::Unavailable(CLOSED.into()))? {
                Beginning::At(follow) => Ok(follow),
                Beginning::Reading(starting) => {
                    let name = stream.as_str();
                    let heads = engine.readers.read(async |reader| reader.heads(&[name]).await);
                    let found = heads.await?.into_iter().next();
                    let head = found.map_or(Delivered::NO_STREAM, |(_, head)| head);
                    Ok(engine.feed.begin(&stream, starting, head))
                }
            }
        })
    }

    /// Reports the watchers of this server to the others; returns theirs, by stream.
    pub(super) async fn exchange_watchers(
        &self,
        own: &[(StreamName, u64)],
    ) -> Result<HashMap<StreamName, u64>, ReadError> {
        let server = self.server;
        self.readers
            .read(async |reader| watchers::exchange(reader.client(), server, own).await)
            .await
    }

    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    pub(super) async fn refresh_metrics(&self) {
        let stats = self.readers.read(async |reader| {
            let select = "SELECT count(*), coalesce(sum(count), 0)::bigint, \
                          (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
                           WHERE relnamespace = 'tidings'::regnamespace AND relkind = 'r') \
                          FROM tidings.streams";
            let row = reader.client().query_one(select, &[]).await?;
            let (streams, messages) = (read::unsigned(&row, 0)?, read::unsigned(&row, 1)?);
            Ok(LogStats { streams, messages, bytes: read::unsigned(&row, 2)? })
        });
        // The error has been logged.
        let stats = stats.await.ok();
        self.metrics.set(stats, self.unwritable().is_some(), false);
    }

    pub(super) fn unwritable(&self) -> Option<Arc<str>> {
        let is_open = self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let stale = || self.freshness.is_stale().then(|| UNREACHABLE.into());
        self.health.unwritable().or_else(stale).or_else(|| (!is_open).then(|| CLOSED.into()))
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.freshness.clone()
    }

    pub(super) async fn close(&self) {
        // The writer ends once it has stored what waits.
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
            let leaving = self
                .readers
                .read(async |reader| watchers::leave(reader.client(), self.server).await);
            if timeout(LEAVE_TIMEOUT, leaving).await.is_err() {
                tracing::debug!("the other servers count this one for some seconds more");
            }
        }
        self.feed.close();
        self.readers.close();
    }
}

/// An error of the database, with its message.
fn describe_database_error(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<tokio_postgres::Error>() {
        Ok(error) => anyhow!(options::describe(&error)),
        Err(error) => error,
    }
}
