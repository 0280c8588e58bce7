//! Writing: everything that waits is one transaction.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    super::{Change, Clock, Limits, Observer, Refusal, Stored},
    PROBE, Trouble,
    file::{BUSY, Claim},
    group::Group,
    what_happened,
};

/// About how many bytes one transaction takes before it is closed.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// After how many bytes the write-ahead log is begun anew. `SQLite` does so by itself, but only in
/// a moment without readers, which may be long in coming.
const LOG_BYTES: usize = 64 * 1024 * 1024;
/// About how many bytes a transaction writes beside what it brings: some pages, whole.
const PER_COMMIT: usize = 16 * 1024;
/// How long the writer waits for that moment.
const NO_READERS: Duration = Duration::from_secs(1);
/// A transaction that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_millis(100);

/// What the writer is asked to do.
pub(super) enum Op {
    /// A part of the next transaction.
    Work {
        /// About how many bytes it brings.
        size: usize,
        work: Work,
    },
    /// Stop, once what came before is done.
    Close,
}

/// Does its part, and gives back how to answer once that is stored. If it is not, the answer is
/// dropped, and who waits for it sees that: not before the trouble is known.
pub(super) type Work = Box<dyn FnOnce(&mut Group<'_>) -> (rusqlite::Result<()>, Answer) + Send>;
pub(super) type Answer = Box<dyn FnOnce() + Send>;

impl Op {
    /// Something to do, and where its answer will be.
    pub(super) fn new<T: Send + 'static>(
        size: usize,
        act: impl FnOnce(&mut Group<'_>) -> rusqlite::Result<Result<T, Refusal>> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |group| match act(group) {
            // Who does not wait any more does not hear it.
            Ok(outcome) => (Ok(()), Box::new(move || drop(reply.send(outcome)))),
            Err(error) => (Err(error), Box::new(move || drop(reply))),
        });
        (Self::Work { size, work }, answer)
    }
}

/// The thread that writes.
pub(super) struct Writer {
    connection: Connection,
    /// Goes after the connection: nobody opens a file that is not closed yet.
    _claim: Claim,
    limits: Limits,
    clock: Clock,
    trouble: Trouble,
    /// About how many bytes were written since the write-ahead log was begun anew.
    written: usize,
    /// How many bytes did not fit the disk, while the store is in trouble, and when it was last
    /// tried whether they do.
    unstored: usize,
    tried: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        claim: Claim,
        limits: Limits,
        clock: Clock,
        trouble: Trouble,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self {
            connection,
            _claim: claim,
            limits,
            clock,
            trouble,
            written: 0,
            unstored: 0,
            tried: Instant::now(),
        }
    }

    /// Serves until it is told to close, or until nobody can ask any more.
    pub(super) fn run(mut self, mut ops: mpsc::Receiver<Op>, mut observer: impl Observer) {
        while let Some(first) = ops.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(Op::Work { size, work }) = next {
                group.push(work);
                bytes += size;
                next = if bytes < GROUP_BYTES { ops.try_recv().ok() } else { None };
            }
            self.trouble.set_storing(true);
            self.serve(group, bytes, &mut observer);
            self.written += bytes + PER_COMMIT;
            if self.written > LOG_BYTES {
                self.begin_log_anew();
            }
            self.trouble.set_storing(false);
            if let Some(Op::Close) = next {
                return;
            }
        }
    }

    /// A failure changes nothing: the log goes on to grow, and this is tried again later.
    fn begin_log_anew(&mut self) {
        self.written = 0;
        let _ = self.connection.busy_timeout(NO_READERS);
        let done = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::debug!(%error, "the write-ahead log can not be begun anew");
        }
        let _ = self.connection.busy_timeout(BUSY);
    }

    /// Stores, acknowledges, fans out: in this order, always.
    fn serve(&mut self, group: Vec<Work>, bytes: usize, observer: &mut impl Observer) {
        let (mut group, mut answers) = (group.into_iter(), Vec::new());
        let begun = Instant::now();
        match self.store(&mut group, &mut answers) {
            Ok(changes) => {
                self.recover(bytes);
                observer.stored(stored(&changes, begun.elapsed()));
                for answer in answers {
                    answer();
                }
                for change in changes {
                    observer.changed(change);
                }
            }
            Err(error) => {
                if self.trouble.set(Some(what_happened(&error))).is_none() {
                    tracing::error!(%error, "the store can not be written");
                }
                self.unstored = self.unstored.max(bytes);
            }
        }
    }

    /// What was stored just now ends a trouble, if it was as much as what could not be stored: a
    /// disk that is nearly full still takes small things.
    fn recover(&mut self, stored: usize) {
        if self.trouble.get().is_none() {
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
        self.trouble.set(None);
        tracing::info!("the store can be written again");
    }

    /// Writes as many bytes as could not be stored, and takes them back.
    fn try_room(&mut self) -> rusqlite::Result<()> {
        let attempt = self.connection.transaction()?;
        attempt.execute("CREATE TABLE room (filler BLOB)", [])?;
        attempt.execute("INSERT INTO room VALUES (zeroblob(?1))", [self.unstored + PER_COMMIT])?;
        attempt.cache_flush()?;
        attempt.rollback()
    }

    /// Both stay with the caller, so that nobody hears of a failure from the answer that is not
    /// given.
    fn store(
        &mut self,
        group: &mut impl Iterator<Item = Work>,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<Vec<Change>> {
        let mut transaction = Group::begin(&mut self.connection, self.limits, self.clock.now())?;
        for work in group {
            let (done, answer) = work(&mut transaction);
            answers.push(answer);
            done?;
        }
        transaction.commit()
    }
}

/// What a transaction took. One that was slow kept everyone waiting who publishes.
fn stored(changes: &[Change], took: Duration) -> Stored {
    let messages = changes.iter().map(|change| match change {
        Change::Appended { messages, .. } => messages.len(),
        Change::Ended { .. } | Change::Deleted { .. } => 0,
    });
    let messages = messages.sum();
    if took > SLOW {
        let duration_ms = took.as_millis();
        tracing::warn!(
            duration_ms,
            messages,
            changes = changes.len(),
            "the disk was slow to store"
        );
    }
    Stored { messages, took }
}
