//! Logs the progress of work on all messages of a store.

use std::time::{Duration, Instant};

/// How often the progress is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// After how many messages the clock is read, which costs more than copying a message.
const MESSAGES_PER_LOOK: u64 = 1024;

pub(super) struct Progress {
    /// What is done, for the log.
    work: &'static str,
    /// Number of messages.
    pub(super) done: u64,
    total: u64,
    reported: Instant,
}

impl Progress {
    pub(super) fn new(work: &'static str, total: u64) -> Self {
        Self { work, done: 0, total, reported: Instant::now() }
    }

    /// Counts messages.
    pub(super) fn add(&mut self, messages: u64) {
        let looks = self.done / MESSAGES_PER_LOOK;
        self.done += messages;
        if self.done / MESSAGES_PER_LOOK > looks && self.reported.elapsed() >= PROGRESS_INTERVAL {
            self.reported = Instant::now();
            let percent = (self.done * 100 / self.total.max(1)).min(100);
            tracing::info!(progress = %format!("{percent} %"), messages = self.done, "{}", self.work);
        }
    }
}
