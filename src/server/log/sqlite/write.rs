//! The writer thread: group commit. All waiting commands become one transaction and one flush of the
//! disk.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    batch::{CommitError, Committed, are_stored, is_certainly_not_stored},
    file::StoreLock,
    followers::Followers,
    health::{Health, error_summary},
    schema::{CLEAN, UNSCRUBBED},
    transaction::{Totals, WriteBatch},
    wal::{self, PurgeProgress, WriteAheadLog},
};
use crate::server::log::{
    AppendError, Change, Clock, RetentionLimits, StreamName, metrics::EngineMetrics,
};

/// How often a store that cannot be written is probed.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Approximate size limit of a transaction, in bytes.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Approximate number of bytes that a transaction writes beside its messages: some whole pages.
const COMMIT_OVERHEAD_BYTES: usize = 16 * 1024;
/// How long closing the store may spend on the purge of the files.
const CLOSE_PURGE_TIME: Duration = Duration::from_secs(5);
/// A transaction that takes longer is logged.
const SLOW_COMMIT: Duration = Duration::from_millis(100);

/// A command to the writer.
pub(super) enum Command {
    /// Run a job in the next transaction.
    Write {
        /// Approximate size in bytes.
        size: usize,
        job: Box<dyn Job>,
    },
    /// Do one step of removing deleted text from the files.
    Purge {
        /// Receives the result.
        done: oneshot::Sender<PurgeProgress>,
    },
    /// Stop after the earlier commands.
    Close,
}

/// A part of a transaction, and a caller that waits for its result.
pub(super) trait Job: Send {
    /// Runs the job. After an error the whole transaction is rolled back.
    fn run(&mut self, batch: &mut WriteBatch<'_>) -> rusqlite::Result<()>;

    /// Replies to the caller, unless it has gone.
    fn reply(self: Box<Self>, outcome: &CommitOutcome);
}

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    Stored,
    /// Nothing was stored, for this reason.
    NotStored(Arc<str>),
    /// It may have been stored: the commit failed for this reason.
    Unknown(Arc<str>),
}

/// A job from a closure.
struct PendingReply<T, F> {
    operation: Option<F>,
    result: Option<Result<T, AppendError>>,
    reply: oneshot::Sender<Result<T, AppendError>>,
}

impl Command {
    /// A command that runs a closure in the next transaction, and the receiver of its result.
    pub(super) fn write<T: Send + 'static>(
        size: usize,
        operation: impl FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>>
        + Send
        + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, AppendError>>) {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(PendingReply { operation: Some(operation), result: None, reply });
        (Self::Write { size, job }, answer)
    }
}

impl<T, F> Job for PendingReply<T, F>
where
    T: Send,
    F: FnOnce(&mut WriteBatch<'_>) -> rusqlite::Result<Result<T, AppendError>> + Send,
{
    fn run(&mut self, batch: &mut WriteBatch<'_>) -> rusqlite::Result<()> {
        if let Some(operation) = self.operation.take() {
            self.result = Some(operation(batch)?);
        }
        Ok(())
    }

    fn reply(self: Box<Self>, outcome: &CommitOutcome) {
        let result = match outcome {
            CommitOutcome::Stored => self.result,
            CommitOutcome::NotStored(reason) => {
                Some(Err(AppendError::Unavailable(Arc::clone(reason))))
            }
            CommitOutcome::Unknown(reason) => Some(Err(AppendError::Unknown(Arc::clone(reason)))),
        };
        if let Some(result) = result {
            drop(self.reply.send(result));
        }
    }
}

/// The changes of a transaction, in order.
type Changes = Vec<(StreamName, Change)>;

/// Handles through which the writer reports its health, its changes and its metrics.
pub(super) struct WriterHandles {
    pub(super) health: Health,
    pub(super) followers: Followers,
    pub(super) metrics: EngineMetrics,
}

/// The state of the writer thread.
pub(super) struct Writer {
    connection: Connection,
    /// Dropped after the connection is closed, so that no other server opens the file before that.
    _lock: StoreLock,
    limits: RetentionLimits,
    clock: Clock,
    health: Health,
    followers: Followers,
    metrics: EngineMetrics,
    totals: Totals,
    wal: WriteAheadLog,
    /// While the store cannot be written: the size in bytes of the largest failed transaction, and
    /// when the writer last tested whether the disk has room for it.
    unstored_bytes: usize,
    last_space_probe: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        wal: WriteAheadLog,
        lock: StoreLock,
        limits: RetentionLimits,
        clock: Clock,
        WriterHandles { health, followers, metrics }: WriterHandles,
    ) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            totals: Totals::of(&connection)?,
            connection,
            _lock: lock,
            limits,
            clock,
            health,
            followers,
            metrics,
            wal,
            unstored_bytes: 0,
            last_space_probe: Instant::now(),
        })
    }

    /// Runs commands until [`Command::Close`], or until every sender is dropped.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            match command {
                Command::Write { size, job } => {
                    let (mut jobs, mut bytes) = (vec![job], size);
                    while bytes < MAX_BATCH_BYTES {
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
                    self.run_batch(jobs, bytes);
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

    /// Refuses the remaining commands, purges the files, and marks the store as cleanly shut down.
    fn close(mut self, mut commands: mpsc::Receiver<Command>) {
        self.followers.close();
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Write { job, .. } = command {
                job.reply(&CommitOutcome::NotStored(super::CLOSED.into()));
            }
        }
        let began = Instant::now();
        while self.wal.purge(&mut self.connection, &self.health) == PurgeProgress::More
            && began.elapsed() < CLOSE_PURGE_TIME
        {}
        // A damaged file is not marked, so that it is checked when it is opened again.
        if self.health.damaged().is_some() {
            return;
        }
        let shutdown_state = if self.wal.is_scrubbed() { CLEAN } else { UNSCRUBBED };
        if let Err(error) = self.connection.execute("UPDATE store SET clean = ?1", [shutdown_state])
        {
            tracing::warn!(%error, "the store will be checked when it is opened again");
        }
    }

    /// Stores, then acknowledges, then fans out, always in this order.
    fn run_batch(&mut self, mut jobs: Vec<Box<dyn Job>>, bytes: usize) {
        let begun = Instant::now();
        let (outcome, changes) = match self.commit_jobs(&mut jobs) {
            Ok(changes) => (CommitOutcome::Stored, changes),
            Err(CommitError::NotStored(error)) => (self.record_failure(&error, bytes), Vec::new()),
            Err(CommitError::Unknown(error, committed)) => {
                self.resolve_commit(&error, bytes, *committed)
            }
        };
        if outcome == CommitOutcome::Stored {
            self.clear_failure(bytes);
            self.record_metrics(&changes, begun.elapsed());
        }
        for job in jobs {
            job.reply(&outcome);
        }
        match outcome {
            CommitOutcome::Stored => self.followers.notify(changes),
            CommitOutcome::NotStored(_) => {}
            // Its changes may be stored and are not delivered: followers must follow again.
            CommitOutcome::Unknown(_) => self.followers.interrupt(),
        }
    }

    fn commit_jobs(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Changes, CommitError> {
        let (limits, now) = (self.limits, self.clock.now());
        let mut batch = WriteBatch::begin(&mut self.connection, limits, now, self.totals)?;
        for job in jobs {
            job.run(&mut batch)?;
        }
        let committed = batch.commit()?;
        Ok(self.apply_commit(committed))
    }

    fn apply_commit(&mut self, committed: Committed) -> Changes {
        let Committed { changes, totals, removed } = committed;
        self.totals = totals;
        self.wal.removed |= removed;
        changes
    }

    /// Records a failure before the replies are sent.
    fn record_failure(&mut self, error: &rusqlite::Error, bytes: usize) -> CommitOutcome {
        self.health.note_damage(error);
        // The failed write may have extended the log.
        self.wal.refresh_length();
        let reason = error_summary(error);
        if self.health.set_write_error(Some(Arc::clone(&reason))).is_none() {
            tracing::error!(%error, "the store cannot be written");
        }
        self.unstored_bytes = self.unstored_bytes.max(bytes);
        CommitOutcome::NotStored(reason)
    }

    /// Determines the outcome of a transaction whose COMMIT failed. Its last page may be on the disk,
    /// where the next server would recover it. A further transaction settles this: once it is durable,
    /// what this connection reads is the state of the store, also after a restart.
    fn resolve_commit(
        &mut self,
        error: &rusqlite::Error,
        bytes: usize,
        committed: Committed,
    ) -> (CommitOutcome, Changes) {
        if is_certainly_not_stored(error, self.wal.is_reused(&self.connection)) {
            return (self.record_failure(error, bytes), Vec::new());
        }
        let reason = error_summary(error);
        match self.commit_probe(&committed.changes) {
            Ok(true) => (CommitOutcome::Stored, self.apply_commit(committed)),
            Ok(false) => (self.record_failure(error, bytes), Vec::new()),
            Err(probe) => {
                tracing::error!(%error, %probe, "it is unknown whether a transaction was stored");
                self.record_failure(&probe, bytes);
                (CommitOutcome::Unknown(reason), Vec::new())
            }
        }
    }

    /// Commits a write durably; returns whether these changes are in the store.
    fn commit_probe(&mut self, changes: &[(StreamName, Change)]) -> rusqlite::Result<bool> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let stored = are_stored(&tx, changes)?;
        wal::probe_write(&tx)?;
        tx.commit()?;
        Ok(stored)
    }

    /// Clears the failure after a commit, if the disk has room for as much as failed before: a disk
    /// that is nearly full still accepts small writes.
    fn clear_failure(&mut self, stored: usize) {
        if !self.health.has_write_error() {
            return;
        }
        if stored < self.unstored_bytes {
            if self.last_space_probe.elapsed() < PROBE_INTERVAL {
                return;
            }
            self.last_space_probe = Instant::now();
            if let Err(error) = self.probe_space() {
                tracing::debug!(%error, bytes = self.unstored_bytes, "the disk has no room yet");
                return;
            }
        }
        self.unstored_bytes = 0;
        self.health.set_write_error(None);
        tracing::info!("the store can be written again");
    }

    /// Writes as many bytes as failed before, and rolls back.
    fn probe_space(&mut self) -> rusqlite::Result<()> {
        let attempt = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        attempt.execute("CREATE TABLE room (filler BLOB)", [])?;
        attempt.execute(
            "INSERT INTO room VALUES (zeroblob(?1))",
            [self.unstored_bytes + COMMIT_OVERHEAD_BYTES],
        )?;
        attempt.cache_flush()?;
        attempt.rollback()
    }

    /// Updates the metrics after a commit, and logs a slow one, which delays every publisher.
    fn record_metrics(&self, changes: &[(StreamName, Change)], took: Duration) {
        let messages = changes.iter().map(|(_, change)| match change {
            Change::Appended { messages, .. } => messages.len(),
            Change::Ended { .. } | Change::Deleted { .. } => 0,
        });
        let messages = messages.sum();
        if took > SLOW_COMMIT {
            let duration_ms = took.as_millis();
            let changes = changes.len();
            tracing::warn!(duration_ms, messages, changes, "a transaction was slow to store");
        }
        self.metrics.committed(messages, took);
    }
}
