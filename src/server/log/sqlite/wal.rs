//! Write-ahead log: checkpoints, which keep it short, and the purge of deleted text from it and from
//! the file.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    health::{Health, error_summary},
    scrub::{self, WalPosition},
};

/// How long a connection waits for a lock. Only a check or a recovery holds one for long.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// A checkpoint is due when the write-ahead log has this number of frames (pages).
const CHECKPOINT_FRAMES: u64 = 1000;
/// Above this number of frames the log is restarted actively. `SQLite` restarts it by itself, but only
/// at a moment without readers, which may not come for a long time.
const RESTART_FRAMES: u64 = 16 * 1024;
/// How long the writer, and publishers with it, waits for readers to finish.
const READER_WAIT: Duration = Duration::from_millis(20);
/// The pause before it waits for readers again.
const RESTART_RETRY: Duration = Duration::from_secs(1);

/// Pages that are scrubbed in one transaction.
const SCRUB_PAGES: usize = 512;

/// The writer's state of the write-ahead log. Only the writer runs checkpoints, because it must record
/// every changed page before that.
#[derive(Debug)]
pub(super) struct WriteAheadLog {
    /// None in memory.
    path: Option<PathBuf>,
    /// Its size in bytes after the last checkpoint. Not read at each commit: when a file's metadata is
    /// read between two writes, Linux 6.13 and later also write its times, and each flush takes a fifth
    /// longer.
    length: u64,
    /// Whether messages were removed from the tables whose text may still be in the log.
    pub(super) removed: bool,
    /// The position up to which its pages are in `changed`.
    read_position: WalPosition,
    /// Pages that were changed and must still be scrubbed.
    changed: BTreeSet<u32>,
    /// Pages of which it is unknown whether they were changed. They must be scrubbed too.
    maybe_changed: Range<u32>,
    /// When a restart of the log was last attempted.
    last_restart: Option<Instant>,
    /// When the last checkpoint failed, until one succeeds.
    last_failure: Option<Instant>,
}

/// The result of a purge step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PurgeProgress {
    /// No removed text is left in the files.
    Done,
    /// More steps are needed.
    More,
    /// A reader blocks it, or the disk failed: retry later.
    Busy,
}

impl WriteAheadLog {
    /// The first `maybe_changed` pages may have been changed. With `has_leftover_wal`, an earlier server
    /// has left a write-ahead log, which may contain removed text.
    pub(super) fn new(path: Option<PathBuf>, has_leftover_wal: bool, maybe_changed: u32) -> Self {
        let mut log = Self {
            path,
            length: 0,
            removed: has_leftover_wal,
            read_position: WalPosition::default(),
            changed: BTreeSet::new(),
            maybe_changed: 1..maybe_changed.saturating_add(1),
            last_restart: None,
            last_failure: None,
        };
        log.refresh_length();
        log
    }

    /// Whether all pages are scrubbed.
    pub(super) fn is_scrubbed(&self) -> bool {
        self.changed.is_empty() && self.maybe_changed.is_empty()
    }

    /// Whether writes since the last commit may have overwritten frames from before the last restart
    /// of the log. True if that is unknown.
    pub(super) fn is_reused(&self, connection: &Connection) -> bool {
        let Ok(Checkpoint { frames, checkpointed, .. }) = checkpoint(connection, "NOOP") else {
            return true;
        };
        let written = if frames == 0 { 0 } else { scrub::wal_length(frames) };
        self.length.max(written) > if frames == checkpointed { 0 } else { written }
    }

    /// Reads the size of the log.
    pub(super) fn refresh_length(&mut self) {
        let Some(path) = &self.path else { return };
        // An unknown size counts as the maximum: any old frames may be in the log.
        self.length = fs::metadata(path).map_or(u64::MAX, |wal| wal.len());
    }

    /// Runs a checkpoint when the log has become long.
    pub(super) fn checkpoint_if_due(&mut self, connection: &Connection, health: &Health) {
        // Failed checkpoints have been logged as errors already.
        if let Err(error) = self.try_checkpoint(connection, health) {
            tracing::debug!(%error, "a checkpoint of the write-ahead log failed");
        }
    }

    fn try_checkpoint(&mut self, connection: &Connection, health: &Health) -> rusqlite::Result<()> {
        let Checkpoint { frames, checkpointed, .. } = checkpoint(connection, "NOOP")?;
        let is_due = match self.last_failure {
            Some(last_failure) => last_failure.elapsed() >= RESTART_RETRY,
            None => frames.saturating_sub(checkpointed) >= CHECKPOINT_FRAMES,
        };
        if !is_due {
            return Ok(());
        }
        self.collect_changed(connection, frames)?;
        let may_wait =
            self.last_restart.is_none_or(|last_restart| last_restart.elapsed() > RESTART_RETRY);
        if frames > RESTART_FRAMES && may_wait {
            self.last_restart = Some(Instant::now());
            self.run_checkpoint(connection, "RESTART", health)?;
        } else {
            self.run_checkpoint(connection, "PASSIVE", health)?;
        }
        Ok(())
    }

    /// Runs a checkpoint. If it fails, messages stay in the log, which grows: this is logged, and makes
    /// the server not ready.
    fn run_checkpoint(
        &mut self,
        connection: &Connection,
        mode: &str,
        health: &Health,
    ) -> rusqlite::Result<Checkpoint> {
        let _ = connection.busy_timeout(READER_WAIT);
        let outcome = checkpoint(connection, mode);
        let _ = connection.busy_timeout(BUSY_TIMEOUT);
        self.refresh_length();
        match &outcome {
            Ok(length) if length.frames == length.checkpointed => {
                self.last_failure = None;
                if health.set_checkpoint_error(None).is_some() {
                    tracing::info!("the file of the store can be written again");
                }
            }
            // A reader blocked a part of it.
            Ok(_) => {}
            Err(error) => {
                self.last_failure = Some(Instant::now());
                health.note_damage(error);
                if health.set_checkpoint_error(Some(error_summary(error))).is_none() {
                    tracing::error!(
                        %error,
                        "the file of the store cannot be written: its write-ahead log grows"
                    );
                }
            }
        }
        outcome
    }

    /// Adds the pages in the log to `changed`; returns how many are new.
    fn collect_changed(&mut self, connection: &Connection, frames: u64) -> rusqlite::Result<usize> {
        let Some(path) = &self.path else { return Ok(0) };
        let before = self.changed.len();
        match scrub::new_pages(path, &mut self.read_position, frames) {
            Ok(mut pages) => self.changed.append(&mut pages),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log cannot be read");
                let pages: u32 =
                    connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
                self.maybe_changed = 1..pages.saturating_add(1);
            }
        }
        Ok(self.changed.len() - before)
    }

    /// Does one step of removing deleted text from the files.
    pub(super) fn purge(&mut self, connection: &mut Connection, health: &Health) -> PurgeProgress {
        self.try_purge(connection, health).unwrap_or_else(|error| {
            tracing::debug!(%error, "removed text cannot be purged yet");
            health.note_damage(&error);
            PurgeProgress::Busy
        })
    }

    fn try_purge(
        &mut self,
        connection: &mut Connection,
        health: &Health,
    ) -> rusqlite::Result<PurgeProgress> {
        if self.path.is_none() {
            return Ok(PurgeProgress::Done);
        }
        let Checkpoint { frames, .. } = checkpoint(connection, "NOOP")?;
        // More than was written meanwhile, so that the purge ends even under load.
        let max = SCRUB_PAGES.max(2 * self.collect_changed(connection, frames)?);
        if self.changed.len() < max {
            self.changed.extend(self.maybe_changed.by_ref().take(SCRUB_PAGES));
        }
        if !scrub::is_supported(connection)? {
            self.changed.clear();
            self.maybe_changed = 0..0;
        }
        let some: Vec<u32> = self.changed.iter().copied().take(max).collect();
        if !some.is_empty() {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for page in &some {
                scrub::scrub_page(&tx, *page)?;
            }
            tx.commit()?;
            for page in &some {
                self.changed.remove(page);
            }
        }
        if !self.is_scrubbed() {
            return Ok(PurgeProgress::More);
        }
        if self.removed {
            if self.run_checkpoint(connection, "TRUNCATE", health)?.busy {
                return Ok(PurgeProgress::Busy);
            }
            self.removed = false;
        }
        Ok(PurgeProgress::Done)
    }
}

/// The result of a checkpoint: how many frames the log has, and how many of them are in the file.
struct Checkpoint {
    frames: u64,
    checkpointed: u64,
    /// Whether a reader blocked it.
    busy: bool,
}

/// Runs `PRAGMA wal_checkpoint` in a mode; `NOOP` moves nothing and only returns the numbers.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Checkpoint> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    // Negative without a write-ahead log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection.prepare_cached(&sql)?.query_row([], |row| {
        Ok(Checkpoint {
            busy: row.get(0)?,
            frames: number(row.get(1)?),
            checkpointed: number(row.get(2)?),
        })
    })
}

/// Makes the transaction write a page. It changes a value, because `SQLite` skips unchanged pages.
pub(super) fn probe_write(connection: &Connection) -> rusqlite::Result<usize> {
    connection.prepare_cached("UPDATE store SET probe = 1 - probe")?.execute([])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::log::sqlite::{
        file::{Location, OpenedStore, StoreLock},
        schema::{CLEAN, UNCLEAN, UNSCRUBBED},
    };

    fn open(folder: &Path) -> (StoreLock, OpenedStore) {
        let store = Some(folder.join("tidings.db"));
        let (location, lock) = Location::lock(store).expect("a store");
        (lock, location.open_to_write().expect("a connection"))
    }

    #[test]
    fn a_probe_always_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_lock, opened) = open(folder.path());
        let frames = || checkpoint(&opened.connection, "NOOP").expect("a length").frames;
        for _ in 0..3 {
            let before = frames();
            probe_write(&opened.connection).expect("written");
            assert!(frames() > before);
        }
    }

    /// Even while messages are published.
    #[test]
    fn a_purge_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_lock, OpenedStore { mut connection, mut wal, .. }) = open(folder.path());
        let health = Health::default();
        let mut key = 0;
        // More pages than one step scrubs.
        let mut publish = |connection: &Connection| {
            for _ in 0..2 * SCRUB_PAGES {
                let insert = "INSERT INTO messages VALUES (?1, 0, ?2)";
                connection.execute(insert, (key, "x".repeat(3000))).expect("stored");
                key += 1;
            }
        };
        for _ in 0..3 {
            connection.execute_batch("BEGIN").expect("begun");
            publish(&connection);
            connection.execute_batch("COMMIT").expect("stored");
            wal.collect_changed(&connection, 100).expect("readable");
        }
        wal.removed = true;
        let mut steps = 0;
        while wal.purge(&mut connection, &health) != PurgeProgress::Done {
            connection.execute_batch("BEGIN").expect("begun");
            publish(&connection);
            connection.execute_batch("COMMIT").expect("stored");
            steps += 1;
            assert!(steps < 20, "the purge does not end");
        }
        assert!(!wal.removed && wal.is_scrubbed());
        assert_eq!(fs::metadata(folder.path().join("tidings.db-wal")).expect("a file").len(), 0);
    }

    #[test]
    fn overwriting_of_old_frames_is_detected() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_lock, OpenedStore { connection, mut wal, .. }) = open(folder.path());
        let health = Health::default();
        for (mode, reused) in [("NOOP", false), ("PASSIVE", true), ("NOOP", true)] {
            for _ in 0..3 {
                probe_write(&connection).expect("written");
            }
            wal.run_checkpoint(&connection, mode, &health).expect("moved");
            assert_eq!(wal.is_reused(&connection), reused, "{mode}");
        }
        // Six frames were written before the restart, and three since.
        for reused in [true, true, true, false, false] {
            assert_eq!(wal.is_reused(&connection), reused);
            probe_write(&connection).expect("written");
        }
        wal.run_checkpoint(&connection, "TRUNCATE", &health).expect("moved");
        assert!(!wal.is_reused(&connection));
    }

    /// A restarted log is read from its beginning, whatever its length before.
    #[test]
    fn every_changed_page_is_recorded() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_lock, OpenedStore { connection, mut wal, .. }) = open(folder.path());
        let frames = || checkpoint(&connection, "NOOP").expect("a length").frames;
        let write_page = || probe_write(&connection).expect("written");
        write_page();
        wal.collect_changed(&connection, frames()).expect("readable");
        wal.changed.clear();
        // Restarted without its knowledge, and with as many frames as before.
        let before = frames();
        checkpoint(&connection, "TRUNCATE").expect("moved");
        while frames() < before {
            write_page();
        }
        assert!(wal.collect_changed(&connection, frames()).expect("readable") > 0);
        assert_eq!(
            wal.collect_changed(&connection, frames()).expect("readable"),
            0,
            "they are recorded already"
        );
    }

    /// The next server scrubs the remaining pages. Only after a crash is the file checked before its use.
    #[test]
    fn unscrubbed_pages_are_scrubbed_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path()));
        for (shutdown_state, unchecked, scrubbed) in
            [(UNCLEAN, false, false), (CLEAN, true, true), (UNSCRUBBED, true, false)]
        {
            let (lock, OpenedStore { connection, .. }) = open(folder.path());
            connection.execute("UPDATE store SET clean = ?1", [shutdown_state]).expect("stored");
            drop((connection, lock));
            let (_lock, opened) = open(folder.path());
            assert_eq!((opened.unchecked, opened.wal.is_scrubbed()), (unchecked, scrubbed));
        }
    }
}
