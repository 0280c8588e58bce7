//! Whether the file is sound: `PRAGMA quick_check`, with its progress, before the file is served or
//! while it is.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use rusqlite::{Connection, ErrorCode};

use super::health::is_damage;

/// How often a check says how far it is.
const REPORT: Duration = Duration::from_secs(5);
/// After how many steps it looks at the clock, and whether it is to stop: a page that has to come from
/// a slow disk is a step.
const STEPS: u32 = 50;
/// After how many steps it looks at the length of the write-ahead log.
const LOOK_STEPS: u64 = 20 * STEPS as u64;
/// About how many steps it takes to look at a row, beside a step for each page.
const STEPS_PER_ROW: u64 = 17;
/// How long a check in the background works before it pauses for as long.
const WORK_TIME: Duration = Duration::from_millis(10);

/// Tells a check in the background to stop; a cheap clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub(super) fn stop(&self) {
        let (stopped, told) = &*self.0;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        told.notify_all();
    }

    pub(super) fn is_asked_for(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, but not longer than until it is told to stop.
    fn sleep(&self, pause: Duration) {
        let (stopped, told) = &*self.0;
        let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = told.wait_timeout_while(stopped, pause, |stopped| !*stopped);
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Sound,
    /// What is damaged.
    Damaged(String),
    /// It was stopped before it came to an end, or the write-ahead log has become too long.
    Stopped,
}

/// How a check goes about it.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As fast as can be: the server waits for it.
    Waiting,
    /// Half of the time, so that the disk has the other half for those who read and publish.
    Background {
        stop: Stop,
        /// The write-ahead log. It cannot be begun anew while the check reads the file as it was when
        /// the check began.
        wal: PathBuf,
        /// How many bytes it may have: then the check is given up.
        max_wal: u64,
    },
}

/// Reads the whole file, and says in the log how far it is.
///
/// # Errors
/// When it cannot be read at all.
pub(super) fn check(connection: &Connection, why: &str, pace: Pace) -> rusqlite::Result<Found> {
    let bytes = size(connection)?;
    let mut progress = Progress::new(bytes, steps(connection)?, why.to_owned());
    connection.progress_handler(
        i32::try_from(STEPS).unwrap_or(i32::MAX),
        Some(move || {
            progress.advance();
            match &pace {
                Pace::Background { stop, wal, max_wal } => {
                    if let Some(worked) = progress.has_worked() {
                        stop.sleep(worked);
                        progress.resumed = Instant::now();
                    }
                    let is_too_long = progress.done.is_multiple_of(LOOK_STEPS)
                        && fs::metadata(wal).is_ok_and(|wal| wal.len() > *max_wal);
                    is_too_long || stop.is_asked_for()
                }
                Pace::Waiting => false,
            }
        }),
    )?;
    let began = Instant::now();
    let found = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(found) if found == "ok" => {
            let duration_ms = began.elapsed().as_millis();
            tracing::debug!(duration_ms, bytes, why, "the store is sound");
            Ok(Found::Sound)
        }
        Ok(found) => Ok(Found::Damaged(found.replace('\n', " "))),
        Err(error) if is_damage(&error) => Ok(Found::Damaged(error.to_string())),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(Found::Stopped)
        }
        Err(error) => Err(error),
    }
}

/// How many bytes the file has, with what is written ahead of it.
pub(super) fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    connection.query_row(sql, [], |row| row.get(0))
}

/// About how many steps a check takes.
fn steps(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let rows: u64 =
        connection
            .query_row("SELECT coalesce(sum(count), 0) FROM streams", [], |row| row.get(0))?;
    Ok(pages + rows * STEPS_PER_ROW)
}

struct Progress {
    why: String,
    bytes: u64,
    done: u64,
    all: u64,
    /// Since when it has worked without a pause.
    resumed: Instant,
    reported: Instant,
}

impl Progress {
    fn new(bytes: u64, all: u64, why: String) -> Self {
        let now = Instant::now();
        Self { why, bytes, done: 0, all, resumed: now, reported: now }
    }

    /// Counts some steps.
    fn advance(&mut self) {
        self.done += u64::from(STEPS);
        if self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            tracing::info!(bytes = self.bytes, progress = %self, "checking the store: {}", self.why);
        }
    }

    /// How long it has worked, if that was long enough for a pause.
    fn has_worked(&self) -> Option<Duration> {
        Some(self.resumed.elapsed()).filter(|worked| *worked >= WORK_TIME)
    }
}

/// As far as it can be told beforehand how long it takes.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.done * 100 / self.all.max(1)).min(99);
        write!(f, "{percent} %")
    }
}

/// Reads the whole file before it is served, and refuses one that is damaged.
pub(super) fn refuse_damaged(connection: &Connection, why: &str) -> anyhow::Result<()> {
    match check(connection, why, Pace::Waiting)? {
        Found::Damaged(what) => bail!("it is damaged ({what}); restore it from a copy"),
        Found::Sound | Found::Stopped => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::log::{Store, sqlite::file::Location};

    #[test]
    fn a_check_in_the_background_ends_when_it_is_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let (location, _claim) =
            Location::claim(Store::File(folder.path().join("tidings.db"))).expect("a store");
        let mut writer = location.open_to_write().expect("a connection").connection;
        let tx = writer.transaction().expect("a transaction");
        for key in 0..5_000 {
            let insert = "INSERT INTO messages VALUES (?1, 0, 'text')";
            tx.execute(insert, [key]).expect("stored");
        }
        tx.commit().expect("stored");
        let reader = location.open_to_read().expect("a connection");
        let stop = Stop::default();
        let found = |max_wal| {
            let wal = location.wal().expect("a file");
            check(&reader, "a test", Pace::Background { stop: stop.clone(), wal, max_wal })
        };
        assert_eq!(found(u64::MAX), Ok(Found::Sound));
        assert_eq!(found(1000), Ok(Found::Stopped), "what is written ahead has become long");
        stop.stop();
        assert_eq!(found(u64::MAX), Ok(Found::Stopped));
    }
}
