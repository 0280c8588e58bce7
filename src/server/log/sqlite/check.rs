//! Whether the file is sound: `PRAGMA quick_check`, with its progress, before the file is served or
//! while it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};

/// How often a check says how far it is.
const REPORT: Duration = Duration::from_secs(5);
/// After how many steps it looks at the clock.
const STEPS: u32 = 1000;
/// About how many steps it takes to look at a row, beside a step for each page.
const STEPS_PER_ROW: u64 = 17;
/// How long a check that must not be in the way pauses at the most, at a time.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Tells a check that goes on behind to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Sound,
    /// What is damaged.
    Damaged(String),
    /// It was stopped before it came to an end.
    Stopped,
}

/// How a check goes about it.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As fast as can be: the server waits for it.
    Waiting,
    /// Half of the time, so that the disk has the other half for those who read and publish.
    Behind(Stop),
}

/// Reads the whole file, and says in the log how far it is.
///
/// # Errors
/// When it cannot be read at all.
pub(super) fn check(connection: &Connection, why: &str, pace: Pace) -> rusqlite::Result<Found> {
    let bytes: u64 = connection.query_row(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        [],
        |row| row.get(0),
    )?;
    let mut progress = Progress::new(bytes, steps(connection)?, why.to_owned());
    let stop = match &pace {
        Pace::Waiting => Stop::default(),
        Pace::Behind(stop) => stop.clone(),
    };
    let stopped = stop.clone();
    connection.progress_handler(
        i32::try_from(STEPS).unwrap_or(i32::MAX),
        Some(move || {
            let took = progress.advance();
            if matches!(pace, Pace::Behind(_)) {
                thread::sleep(took.min(MAX_PAUSE));
                progress.last = Instant::now();
            }
            stop.is_asked_for()
        }),
    )?;
    let began = Instant::now();
    let found = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        _ if stopped.is_asked_for() => Ok(Found::Stopped),
        Ok(found) if found == "ok" => {
            let duration_ms = began.elapsed().as_millis();
            tracing::debug!(duration_ms, bytes, why, "the store is sound");
            Ok(Found::Sound)
        }
        Ok(found) => Ok(Found::Damaged(found.replace('\n', " "))),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Found::Damaged(error.to_string()))
            }
            _ => Err(error),
        },
    }
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
    /// When the steps before this one were done.
    last: Instant,
    reported: Instant,
}

impl Progress {
    fn new(bytes: u64, all: u64, why: String) -> Self {
        let now = Instant::now();
        Self { why, bytes, done: 0, all, last: now, reported: now }
    }

    /// Counts some steps; gives back how long they took.
    fn advance(&mut self) -> Duration {
        self.done += u64::from(STEPS);
        let took = self.last.elapsed();
        self.last = Instant::now();
        if self.reported.elapsed() >= REPORT {
            self.reported = self.last;
            tracing::info!(bytes = self.bytes, progress = %self, "checking the store: {}", self.why);
        }
        took
    }
}

/// As far as it can be told beforehand how long it takes.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.done * 100 / self.all.max(1)).min(99);
        write!(f, "{percent} %")
    }
}
