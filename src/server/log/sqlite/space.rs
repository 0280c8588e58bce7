//! Disk space: the write-ahead log is kept short and free of what was deleted, and pages that are no
//! longer needed are given back.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::file::BUSY;

/// After how many bytes the write-ahead log is begun anew. `SQLite` does so by itself, but only in a
/// moment without readers, which may be long in coming.
const LOG_BYTES: usize = 64 * 1024 * 1024;
/// How long the writer waits for that moment, and publishers with it.
const NO_READERS: Duration = Duration::from_millis(20);
/// How long it leaves them alone when there was none.
const AGAIN: Duration = Duration::from_secs(1);

/// Free pages that stay in the file: what is trimmed makes room for what is published next. So many,
/// and one of so many that the file has.
const FREE_PAGES: u64 = 128;
const FREE_SHARE: u64 = 64;
/// How many pages are given back in one transaction at the most, and for how long.
const GIVE_BACK: u64 = 1024;
const GIVE_BACK_TIME: Duration = Duration::from_millis(5);

/// What the writer knows of the write-ahead log.
#[derive(Debug, Default)]
pub(super) struct WriteAheadLog {
    /// Whether something was removed from the tables whose text may still be in it.
    pub(super) removed: bool,
    /// About how many bytes were written since it was begun anew.
    bytes: usize,
    /// When beginning it anew was tried last.
    tried: Option<Instant>,
}

impl WriteAheadLog {
    /// Notes that about so many bytes were written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Begins it anew when it has become long. Where a reader is in the way it goes on to grow, and
    /// that is tried again later.
    pub(super) fn restart_if_large(&mut self, connection: &Connection) {
        let is_due = self.tried.is_none_or(|tried| tried.elapsed() > AGAIN);
        if self.bytes > LOG_BYTES && is_due {
            self.tried = Some(Instant::now());
            if checkpoint(connection, "RESTART") {
                self.bytes = 0;
            }
        }
    }

    /// Empties it if anything was removed; tells whether all of that is gone.
    pub(super) fn purge(&mut self, connection: &Connection) -> bool {
        if self.removed && checkpoint(connection, "TRUNCATE") {
            self.removed = false;
            self.bytes = 0;
        }
        !self.removed
    }
}

/// Moves what is in the write-ahead log into the file; tells whether all of it went. The log can be
/// written from its beginning afterwards.
fn checkpoint(connection: &Connection, mode: &str) -> bool {
    let _ = connection.busy_timeout(NO_READERS);
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let busy = connection.query_row(&sql, [], |row| row.get::<_, bool>(0));
    let _ = connection.busy_timeout(BUSY);
    match busy {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::debug!(%error, mode, "the write-ahead log cannot be emptied");
            false
        }
    }
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
        let frames = || -> i64 {
            let sql = "PRAGMA wal_checkpoint(NOOP)";
            opened.connection.query_row(sql, [], |row| row.get(1)).expect("a number")
        };
        for _ in 0..3 {
            let before = frames();
            touch(&opened.connection).expect("written");
            assert!(frames() > before);
        }
    }
}
