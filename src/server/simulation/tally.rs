//! Coverage: counts of what happened in the histories, to detect a simulation that covers too little.

use std::ops::AddAssign as _;

use super::truth::Received;

/// How often each event happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) histories: u64,
    /// Messages that were stored.
    pub(super) stored: u64,
    /// What readers received.
    pub(super) messages: u64,
    pub(super) ends: u64,
    pub(super) cursors: u64,
    pub(super) deleted: u64,
    pub(super) trimmed: u64,
    pub(super) unknown_cursors: u64,
    /// Calls of the log, in total and in one history.
    pub(super) calls: u64,
    pub(super) max_calls: u64,
    pub(super) follows: u64,
    pub(super) stale_reads: u64,
}

impl Tally {
    pub(super) fn count(&mut self, received: &Received) {
        let counter = match received {
            Received::Message { .. } => &mut self.messages,
            Received::End { .. } => &mut self.ends,
            Received::Cursor(_) => &mut self.cursors,
            Received::Reset { reason, .. } => match reason.as_str() {
                "deleted" => &mut self.deleted,
                "trimmed" => &mut self.trimmed,
                _ => &mut self.unknown_cursors,
            },
        };
        counter.add_assign(1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.max_calls = self.max_calls.max(other.max_calls);
        for (sum, count) in [
            (&mut self.histories, other.histories),
            (&mut self.stored, other.stored),
            (&mut self.messages, other.messages),
            (&mut self.ends, other.ends),
            (&mut self.cursors, other.cursors),
            (&mut self.deleted, other.deleted),
            (&mut self.trimmed, other.trimmed),
            (&mut self.unknown_cursors, other.unknown_cursors),
            (&mut self.calls, other.calls),
            (&mut self.follows, other.follows),
            (&mut self.stale_reads, other.stale_reads),
        ] {
            *sum += count;
        }
    }

    /// Whether every kind of event happened, and often.
    pub(super) fn covers_all_cases(&self) -> bool {
        let rare = [self.ends, self.cursors, self.deleted, self.trimmed, self.unknown_cursors];
        let often = [self.stored, self.messages, self.follows, self.stale_reads];
        rare.iter().all(|times| *times > self.histories / 100)
            && often.iter().all(|times| *times > self.histories)
    }
}
