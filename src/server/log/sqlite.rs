//! The log in one `SQLite` file.
//!
//! One thread writes. It takes everything that waits and stores it as one transaction, so that one
//! flush of the disk serves many publishers; then it answers them, and then it tells the observer.
//! Readers have connections of their own, which write-ahead logging lets read meanwhile.

mod file;
mod group;
mod read;
mod retention;
mod write;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rusqlite::{Connection, ffi::ErrorCode};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
};

use self::{
    file::Location,
    group::Group,
    write::{Op, Writer},
};
use super::{
    Append, Appended, Bound, Clock, Data, EventId, Holdings, Limits, Listed, NotRead, Observer,
    Page, Range, Refusal, Store, StreamName, Supervisor,
};

/// How many appends may wait before those who bring more have to wait themselves.
const WAITING: usize = 1024;
/// How many reads go on at the same time.
const READERS: u32 = 4;
/// What a message takes in the store beside its text, about.
const PER_MESSAGE: usize = 64;
/// How often old messages are looked for.
const SWEEP: Duration = Duration::from_mins(1);
/// How often a store in trouble is tried.
const PROBE: Duration = Duration::from_secs(1);
/// A disk that has not answered for so long is in trouble, though nothing has failed.
const STALLED: Duration = Duration::from_secs(10);

/// The engine; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(in crate::server) struct Sqlite {
    writer: mpsc::Sender<Op>,
    /// The writer's, until it is closed.
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    readers: Arc<Readers>,
    trouble: Trouble,
}

/// Why the store cannot be written, if it cannot.
#[derive(Clone, Debug, Default)]
struct Trouble(Arc<Mutex<Health>>);

#[derive(Debug, Default)]
struct Health {
    /// Why the last attempt to write failed.
    failed: Option<Arc<str>>,
    /// Since when the writer has waited for the disk.
    storing_since: Option<Instant>,
}

impl Trouble {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Option<Arc<str>> {
        let health = self.health();
        let stalled = || {
            let waited = health.storing_since?.elapsed();
            let seconds = waited.as_secs();
            (waited > STALLED)
                .then(|| format!("the disk has not answered for {seconds} s, nor refused").into())
        };
        health.failed.clone().or_else(stalled)
    }

    /// Notes that the writer begins, or ceases, to wait for the disk.
    fn set_storing(&self, storing: bool) {
        self.health().storing_since = storing.then(Instant::now);
    }

    /// Notes why the last attempt failed, if it did; gives back what it was before.
    fn set(&self, failed: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.health().failed, failed)
    }
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
        limits: Limits,
        clock: Clock,
        observer: impl Observer,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let (location, lock, connection) = spawn_blocking(move || {
            let (location, lock) = Location::claim(store)?;
            let connection = location.open_to_write()?;
            anyhow::Ok((location, lock, connection))
        })
        .await??;
        let trouble = Trouble::default();
        let (sender, ops) = mpsc::channel(WAITING);
        let writer = Writer::new(connection, lock, limits, clock, trouble.clone());
        let thread = supervisor
            .thread("store-writer", move || writer.run(ops, observer))
            .context("the thread that writes cannot be started")?;
        let readers = Readers {
            location,
            permits: Arc::new(Semaphore::new(READERS as usize)),
            idle: Mutex::default(),
        };
        supervisor.spawn("sweep of old messages", sweep(sender.downgrade(), trouble.clone()));
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { writer: sender, thread, readers: Arc::new(readers), trouble })
    }

    pub(super) async fn append(&self, append: Append) -> Result<Appended, Refusal> {
        let size = append.batch.iter().map(|data| data.as_str().len() + PER_MESSAGE).sum();
        self.ask(size, |group| group.append(append)).await
    }

    pub(super) async fn end(&self, stream: StreamName, text: Data) -> Result<EventId, Refusal> {
        self.ask(text.as_str().len(), |group| group.end(stream, text)).await
    }

    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), Refusal> {
        self.ask(0, |group| group.delete(stream)).await
    }

    pub(super) async fn close(&self) {
        // The last connection that closes takes the write-ahead log into the file: it is to be the
        // writer's. Reads that go on are waited for, later ones refused.
        if let Ok(_all) = self.readers.permits.acquire_many(READERS).await {
            self.readers.permits.close();
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        // It may have been told before; then there is no thread any more.
        let _ = self.writer.send(Op::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }

    /// Has the writer do something, and waits until that is stored.
    async fn ask<T: Send + 'static>(
        &self,
        size: usize,
        act: impl FnOnce(&mut Group<'_>) -> rusqlite::Result<Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (op, answer) = Op::new(size, act);
        self.writer.send(op).await.map_err(|_| {
            Refusal::Unavailable(self.trouble().unwrap_or_else(|| "the store is closed".into()))
        })?;
        // A job that was not stored is not answered, and then the trouble is known. Otherwise the
        // writer broke off, nobody knows where.
        answer.await.unwrap_or_else(|_| {
            Err(self.trouble.get().map_or_else(
                || Refusal::Unknown("the writer of the store broke off".into()),
                Refusal::Unavailable,
            ))
        })
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        let gone = || self.writer.is_closed().then(|| "the store is closed".into());
        self.trouble.get().or_else(gone)
    }

    pub(super) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<Page, NotRead> {
        let stream = stream.clone();
        self.reading(move |connection| read::page(connection, &stream, range, bound)).await
    }

    pub(super) async fn streams(&self, most: usize) -> Result<Vec<Listed>, NotRead> {
        self.reading(move |connection| read::streams(connection, most).map(Ok)).await
    }

    pub(super) async fn holdings(&self) -> Result<Holdings, NotRead> {
        let location = self.readers.location.clone();
        self.reading(move |connection| {
            let (streams, messages) = read::counts(connection)?;
            Ok(Ok(Holdings { streams, messages, bytes: location.size(connection)? }))
        })
        .await
    }

    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<Result<T, NotRead>> + Send + 'static,
    ) -> Result<T, NotRead> {
        let readers = Arc::clone(&self.readers);
        let permit = Arc::clone(&self.readers.permits).acquire_owned().await;
        let permit = permit.map_err(|_| NotRead::Unavailable("the store is closed".into()))?;
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
                tracing::error!(%error, "the store can not be read");
                Err(NotRead::Unavailable(what_happened(&error)))
            }
            Err(error) => {
                tracing::error!(%error, "a read of the store broke off");
                Err(NotRead::Unavailable("a read broke off".into()))
            }
        }
    }
}

/// What went wrong, as far as it concerns whoever asked. The log has the rest.
fn what_happened(error: &rusqlite::Error) -> Arc<str> {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::SystemIoFailure) => "I/O error of the disk",
        Some(ErrorCode::ReadOnly) => "the disk can not be written",
        Some(ErrorCode::CannotOpen) => "its file can not be opened",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "its file is damaged",
        _ => "it failed",
    };
    format!("the store can not be used: {what}").into()
}

/// Has the writer look for old messages now and then, and more often whether a store in trouble
/// has recovered.
async fn sweep(writer: mpsc::WeakSender<Op>, trouble: Trouble) {
    loop {
        let pause = if trouble.get().is_some() { PROBE } else { SWEEP };
        // Trouble may begin in the middle of a long pause.
        let mut waited = Duration::ZERO;
        while waited < pause && (waited < PROBE || trouble.get().is_none()) {
            tokio::time::sleep(PROBE).await;
            waited += PROBE;
        }
        loop {
            // The writer is gone when the log is.
            let Some(writer) = writer.upgrade() else { return };
            let (op, done) = Op::new(0, |group| retention::step(group).map(Ok));
            if writer.send(op).await.is_err() {
                return;
            }
            if !matches!(done.await, Ok(Ok(true))) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::shutdown::Shutdown;

    /// An observer that ignores what it is told.
    struct Ignorant;

    impl Observer for Ignorant {
        fn changed(&mut self, _: super::super::Change) {}
    }

    #[tokio::test]
    async fn a_writer_that_dies_does_not_die_in_silence() {
        let shutdown = Shutdown::default();
        let supervisor = Supervisor::new(shutdown.clone());
        let limits = Limits { messages: 1, age: SWEEP, bytes: 1, streams: 1 };
        let engine =
            Sqlite::open(Store::Memory, limits, Clock::System, Ignorant, &supervisor).await;
        let engine = engine.expect("a store");
        let died = engine.ask::<()>(0, |_| panic!("planted")).await;
        assert!(matches!(died, Err(Refusal::Unknown(_))), "the publisher is told");
        let said = supervisor.failed().await.to_string();
        assert_eq!(said, "the store-writer panicked: planted");
        assert!(engine.trouble().is_some(), "readiness says no until the process has ended");
    }
}
