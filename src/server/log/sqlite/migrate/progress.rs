//! Logs the progress of a migration.

use std::time::{Duration, Instant};

/// How often the progress is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct MigrationProgress {
    step: &'static str,
    pub(super) done: u64,
    total: u64,
    reported: Instant,
}

impl MigrationProgress {
    pub(super) fn new(step: &'static str, total: u64) -> Self {
        Self { step, done: 0, total, reported: Instant::now() }
    }

    /// Counts a message.
    pub(super) fn advance(&mut self) {
        self.done += 1;
        // Reading the clock costs more than copying a message.
        if self.done.is_multiple_of(1024) && self.reported.elapsed() >= PROGRESS_INTERVAL {
            self.reported = Instant::now();
            let percent = self.done * 100 / self.total.max(1);
            tracing::info!(progress = %format!("{percent} %"), "upgrading the store: {}", self.step);
        }
    }
}
