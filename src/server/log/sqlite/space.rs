//! Disk space: the write-ahead log is kept short, nothing stays in the files of what was deleted, and
//! pages that are no longer needed are given back.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{file::BUSY, scrub};

/// After how many pages in the write-ahead log they are moved into the file.
const CHECKPOINT_FRAMES: u64 = 1000;
/// After how many pages it is begun anew though there are readers. `SQLite` does so by itself, but
/// only in a moment without readers, which may be long in coming.
const RESTART_FRAMES: u64 = 16 * 1024;
/// How long the writer waits for that moment, and publishers with it.
const NO_READERS: Duration = Duration::from_millis(20);
/// How long it leaves them alone when there was none.
const AGAIN: Duration = Duration::from_secs(1);

/// How many pages are scrubbed in one transaction.
const SCRUB: usize = 512;

/// Free pages that stay in the file: what is trimmed makes room for what is published next. So many,
/// and one of so many that the file has.
const FREE_PAGES: u64 = 128;
const FREE_SHARE: u64 = 64;
/// How many pages are given back in one transaction at the most, and for how long.
const GIVE_BACK: u64 = 1024;
const GIVE_BACK_TIME: Duration = Duration::from_millis(5);

/// What the writer knows of the write-ahead log. It is the writer that moves it into the file: it has
/// to see each page once before that.
#[derive(Debug)]
pub(super) struct WriteAheadLog {
    /// None in memory.
    path: Option<PathBuf>,
    /// Whether something was removed from the tables whose text may still be in it.
    pub(super) removed: bool,
    /// How many of its pages are among the changed ones.
    collected: u64,
    /// Pages that were changed and have still to be scrubbed.
    changed: BTreeSet<u32>,
    /// Pages of which it is not known whether they were.
    unknown: Range<u32>,
    /// When beginning it anew was tried last.
    tried: Option<Instant>,
}

/// How far purging came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purged {
    /// Nothing is left of what was removed.
    Done,
    /// There is more to do.
    More,
    /// A reader is in the way: later.
    Busy,
}

impl WriteAheadLog {
    /// After a server that was killed it is not known which of `unknown` pages were changed.
    pub(super) fn new(path: Option<PathBuf>, unknown: u32) -> Self {
        let (changed, unknown) = (BTreeSet::new(), 1..unknown.saturating_add(1));
        Self { path, removed: false, collected: 0, changed, unknown, tried: None }
    }

    /// Whether what is written next may go over what was in it before it was begun anew.
    pub(super) fn is_reused(&self, connection: &Connection) -> bool {
        let Some(path) = &self.path else { return false };
        let Ok(Length { frames, moved, .. }) = checkpoint(connection, "NOOP") else { return true };
        let used = if frames == moved { 0 } else { scrub::wal_length(frames) };
        fs::metadata(path).map_or(true, |wal| wal.len() > used)
    }

    /// Moves it into the file when it has become long.
    pub(super) fn keep_short(&mut self, connection: &Connection) {
        if let Err(error) = self.checkpoint_if_long(connection) {
            tracing::debug!(%error, "the write-ahead log cannot be moved into the file");
        }
    }

    fn checkpoint_if_long(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Length { frames, moved } = checkpoint(connection, "NOOP")?;
        if frames - moved < CHECKPOINT_FRAMES {
            return Ok(());
        }
        self.collect(frames);
        let is_due = self.tried.is_none_or(|tried| tried.elapsed() > AGAIN);
        let now = if frames > RESTART_FRAMES && is_due {
            self.tried = Some(Instant::now());
            let _ = connection.busy_timeout(NO_READERS);
            let restarted = checkpoint(connection, "RESTART");
            let _ = connection.busy_timeout(BUSY);
            restarted?
        } else {
            checkpoint(connection, "PASSIVE")?
        };
        if now.moved == now.frames {
            // The next transaction may begin it anew.
            self.collected = 0;
        }
        Ok(())
    }

    /// Notes which pages it holds.
    fn collect(&mut self, frames: u64) {
        let Some(path) = &self.path else { return };
        let from = if frames < self.collected { 0 } else { self.collected };
        match scrub::pages_in(path, from, frames) {
            Ok(mut pages) => self.changed.append(&mut pages),
            Err(error) => tracing::warn!(%error, "the write-ahead log cannot be read"),
        }
        self.collected = frames;
    }

    /// Does a part of what it takes until nothing is left in the files of what was removed.
    pub(super) fn purge(&mut self, connection: &mut Connection) -> Purged {
        self.purge_some(connection).unwrap_or_else(|error| {
            tracing::debug!(%error, "what was removed cannot be purged yet");
            Purged::Busy
        })
    }

    fn purge_some(&mut self, connection: &mut Connection) -> rusqlite::Result<Purged> {
        if self.path.is_none() {
            return Ok(Purged::Done);
        }
        let Length { frames, .. } = checkpoint(connection, "NOOP")?;
        self.collect(frames);
        if self.changed.len() < SCRUB {
            self.changed.extend(self.unknown.by_ref().take(SCRUB));
        }
        if !scrub::is_possible(connection)? {
            self.changed.clear();
        }
        if !self.changed.is_empty() {
            let some: Vec<u32> = self.changed.iter().copied().take(SCRUB).collect();
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for page in &some {
                scrub::page(&tx, *page)?;
            }
            tx.commit()?;
            for page in &some {
                self.changed.remove(page);
            }
            return Ok(Purged::More);
        }
        if self.removed {
            let _ = connection.busy_timeout(NO_READERS);
            let emptied = checkpoint(connection, "TRUNCATE");
            let _ = connection.busy_timeout(BUSY);
            let Length { frames, moved } = emptied?;
            if frames != moved {
                return Ok(Purged::Busy);
            }
            (self.removed, self.collected) = (false, 0);
        }
        Ok(Purged::Done)
    }
}

/// How many pages a write-ahead log has, and how many of them were moved into the file.
struct Length {
    frames: u64,
    moved: u64,
}

/// Moves what is in the write-ahead log into the file, as far as the mode does.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Length> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    // Negative without such a log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection.prepare_cached(&sql)?.query_row([], |row| {
        let busy: bool = row.get(0)?;
        let (frames, moved) = (number(row.get(1)?), number(row.get(2)?));
        // One that was moved but not begun anew counts as busy too.
        Ok(Length { frames: frames + u64::from(busy && frames == moved), moved })
    })
}

/// Writes something, even if nothing changes: `SQLite` leaves out what is the same as before.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<usize> {
    connection.prepare_cached("UPDATE store SET probe = 1 - probe")?.execute([])
}

/// Gives back some of the pages that are free beyond a reserve; tells whether there are more.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    let surplus = free.saturating_sub(FREE_PAGES + pages / FREE_SHARE);
    if surplus == 0 {
        return Ok(false);
    }
    let begun = Instant::now();
    let mut given = 0;
    // Each step of the statement gives back one page.
    let sql = format!("PRAGMA incremental_vacuum({})", surplus.min(GIVE_BACK));
    let mut vacuum = connection.prepare(&sql)?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {
        given += 1;
        if begun.elapsed() > GIVE_BACK_TIME {
            break;
        }
    }
    Ok(given < surplus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::log::{Store, sqlite::file::Location};

    #[test]
    fn touching_always_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (location, _claim) =
            Location::claim(Store::File(folder.path().join("tidings.db"))).expect("a store");
        let opened = location.open_to_write().expect("a connection");
        let frames = || checkpoint(&opened.connection, "NOOP").expect("a length").frames;
        for _ in 0..3 {
            let before = frames();
            touch(&opened.connection).expect("written");
            assert!(frames() > before);
        }
    }
}
