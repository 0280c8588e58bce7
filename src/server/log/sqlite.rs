//! The log in one `SQLite` file.
//!
//! One thread writes. It takes everything that waits and stores it as one transaction, so that one
//! flush of the disk serves many publishers; then it answers them, and then it tells the followers.
//! Readers have connections of their own, which write-ahead logging lets read meanwhile.
//!
//! - `file`, `schema`, `row_key`: the file, and what is in it; `migrate`: from the schema before it
//! - `check`, `health`: whether it is sound, and can be written
//! - `write`, `batch`, `idempotency`: the writer, a transaction, idempotency keys
//! - `read`: pages of messages, the list of streams; `followers`: what was stored, as it is stored
//! - `retention`, `wal`, `scrub`, `space`: what is too old goes, from the files too, and the disk gets its
//!   space back
//! - `background`: what goes on without being asked for

mod background;
mod batch;
mod check;
mod file;
mod folder;
mod followers;
mod health;
mod idempotency;
mod key_hash;
mod metrics;
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

use self::{
    check::Stop,
    file::{Location, Opened},
    followers::Followers,
    health::{Health, what_happened},
    metrics::{EngineMetrics, LogStats},
    transaction::WriteBatch,
    write::{Command, Reports, Writer},
};
use super::{
    AppendError, Appended, Bound, Clock, EventId, Follow, IdempotencyKey, MessagePage, MessageText,
    Range, ReadError, RetentionLimits, Store, StreamInfo, StreamName, Supervisor,
};

/// How many appends may wait before those who bring more have to wait themselves.
const WAITING: usize = 1024;
/// How many reads go on at the same time.
const READERS: u32 = 4;
/// What a message takes in the store beside its text, about.
const PER_MESSAGE: usize = 64;
/// How long closing waits for the check in the background.
const CHECK_STOPS: Duration = Duration::from_secs(1);

/// Why a store that was closed does nothing any more.
const CLOSED: &str = "the store is closed";

/// The engine; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    writer: mpsc::Sender<Command>,
    /// The writer's, until it is closed.
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    readers: Arc<Readers>,
    followers: Followers,
    health: Health,
    metrics: EngineMetrics,
    /// Tells the sweep that something was deleted.
    deleted: Arc<Notify>,
    /// Stops the check in the background, and tells whether its connection is closed.
    stop_check: Stop,
    check: TaskTracker,
}

/// Connections that read; as many as there are permits.
#[derive(Debug)]
struct Readers {
    location: Location,
    /// Held by a read until it is done, even if nobody waits for it any more.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    pub(super) async fn open(
        store: Store,
        limits: RetentionLimits,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let (health, followers) = (Health::default(), Followers::default());
        let metrics = EngineMetrics::default();
        let reports = Reports {
            health: health.clone(),
            followers: followers.clone(),
            metrics: metrics.clone(),
        };
        let (location, writer, unchecked) = spawn_blocking(move || {
            let (location, claim) = Location::claim(store)?;
            let Opened { connection, wal, unchecked } = location.open_to_write()?;
            let writer = Writer::new(connection, wal, claim, limits, clock, reports)?;
            anyhow::Ok((location, writer, unchecked))
        })
        .await??;
        let (sender, commands) = mpsc::channel(WAITING);
        let thread = supervisor
            .thread("store-writer", move || writer.run(commands))
            .context("the thread that writes cannot be started")?;
        let readers = Arc::new(Readers {
            location,
            permits: Arc::new(Semaphore::new(READERS as usize)),
            idle: Mutex::default(),
        });
        let (deleted, stop_check) = (Arc::<Notify>::default(), Stop::default());
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

    /// All of a batch is one part of a transaction.
    pub(super) async fn append_all(
        &self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let size = batch.iter().map(|data| data.as_str().len() + PER_MESSAGE).sum();
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
        // The last connection that closes takes the write-ahead log into the file: it is to be the
        // writer's. The check is stopped, reads that go on are waited for, later ones refused.
        self.stop_check.stop();
        self.check.close();
        if timeout(CHECK_STOPS, self.check.wait()).await.is_err() {
            tracing::warn!("the check of the store does not stop: some of it stays written ahead");
        }
        if let Ok(_all) = self.readers.permits.acquire_many(READERS).await {
            self.readers.permits.close();
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        // It may have been told before; then there is no thread any more.
        let _ = self.writer.send(Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }

    /// Has the writer do something, and waits until that is stored.
    async fn write<T: Send + 'static>(
        &self,
        size: usize,
        act: impl FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>>
        + Send
        + 'static,
    ) -> Result<T, AppendError> {
        let (command, answer) = Command::write(size, act);
        self.writer.send(command).await.map_err(|_| {
            AppendError::Unavailable(self.trouble().unwrap_or_else(|| CLOSED.into()))
        })?;
        // The writer answers whatever it takes, unless it breaks off, at an unknown place.
        answer.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown("the writer of the store broke off".into()))
        })
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        let gone = || self.writer.is_closed().then(|| CLOSED.into());
        self.health.trouble().or_else(gone)
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
        self.reading(move |connection| read::page(connection, &stream, range, bound)).await
    }

    pub(super) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        self.reading(move |connection| read::streams(connection, max).map(Ok)).await
    }

    /// What is stored from now on is told, and what was stored before is where the follow starts:
    /// told first, and looked up then, something may be both.
    pub(super) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        let (engine, stream) = (self.clone(), stream.clone());
        let starting = self.followers.add(&stream);
        Box::pin(async move {
            let starting = starting.ok_or_else(|| ReadError::Unavailable(CLOSED.into()))?;
            let seen =
                engine.reading(move |connection| read::position(connection, &stream).map(Ok));
            Ok(starting.at(seen.await?))
        })
    }

    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    pub(super) async fn refresh_metrics(&self) {
        let location = self.readers.location.clone();
        let stats = self.reading(move |connection| {
            let (streams, messages) = read::counts(connection)?;
            Ok(Ok(LogStats { streams, messages, bytes: location.size(connection)? }))
        });
        // Why it cannot be looked up is in the log.
        let stats = stats.await.ok();
        self.metrics.set(stats, self.trouble().is_some(), self.damaged().is_some());
    }

    async fn reading<T: Send + 'static>(
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
                Err(ReadError::Unavailable(what_happened(&error)))
            }
            Err(error) => {
                tracing::error!(%error, "a read of the store broke off");
                Err(ReadError::Unavailable("a read broke off".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{background::SWEEP, *};
    use crate::server::shutdown::Shutdown;

    #[tokio::test]
    async fn a_writer_that_dies_does_not_die_in_silence() {
        let shutdown = Shutdown::default();
        let supervisor = Supervisor::new(shutdown.clone());
        let limits =
            RetentionLimits { messages: 1, age: SWEEP, bytes: 1, streams: 1, keys: 1, all_keys: 1 };
        let engine = Sqlite::open(Store::Memory, limits, Clock::System, &supervisor).await;
        let engine = engine.expect("a store");
        let died = engine.write::<()>(0, |_| panic!("planted")).await;
        assert!(matches!(died, Err(AppendError::Unknown(_))), "the publisher is told");
        let said = supervisor.failed().await.to_string();
        assert_eq!(said, "the store-writer panicked: planted");
        assert!(engine.trouble().is_some(), "readiness says no until the process has ended");
    }

    /// However long the check in the background takes to stop: a copy of the file alone is whole then.
    #[tokio::test]
    async fn a_store_that_is_closed_is_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::File(folder.path().join("tidings.db"));
        let supervisor = Supervisor::new(Shutdown::default());
        let limits =
            RetentionLimits { messages: 1, age: SWEEP, bytes: 9, streams: 1, keys: 1, all_keys: 1 };
        let engine = Sqlite::open(store, limits, Clock::System, &supervisor).await;
        let engine = engine.expect("a store");
        let text = MessageText::new(b"hello".to_vec(), 9).expect("data");
        let name = "news".parse().expect("a name");
        engine.append_all(name, vec![text], None).await.expect("appended");
        let connection = engine.readers.location.open_to_read().expect("a connection");
        read::counts(&connection).expect("readable");
        let stop = engine.stop_check.clone();
        engine.check.spawn_blocking(move || {
            while !stop.is_asked_for() {
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
