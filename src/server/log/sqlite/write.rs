//! The writer: group commit. Everything that waits is one transaction and one flush of the disk.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    batch::{CommitError, Committed, are_stored, could_not_write},
    file::Claim,
    followers::Followers,
    health::{Health, what_happened},
    metrics::EngineMetrics,
    schema::{CLEAN, UNSCRUBBED},
    transaction::{Totals, WriteBatch},
    wal::{self, Purged, WriteAheadLog},
};
use crate::server::log::{AppendError, Change, Clock, RetentionLimits, StreamName};

/// How often a store in trouble is tried.
pub(super) const PROBE: Duration = Duration::from_secs(1);
/// About how many bytes one transaction takes before it is closed.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// About how many bytes a transaction writes beside what it brings: some pages, whole.
const PER_COMMIT: usize = 16 * 1024;
/// For how long the files are purged when the store is closed.
const CLOSING: Duration = Duration::from_secs(5);
/// A transaction that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_millis(100);

/// What the writer is asked to do.
pub(super) enum Command {
    /// A part of the next transaction.
    Write {
        /// About how many bytes it brings.
        size: usize,
        job: Box<dyn Job>,
    },
    /// Do a part of what it takes until nothing is left in the files of what was removed.
    Purge {
        /// Told how far that came.
        done: oneshot::Sender<Purged>,
    },
    /// Stop, once what came before is done.
    Close,
}

/// A part of a transaction, and a client that waits for its outcome.
pub(super) trait Job: Send {
    /// Does its part. After an error the whole transaction is taken back.
    fn run(&mut self, batch: &mut WriteBatch<'_>) -> rusqlite::Result<()>;

    /// Tells the client; a client that has gone does not hear it.
    fn reply(self: Box<Self>, outcome: &Outcome);
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored,
    /// Nothing was stored, for this reason.
    NotStored(Arc<str>),
    /// It may have been stored; what failed.
    Unknown(Arc<str>),
}

/// A job that is a function.
struct PendingReply<T, F> {
    act: Option<F>,
    result: Option<Result<T, AppendError>>,
    reply: oneshot::Sender<Result<T, AppendError>>,
}

impl Command {
    /// Something to do in the next transaction, and where its result will be.
    pub(super) fn write<T: Send + 'static>(
        size: usize,
        act: impl FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>>
        + Send
        + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, AppendError>>) {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(PendingReply { act: Some(act), result: None, reply });
        (Self::Write { size, job }, answer)
    }
}

impl<T, F> Job for PendingReply<T, F>
where
    T: Send,
    F: FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>> + Send,
{
    fn run(&mut self, batch: &mut WriteBatch<'_>) -> rusqlite::Result<()> {
        if let Some(act) = self.act.take() {
            self.result = Some(act(batch)?);
        }
        Ok(())
    }

    fn reply(self: Box<Self>, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Stored => self.result,
            Outcome::NotStored(why) => Some(Err(AppendError::Unavailable(Arc::clone(why)))),
            Outcome::Unknown(why) => Some(Err(AppendError::Unknown(Arc::clone(why)))),
        };
        if let Some(result) = result {
            drop(self.reply.send(result));
        }
    }
}

/// What a transaction did, in its order.
type Changes = Vec<(StreamName, Change)>;

/// By what the writer tells others how it is, and what it stored.
pub(super) struct Reports {
    pub(super) health: Health,
    pub(super) followers: Followers,
    pub(super) metrics: EngineMetrics,
}

/// The thread that writes.
pub(super) struct Writer {
    connection: Connection,
    /// Released after the connection is closed: no other server opens a file that is not closed yet.
    _claim: Claim,
    limits: RetentionLimits,
    clock: Clock,
    health: Health,
    followers: Followers,
    metrics: EngineMetrics,
    totals: Totals,
    wal: WriteAheadLog,
    /// How many bytes did not fit the disk, while the store is in trouble, and when it was last
    /// tried whether they do.
    unstored: usize,
    tried: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        wal: WriteAheadLog,
        claim: Claim,
        limits: RetentionLimits,
        clock: Clock,
        Reports { health, followers, metrics }: Reports,
    ) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            totals: Totals::of(&connection)?,
            connection,
            _claim: claim,
            limits,
            clock,
            health,
            followers,
            metrics,
            wal,
            unstored: 0,
            tried: Instant::now(),
        })
    }

    /// Serves until it is told to close, or until there is no handle any more.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            match command {
                Command::Write { size, job } => {
                    let (mut jobs, mut bytes) = (vec![job], size);
                    while bytes < BATCH_BYTES {
                        match commands.try_recv() {
                            Ok(Command::Write { size, job }) => {
                                jobs.push(job);
                                bytes += size;
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.health.set_storing(true);
                    self.serve(jobs, bytes);
                    self.wal.checkpoint_if_due(&self.connection, &self.health);
                    self.health.set_storing(false);
                }
                Command::Purge { done } => {
                    self.health.set_storing(true);
                    let purged = self.wal.purge(&mut self.connection, &self.health);
                    self.wal.checkpoint_if_due(&self.connection, &self.health);
                    self.health.set_storing(false);
                    let _ = done.send(purged);
                }
                Command::Close => break,
            }
            if next.is_none() {
                next = commands.blocking_recv();
            }
        }
        self.close(commands);
    }

    /// Refuses what came too late, and notes that everything is in order.
    fn close(mut self, mut commands: mpsc::Receiver<Command>) {
        self.followers.close();
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Write { job, .. } = command {
                job.reply(&Outcome::NotStored(super::CLOSED.into()));
            }
        }
        let began = Instant::now();
        while self.wal.purge(&mut self.connection, &self.health) == Purged::More
            && began.elapsed() < CLOSING
        {}
        // A file that is known to be damaged is checked when it is opened again.
        if self.health.damaged().is_some() {
            return;
        }
        let left = if self.wal.is_scrubbed() { CLEAN } else { UNSCRUBBED };
        if let Err(error) = self.connection.execute("UPDATE store SET clean = ?1", [left]) {
            tracing::warn!(%error, "the store will be checked when it is opened again");
        }
    }

    /// Stores, acknowledges, fans out: in this order, always.
    fn serve(&mut self, mut jobs: Vec<Box<dyn Job>>, bytes: usize) {
        let begun = Instant::now();
        let (outcome, changes) = match self.store(&mut jobs) {
            Ok(changes) => (Outcome::Stored, changes),
            Err(CommitError::NotStored(error)) => (self.failed(&error, bytes), Vec::new()),
            Err(CommitError::Unknown(error, committed)) => {
                self.resolve_commit(&error, bytes, *committed)
            }
        };
        if outcome == Outcome::Stored {
            self.recover(bytes);
            self.count(&changes, begun.elapsed());
        }
        for job in jobs {
            job.reply(&outcome);
        }
        match outcome {
            Outcome::Stored => self.followers.tell(changes),
            Outcome::NotStored(_) => {}
            // It may turn out to have been stored, and was not told: who follows has to begin anew.
            Outcome::Unknown(_) => self.followers.interrupt(),
        }
    }

    fn store(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Changes, CommitError> {
        let (limits, now) = (self.limits, self.clock.now());
        let mut batch = WriteBatch::begin(&mut self.connection, limits, now, self.totals)?;
        for job in jobs {
            job.run(&mut batch)?;
        }
        let committed = batch.commit()?;
        Ok(self.take_over(committed))
    }

    fn take_over(&mut self, committed: Committed) -> Changes {
        let Committed { changes, totals, removed } = committed;
        self.totals = totals;
        self.wal.removed |= removed;
        changes
    }

    /// Notes a failure before any client hears of it.
    fn failed(&mut self, error: &rusqlite::Error, bytes: usize) -> Outcome {
        self.health.note_damage(error);
        // It may have become longer.
        self.wal.measure();
        let why = what_happened(error);
        if self.health.set_failed(Some(Arc::clone(&why))).is_none() {
            tracing::error!(%error, "the store cannot be written");
        }
        self.unstored = self.unstored.max(bytes);
        Outcome::NotStored(why)
    }

    /// Finds out what became of a transaction whose COMMIT failed. Its last page may be on the disk,
    /// where a server that starts there would find it. A further transaction settles that: once it
    /// is durable, what this connection reads is what there is, and nothing else can come back.
    fn resolve_commit(
        &mut self,
        error: &rusqlite::Error,
        bytes: usize,
        committed: Committed,
    ) -> (Outcome, Changes) {
        if could_not_write(error, self.wal.is_reused(&self.connection)) {
            return (self.failed(error, bytes), Vec::new());
        }
        let why = what_happened(error);
        match self.probe(&committed.changes) {
            Ok(true) => (Outcome::Stored, self.take_over(committed)),
            Ok(false) => (self.failed(error, bytes), Vec::new()),
            Err(probe) => {
                tracing::error!(%error, %probe, "whether a transaction was stored is not known");
                self.failed(&probe, bytes);
                (Outcome::Unknown(why), Vec::new())
            }
        }
    }

    /// Writes something, durably; tells whether these changes are in the store.
    fn probe(&mut self, changes: &[(StreamName, Change)]) -> rusqlite::Result<bool> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let stored = are_stored(&tx, changes)?;
        wal::probe_write(&tx)?;
        tx.commit()?;
        Ok(stored)
    }

    /// What was stored just now ends a trouble, if it was as much as what could not be stored: a
    /// disk that is nearly full still takes small things.
    fn recover(&mut self, stored: usize) {
        if !self.health.has_failed() {
            return;
        }
        if stored < self.unstored {
            if self.tried.elapsed() < PROBE {
                return;
            }
            self.tried = Instant::now();
            if let Err(error) = self.try_room() {
                tracing::debug!(%error, bytes = self.unstored, "the store has no room yet");
                return;
            }
        }
        self.unstored = 0;
        self.health.set_failed(None);
        tracing::info!("the store can be written again");
    }

    /// Writes as many bytes as could not be stored, and takes them back.
    fn try_room(&mut self) -> rusqlite::Result<()> {
        let attempt = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        attempt.execute("CREATE TABLE room (filler BLOB)", [])?;
        attempt.execute("INSERT INTO room VALUES (zeroblob(?1))", [self.unstored + PER_COMMIT])?;
        attempt.cache_flush()?;
        attempt.rollback()
    }

    /// Counts what a transaction stored. A slow one delays every publisher.
    fn count(&self, changes: &[(StreamName, Change)], took: Duration) {
        let messages = changes.iter().map(|(_, change)| match change {
            Change::Appended { messages, .. } => messages.len(),
            Change::Ended { .. } | Change::Deleted { .. } => 0,
        });
        let messages = messages.sum();
        if took > SLOW {
            let duration_ms = took.as_millis();
            let changes = changes.len();
            tracing::warn!(duration_ms, messages, changes, "the disk was slow to store");
        }
        self.metrics.committed(messages, took);
    }
}
