//! The write-ahead log: it is kept short, and nothing stays in it, or in the file, of what was deleted.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    health::{Health, what_happened},
    scrub::{self, WalPosition},
};

/// How long a connection waits for another one: only while a file is checked or recovered.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// After how many pages in the write-ahead log they are moved into the file.
const CHECKPOINT_FRAMES: u64 = 1000;
/// After how many pages it is begun anew though there are readers. `SQLite` does so by itself, but
/// only in a moment without readers, which may be long in coming.
const RESTART_FRAMES: u64 = 16 * 1024;
/// How long the writer waits for that moment, and publishers with it.
const NO_READERS: Duration = Duration::from_millis(20);
/// How long it leaves them alone when there was none.
const RESTART_RETRY: Duration = Duration::from_secs(1);

/// How many pages are scrubbed in one transaction.
const SCRUB: usize = 512;

/// What the writer knows of the write-ahead log. It is the writer that moves it into the file: it has
/// to see each page once before that.
#[derive(Debug)]
pub(super) struct WriteAheadLog {
    /// None in memory.
    path: Option<PathBuf>,
    /// How many bytes it had when it was looked at, after it was moved into the file. Not at each commit:
    /// where a file is looked at between two writes, Linux 6.13 and later write its times with the next
    /// one, and the flush of each message takes a fifth longer.
    length: u64,
    /// Whether something was removed from the tables whose text may still be in it.
    pub(super) removed: bool,
    /// How far its pages are among the changed ones.
    collected: WalPosition,
    /// Pages that were changed and have still to be scrubbed.
    changed: BTreeSet<u32>,
    /// Pages of which it is not known whether they were.
    unknown: Range<u32>,
    /// When beginning it anew was tried last.
    tried: Option<Instant>,
    /// When it could not be moved into the file.
    failed: Option<Instant>,
}

/// How far purging came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purged {
    /// Nothing is left of what was removed.
    Done,
    /// There is more to do.
    More,
    /// A reader is in the way, or the disk failed: later.
    Busy,
}

impl WriteAheadLog {
    /// It is not known which of the first `unknown` pages were changed. Where a server before this one
    /// has left something written ahead, it may have been removed since.
    pub(super) fn new(path: Option<PathBuf>, was_left: bool, unknown: u32) -> Self {
        let mut log = Self {
            path,
            length: 0,
            removed: was_left,
            collected: WalPosition::default(),
            changed: BTreeSet::new(),
            unknown: 1..unknown.saturating_add(1),
            tried: None,
            failed: None,
        };
        log.measure();
        log
    }

    /// Whether no page has still to be scrubbed.
    pub(super) fn is_scrubbed(&self) -> bool {
        self.changed.is_empty() && self.unknown.is_empty()
    }

    /// Whether what was written after the last commit may have gone over what was in it before it was
    /// begun anew.
    pub(super) fn is_reused(&self, connection: &Connection) -> bool {
        let Ok(Length { frames, moved, .. }) = checkpoint(connection, "NOOP") else { return true };
        let written = if frames == 0 { 0 } else { scrub::wal_length(frames) };
        self.length.max(written) > if frames == moved { 0 } else { written }
    }

    /// Looks how long it is.
    pub(super) fn measure(&mut self) {
        let Some(path) = &self.path else { return };
        // Unknown is as long as can be: anything may be in it.
        self.length = fs::metadata(path).map_or(u64::MAX, |wal| wal.len());
    }

    /// Moves it into the file when it has become long.
    pub(super) fn checkpoint_if_due(&mut self, connection: &Connection, health: &Health) {
        // What is worth more than that is in the log already.
        if let Err(error) = self.checkpoint_if_long(connection, health) {
            tracing::debug!(%error, "the write-ahead log cannot be moved into the file");
        }
    }

    fn checkpoint_if_long(
        &mut self,
        connection: &Connection,
        health: &Health,
    ) -> rusqlite::Result<()> {
        let Length { frames, moved, .. } = checkpoint(connection, "NOOP")?;
        let is_due = match self.failed {
            Some(failed) => failed.elapsed() >= RESTART_RETRY,
            None => frames.saturating_sub(moved) >= CHECKPOINT_FRAMES,
        };
        if !is_due {
            return Ok(());
        }
        self.collect(connection, frames)?;
        let may_wait = self.tried.is_none_or(|tried| tried.elapsed() > RESTART_RETRY);
        if frames > RESTART_FRAMES && may_wait {
            self.tried = Some(Instant::now());
            self.move_into_file(connection, "RESTART", health)?;
        } else {
            self.move_into_file(connection, "PASSIVE", health)?;
        }
        Ok(())
    }

    /// A checkpoint. Should it fail, what is published is kept in the log, which grows: that is said,
    /// and makes the server not ready.
    fn move_into_file(
        &mut self,
        connection: &Connection,
        mode: &str,
        health: &Health,
    ) -> rusqlite::Result<Length> {
        let _ = connection.busy_timeout(NO_READERS);
        let outcome = checkpoint(connection, mode);
        let _ = connection.busy_timeout(BUSY);
        self.measure();
        match &outcome {
            Ok(length) if length.frames == length.moved => {
                self.failed = None;
                if health.set_unmoved(None).is_some() {
                    tracing::info!("the file of the store can be written again");
                }
            }
            // A reader is in the way.
            Ok(_) => {}
            Err(error) => {
                self.failed = Some(Instant::now());
                health.note_damage(error);
                if health.set_unmoved(Some(what_happened(error))).is_none() {
                    tracing::error!(
                        %error,
                        "the file of the store cannot be written: its write-ahead log grows"
                    );
                }
            }
        }
        outcome
    }

    /// Notes which pages it holds; gives back how many are noted newly.
    fn collect(&mut self, connection: &Connection, frames: u64) -> rusqlite::Result<usize> {
        let Some(path) = &self.path else { return Ok(0) };
        let before = self.changed.len();
        match scrub::new_pages(path, &mut self.collected, frames) {
            Ok(mut pages) => self.changed.append(&mut pages),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log cannot be read");
                let pages: u32 =
                    connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
                self.unknown = 1..pages.saturating_add(1);
            }
        }
        Ok(self.changed.len() - before)
    }

    /// Does a part of what it takes until nothing is left in the files of what was removed.
    pub(super) fn purge(&mut self, connection: &mut Connection, health: &Health) -> Purged {
        self.purge_some(connection, health).unwrap_or_else(|error| {
            tracing::debug!(%error, "what was removed cannot be purged yet");
            health.note_damage(&error);
            Purged::Busy
        })
    }

    fn purge_some(
        &mut self,
        connection: &mut Connection,
        health: &Health,
    ) -> rusqlite::Result<Purged> {
        if self.path.is_none() {
            return Ok(Purged::Done);
        }
        let Length { frames, .. } = checkpoint(connection, "NOOP")?;
        // More than was written meanwhile: what is published at the same time puts off no end.
        let max = SCRUB.max(2 * self.collect(connection, frames)?);
        if self.changed.len() < max {
            self.changed.extend(self.unknown.by_ref().take(SCRUB));
        }
        if !scrub::is_possible(connection)? {
            self.changed.clear();
            self.unknown = 0..0;
        }
        let some: Vec<u32> = self.changed.iter().copied().take(max).collect();
        if !some.is_empty() {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for page in &some {
                scrub::page(&tx, *page)?;
            }
            tx.commit()?;
            for page in &some {
                self.changed.remove(page);
            }
        }
        if !self.is_scrubbed() {
            return Ok(Purged::More);
        }
        if self.removed {
            if self.move_into_file(connection, "TRUNCATE", health)?.busy {
                return Ok(Purged::Busy);
            }
            self.removed = false;
        }
        Ok(Purged::Done)
    }
}

/// How many pages a write-ahead log has, and how many of them were moved into the file.
struct Length {
    frames: u64,
    moved: u64,
    /// Whether a reader was in the way of what the mode does.
    busy: bool,
}

/// Moves what is in the write-ahead log into the file, as far as the mode does.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Length> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    // Negative without such a log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection.prepare_cached(&sql)?.query_row([], |row| {
        Ok(Length { busy: row.get(0)?, frames: number(row.get(1)?), moved: number(row.get(2)?) })
    })
}

/// Writes something, even if nothing changes: `SQLite` leaves out what is the same as before.
pub(super) fn probe_write(connection: &Connection) -> rusqlite::Result<usize> {
    connection.prepare_cached("UPDATE store SET probe = 1 - probe")?.execute([])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::log::{
        Store,
        sqlite::{
            file::{Claim, Location, Opened},
            schema::{CLEAN, UNCLEAN, UNSCRUBBED},
        },
    };

    fn open(folder: &Path) -> (Claim, Opened) {
        let store = Store::File(folder.join("tidings.db"));
        let (location, claim) = Location::claim(store).expect("a store");
        (claim, location.open_to_write().expect("a connection"))
    }

    #[test]
    fn a_probe_always_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_claim, opened) = open(folder.path());
        let frames = || checkpoint(&opened.connection, "NOOP").expect("a length").frames;
        for _ in 0..3 {
            let before = frames();
            probe_write(&opened.connection).expect("written");
            assert!(frames() > before);
        }
    }

    /// Whatever is published at the same time.
    #[test]
    fn purging_comes_to_an_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_claim, Opened { mut connection, mut wal, .. }) = open(folder.path());
        let health = Health::default();
        let mut key = 0;
        // Each time more than one step scrubs.
        let mut publish = |connection: &Connection| {
            for _ in 0..2 * SCRUB {
                let insert = "INSERT INTO messages VALUES (?1, 0, ?2)";
                connection.execute(insert, (key, "x".repeat(3000))).expect("stored");
                key += 1;
            }
        };
        for _ in 0..3 {
            connection.execute_batch("BEGIN").expect("begun");
            publish(&connection);
            connection.execute_batch("COMMIT").expect("stored");
            wal.collect(&connection, 100).expect("readable");
        }
        wal.removed = true;
        let mut steps = 0;
        while wal.purge(&mut connection, &health) != Purged::Done {
            connection.execute_batch("BEGIN").expect("begun");
            publish(&connection);
            connection.execute_batch("COMMIT").expect("stored");
            steps += 1;
            assert!(steps < 20, "it goes on and on");
        }
        assert!(!wal.removed && wal.is_scrubbed());
        assert_eq!(fs::metadata(folder.path().join("tidings.db-wal")).expect("a file").len(), 0);
    }

    #[test]
    fn it_is_known_whether_older_pages_are_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_claim, Opened { connection, mut wal, .. }) = open(folder.path());
        let health = Health::default();
        for (mode, reused) in [("NOOP", false), ("PASSIVE", true), ("NOOP", true)] {
            for _ in 0..3 {
                probe_write(&connection).expect("written");
            }
            wal.move_into_file(&connection, mode, &health).expect("moved");
            assert_eq!(wal.is_reused(&connection), reused, "{mode}");
        }
        // Six pages were written before it was begun anew, and three since.
        for reused in [true, true, true, false, false] {
            assert_eq!(wal.is_reused(&connection), reused);
            probe_write(&connection).expect("written");
        }
        wal.move_into_file(&connection, "TRUNCATE", &health).expect("moved");
        assert!(!wal.is_reused(&connection));
    }

    /// A log that was begun anew is read from its beginning, however long it was before.
    #[test]
    fn every_changed_page_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_claim, Opened { connection, mut wal, .. }) = open(folder.path());
        let frames = || checkpoint(&connection, "NOOP").expect("a length").frames;
        let touch = || probe_write(&connection).expect("written");
        touch();
        wal.collect(&connection, frames()).expect("readable");
        wal.changed.clear();
        // Behind its back, and with as many frames as before.
        let before = frames();
        checkpoint(&connection, "TRUNCATE").expect("moved");
        while frames() < before {
            touch();
        }
        assert!(wal.collect(&connection, frames()).expect("readable") > 0);
        assert_eq!(wal.collect(&connection, frames()).expect("readable"), 0, "they are known");
    }

    /// What a server has not come to, the next one does; a file is checked first only after a crash.
    #[test]
    fn what_is_not_scrubbed_yet_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path()));
        for (left, unchecked, scrubbed) in
            [(UNCLEAN, false, false), (CLEAN, true, true), (UNSCRUBBED, true, false)]
        {
            let (claim, Opened { connection, .. }) = open(folder.path());
            connection.execute("UPDATE store SET clean = ?1", [left]).expect("stored");
            drop((connection, claim));
            let (_claim, opened) = open(folder.path());
            assert_eq!((opened.unchecked, opened.wal.is_scrubbed()), (unchecked, scrubbed));
        }
    }
}
