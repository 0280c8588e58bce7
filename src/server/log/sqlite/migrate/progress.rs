//! How far a migration is, in the log.

use std::time::{Duration, Instant};

/// How often the log says how far it is.
const REPORT: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    what: &'static str,
    pub(super) done: u64,
    all: u64,
    reported: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str, all: u64) -> Self {
        Self { what, done: 0, all, reported: Instant::now() }
    }

    /// Counts a message.
    pub(super) fn advance(&mut self) {
        self.done += 1;
        // The clock costs more than the message.
        if self.done.is_multiple_of(1024) && self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            let percent = self.done * 100 / self.all.max(1);
            tracing::info!(progress = %format!("{percent} %"), "upgrading the store: {}", self.what);
        }
    }
}
