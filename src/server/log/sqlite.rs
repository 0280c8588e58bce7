//! The `SQLite` engine: the log in one file.
//!
//! Group commit: one writer thread stores all waiting writes as one transaction, so that one flush of
//! the disk serves many publishers; then it replies to them, and then it notifies the followers.
//! Reads use connections of their own and do not block the writer (write-ahead logging).
//!
//! - `file`, `schema`, `row_key`: the file, and its tables; `migrate`: from the previous schema
//! - `check`, `health`: whether the file is intact, and can be written
//! - `write`, `batch`, `idempotency`: the writer, a transaction, idempotency keys
//! - `read`: pages of messages, the list of streams; `followers`: notification of followers
//! - `retention`, `wal`, `scrub`, `space`: removal of old messages, also from the files, and release of
//!   disk space
//! - `copy`: reads or writes a store for a copy
//! - `background`: background tasks

mod background;
mod batch;
mod check;
mod copy;
mod file;
mod folder;
mod followers;
mod health;
mod idempotency;
mod migrate;
mod read;
mod retention;
mod row_key;
mod schema;
mod scrub;
mod space;
mod transaction;
mod wal;
mod write;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use rusqlite::Connection;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::task::TaskTracker;

pub(super) use self::copy::SqliteCopy;
use self::{
    check::StopSignal,
    file::{Location, OpenedStore},
    followers::Followers,
    health::{Health, error_summary},
    transaction::WriteBatch,
    write::{Command, Writer, WriterHandles},
};
use super::{
    ActivityListener, AppendError, Appended, Bound, Clock, EventId, Follow, IdempotencyKey,
    MessagePage, MessageText, Range, ReadError, RetentionLimits, StreamInfo, StreamName,
    Supervisor,
    metrics::{EngineMetrics, LogStats},
};

/// Capacity of the writer's queue, in commands. Further senders wait.
const COMMAND_CAPACITY: usize = 1024;
/// The most concurrent reads.
const MAX_READERS: u32 = 4;
/// Approximate size of a message in the store beside its text, in bytes.
const ROW_OVERHEAD_BYTES: usize = 64;
/// How long closing waits for the background check to stop.
const CHECK_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason of errors after the store was closed.
const CLOSED: &str = "the store is closed";

/// A handle to the engine, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    writer: mpsc::Sender<Command>,
    /// The writer thread, until the store is closed.
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    readers: Arc<ReadPool>,
    followers: Followers,
    health: Health,
    metrics: EngineMetrics,
    /// Wakes the sweep after a deletion.
    deleted: Arc<Notify>,
    /// Stops the background check.
    stop_check: StopSignal,
    /// Tracks the background check: its connection is closed once no task is left.
    check: TaskTracker,
}

/// Connection pool for reads, with one permit per connection.
#[derive(Debug)]
struct ReadPool {
    location: Location,
    /// Held by a read until it is done, even if its caller has gone.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens the store in a file, or in memory.
    pub(super) async fn open(
        path: Option<PathBuf>,
        limits: RetentionLimits,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let (health, followers) = (Health::default(), Followers::default());
        let metrics = EngineMetrics::default();
        let reports = WriterHandles {
            health: health.clone(),
            followers: followers.clone(),
            metrics: metrics.clone(),
        };
        let (location, writer, unchecked) = spawn_blocking(move || {
            let (location, lock) = Location::lock(path)?;
            let OpenedStore { connection, wal, unchecked } = location.open_to_write()?;
            let writer = Writer::new(connection, wal, lock, limits, clock, reports)?;
            anyhow::Ok((location, writer, unchecked))
        })
        .await??;
        let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        let thread = supervisor
            .spawn_thread("store-writer", move || writer.run(commands))
            .context("the writer thread cannot be started")?;
        let readers = Arc::new(ReadPool {
            location,
            permits: Arc::new(Semaphore::new(MAX_READERS as usize)),
            idle: Mutex::default(),
        });
        let (deleted, stop_check) = (Arc::<Notify>::default(), StopSignal::default());
        let sweep = background::sweep(sender.downgrade(), health.clone(), Arc::clone(&deleted));
        supervisor.spawn("sweep of old messages", sweep);
        let check = TaskTracker::new();
        if unchecked {
            let (location, stop) = (readers.location.clone(), stop_check.clone());
            let checking = background::check_file(location, health.clone(), stop, check.clone());
            supervisor.spawn("check of the store", checking);
        }
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self {
            writer: sender,
            thread,
            readers,
            followers,
            health,
            metrics,
            deleted,
            stop_check,
            check,
        })
    }

    /// Appends a batch within one transaction.
    pub(super) async fn append_all(
        &self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let size = batch.iter().map(|data| data.as_str().len() + ROW_OVERHEAD_BYTES).sum();
        self.write(size, move |write| write.append(stream, batch, key.as_ref())).await
    }

    pub(super) async fn end(
        &self,
        stream: StreamName,
        text: MessageText,
    ) -> Result<EventId, AppendError> {
        self.write(text.as_str().len(), |batch| batch.end(stream, text)).await
    }

    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        self.write(0, |batch| batch.delete(stream)).await?;
        self.deleted.notify_one();
        Ok(())
    }

    pub(super) async fn close(&self) {
        // SQLite moves the write-ahead log into the file when the last connection closes, which must
        // be the writer's. So the check is stopped, running reads are awaited, later ones fail.
        self.stop_check.stop();
        self.check.close();
        if timeout(CHECK_STOP_TIMEOUT, self.check.wait()).await.is_err() {
            tracing::warn!("the check of the store does not stop: the write-ahead log remains");
        }
        if let Ok(_all) = self.readers.permits.acquire_many(MAX_READERS).await {
            self.readers.permits.close();
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        // The send fails where the store was closed before: then the thread has ended.
        let _ = self.writer.send(Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }

    /// Sends an operation to the writer, and waits until it is stored. `size` is in bytes, approximate.
    async fn write<T: Send + 'static>(
        &self,
        size: usize,
        operation: impl FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>>
        + Send
        + 'static,
    ) -> Result<T, AppendError> {
        let (command, answer) = Command::write(size, operation);
        self.writer.send(command).await.map_err(|_| {
            AppendError::Unavailable(self.unwritable().unwrap_or_else(|| CLOSED.into()))
        })?;
        // The writer replies to every command, unless it panicked: then the outcome is unknown.
        answer
            .await
            .unwrap_or_else(|_| Err(AppendError::Unknown("the writer of the store failed".into())))
    }

    pub(super) fn unwritable(&self) -> Option<Arc<str>> {
        let closed = || self.writer.is_closed().then(|| CLOSED.into());
        self.health.unwritable().or_else(closed)
    }

    pub(super) fn damaged(&self) -> Option<Arc<str>> {
        self.health.damaged()
    }

    pub(super) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        let stream = stream.clone();
        self.with_reader(move |connection| read::page(connection, &stream, range, bound)).await
    }

    pub(super) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        self.with_reader(move |connection| read::streams(connection, max).map(Ok)).await
    }

    pub(super) fn activity(&self) -> ActivityListener {
        self.followers.activity()
    }

    /// Changes are queued from this call on; the start position is read afterwards, and may include
    /// some of them.
    pub(super) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        let (engine, stream) = (self.clone(), stream.clone());
        let starting = self.followers.add(&stream);
        Box::pin(async move {
            let starting = starting.ok_or_else(|| ReadError::Unavailable(CLOSED.into()))?;
            let position =
                engine.with_reader(move |connection| read::position(connection, &stream).map(Ok));
            Ok(starting.begin_at(position.await?))
        })
    }

    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    pub(super) async fn refresh_metrics(&self) {
        let location = self.readers.location.clone();
        let stats = self.with_reader(move |connection| {
            let (streams, messages) = read::counts(connection)?;
            Ok(Ok(LogStats { streams, messages, bytes: location.size(connection)? }))
        });
        // The error has been logged.
        let stats = stats.await.ok();
        self.metrics.set(stats, self.unwritable().is_some(), self.damaged().is_some());
    }

    async fn with_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<Result<T, ReadError>> + Send + 'static,
    ) -> Result<T, ReadError> {
        let readers = Arc::clone(&self.readers);
        let permit = Arc::clone(&self.readers.permits).acquire_owned().await;
        let permit = permit.map_err(|_| ReadError::Unavailable(CLOSED.into()))?;
        let found = spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = idle.map_or_else(|| readers.location.open_to_read(), Ok)?;
            let found = read(&mut connection)?;
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(found)
        });
        let found: Result<rusqlite::Result<_>, _> = found.await;
        match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.health.note_damage(&error);
                tracing::error!(%error, "the store cannot be read");
                Err(ReadError::Unavailable(error_summary(&error)))
            }
            Err(error) => {
                tracing::error!(%error, "a read of the store panicked");
                Err(ReadError::Unavailable("the read failed".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{background::SWEEP_INTERVAL, *};
    use crate::server::shutdown::Shutdown;

    #[tokio::test]
    async fn a_panic_of_the_writer_is_reported() {
        let shutdown = Shutdown::default();
        let supervisor = Supervisor::new(shutdown.clone());
        let limits = RetentionLimits {
            messages: 1,
            age: SWEEP_INTERVAL,
            bytes: 1,
            streams: 1,
            keys: 1,
            all_keys: 1,
        };
        let engine = Sqlite::open(None, limits, Clock::System, &supervisor).await;
        let engine = engine.expect("a store");
        let result = engine.write::<()>(0, |_| panic!("planted")).await;
        assert!(matches!(result, Err(AppendError::Unknown(_))), "the publisher gets an error");
        let failure = supervisor.wait_for_failure().await.to_string();
        assert_eq!(failure, "the store-writer panicked: planted");
        assert!(
            engine.unwritable().is_some(),
            "the server is not ready until the process has ended"
        );
    }

    /// Even when the background check stops slowly. A copy of that file is complete.
    #[tokio::test]
    async fn a_closed_store_is_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Some(folder.path().join("tidings.db"));
        let supervisor = Supervisor::new(Shutdown::default());
        let limits = RetentionLimits {
            messages: 1,
            age: SWEEP_INTERVAL,
            bytes: 9,
            streams: 1,
            keys: 1,
            all_keys: 1,
        };
        let engine = Sqlite::open(store, limits, Clock::System, &supervisor).await;
        let engine = engine.expect("a store");
        let text = MessageText::new(b"hello".to_vec(), 9).expect("data");
        let name = "news".parse().expect("a name");
        engine.append_all(name, vec![text], None).await.expect("appended");
        let connection = engine.readers.location.open_to_read().expect("a connection");
        read::counts(&connection).expect("readable");
        let stop = engine.stop_check.clone();
        engine.check.spawn_blocking(move || {
            while !stop.is_requested() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(300));
            drop(connection);
        });
        engine.close().await;
        let mut files: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["tidings.db", "tidings.db.lock"]);
    }
}
