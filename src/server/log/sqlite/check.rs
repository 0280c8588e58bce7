//! Integrity check: `PRAGMA quick_check`, with progress reports, before the file is used or while it
//! is in use.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use rusqlite::{Connection, ErrorCode};

use super::health::is_damage;

/// How often a check logs its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Steps of `SQLite`'s virtual machine between calls of the progress handler, which reads the clock and
/// the stop signal. Reading a page from a slow disk is one step.
const STEPS_PER_CALLBACK: u32 = 50;
/// Steps between looks at the length of the write-ahead log.
const WAL_CHECK_STEPS: u64 = 20 * STEPS_PER_CALLBACK as u64;
/// Approximate number of steps per row, beside one step per page.
const STEPS_PER_ROW: u64 = 17;
/// How long a background check works before it pauses for the same time.
const WORK_TIME: Duration = Duration::from_millis(10);

/// Stops a background check; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct StopSignal(Arc<(Mutex<bool>, Condvar)>);

impl StopSignal {
    pub(super) fn stop(&self) {
        let (stopped, changed) = &*self.0;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    pub(super) fn is_requested(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `pause`, or until the check is stopped.
    fn sleep(&self, pause: Duration) {
        let (stopped, changed) = &*self.0;
        let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = changed.wait_timeout_while(stopped, pause, |stopped| !*stopped);
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CheckResult {
    Intact,
    /// What is damaged.
    Damaged(String),
    /// The check was stopped before it finished, or the write-ahead log became too long.
    Stopped,
}

/// How a check runs.
#[derive(Clone, Debug)]
pub(super) enum CheckMode {
    /// At full speed: the server waits for it.
    Blocking,
    /// Half of the time, which leaves the disk to readers and publishers for the other half.
    Background {
        stop: StopSignal,
        /// Path of the write-ahead log. It cannot be restarted while the check reads its snapshot.
        wal: PathBuf,
        /// The check stops when the write-ahead log has more bytes than this.
        max_wal: u64,
    },
}

/// Checks the whole file, and logs the progress.
///
/// # Errors
/// When the file cannot be read at all.
pub(super) fn check(
    connection: &Connection,
    why: &str,
    mode: CheckMode,
) -> rusqlite::Result<CheckResult> {
    let bytes = size(connection)?;
    let mut progress = CheckProgress::new(bytes, steps(connection)?, why.to_owned());
    connection.progress_handler(
        i32::try_from(STEPS_PER_CALLBACK).unwrap_or(i32::MAX),
        Some(move || {
            progress.advance();
            match &mode {
                CheckMode::Background { stop, wal, max_wal } => {
                    if let Some(pause) = progress.due_pause() {
                        stop.sleep(pause);
                        progress.resumed = Instant::now();
                    }
                    let is_too_long = progress.done.is_multiple_of(WAL_CHECK_STEPS)
                        && fs::metadata(wal).is_ok_and(|wal| wal.len() > *max_wal);
                    is_too_long || stop.is_requested()
                }
                CheckMode::Blocking => false,
            }
        }),
    )?;
    let began = Instant::now();
    let found = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(found) if found == "ok" => {
            let duration_ms = began.elapsed().as_millis();
            tracing::debug!(duration_ms, bytes, why, "the store is intact");
            Ok(CheckResult::Intact)
        }
        Ok(found) => Ok(CheckResult::Damaged(found.replace('\n', " "))),
        Err(error) if is_damage(&error) => Ok(CheckResult::Damaged(error.to_string())),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(CheckResult::Stopped)
        }
        Err(error) => Err(error),
    }
}

/// Size of the database in bytes, with the pages that are only in the write-ahead log.
pub(super) fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Approximate number of steps of a check.
fn steps(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let rows: u64 =
        connection
            .query_row("SELECT coalesce(sum(count), 0) FROM streams", [], |row| row.get(0))?;
    Ok(pages + rows * STEPS_PER_ROW)
}

struct CheckProgress {
    why: String,
    bytes: u64,
    done: u64,
    total: u64,
    /// When the last pause ended.
    resumed: Instant,
    reported: Instant,
}

impl CheckProgress {
    fn new(bytes: u64, total: u64, why: String) -> Self {
        let now = Instant::now();
        Self { why, bytes, done: 0, total, resumed: now, reported: now }
    }

    /// Counts some steps.
    fn advance(&mut self) {
        self.done += u64::from(STEPS_PER_CALLBACK);
        if self.reported.elapsed() >= PROGRESS_INTERVAL {
            self.reported = Instant::now();
            tracing::info!(bytes = self.bytes, progress = %self, "checking the store: {}", self.why);
        }
    }

    /// The pause that is due: as long as the check has worked, if that was long enough.
    fn due_pause(&self) -> Option<Duration> {
        Some(self.resumed.elapsed()).filter(|pause| *pause >= WORK_TIME)
    }
}

/// An estimate in percent, at most 99.
impl fmt::Display for CheckProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.done * 100 / self.total.max(1)).min(99);
        write!(f, "{percent} %")
    }
}

/// Checks the whole file before it is used.
///
/// # Errors
/// When it is damaged, or cannot be read.
pub(super) fn refuse_damaged(connection: &Connection, why: &str) -> anyhow::Result<()> {
    match check(connection, why, CheckMode::Blocking)? {
        CheckResult::Damaged(what) => bail!("it is damaged ({what}); restore it from a copy"),
        CheckResult::Intact | CheckResult::Stopped => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::log::sqlite::file::Location;

    #[test]
    fn a_background_check_stops_when_the_write_ahead_log_is_too_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let (location, _lock) =
            Location::lock(Some(folder.path().join("tidings.db"))).expect("a store");
        let mut writer = location.open_to_write().expect("a connection").connection;
        let tx = writer.transaction().expect("a transaction");
        for key in 0..5_000 {
            let insert = "INSERT INTO messages VALUES (?1, 0, 'text')";
            tx.execute(insert, [key]).expect("stored");
        }
        tx.commit().expect("stored");
        let reader = location.open_to_read().expect("a connection");
        let stop = StopSignal::default();
        let found = |max_wal| {
            let wal = location.wal().expect("a file");
            check(&reader, "a test", CheckMode::Background { stop: stop.clone(), wal, max_wal })
        };
        assert_eq!(found(u64::MAX), Ok(CheckResult::Intact));
        assert_eq!(found(1000), Ok(CheckResult::Stopped), "the write-ahead log is too long");
        stop.stop();
        assert_eq!(found(u64::MAX), Ok(CheckResult::Stopped));
    }
}
