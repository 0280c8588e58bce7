//! What happened in histories, so that a trial that tries nothing is noticed.

use std::ops::AddAssign as _;

use super::truth::Told;

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) histories: u64,
    /// Messages that were stored.
    pub(super) stored: u64,
    /// What readers were told.
    pub(super) messages: u64,
    pub(super) ends: u64,
    pub(super) cursors: u64,
    pub(super) deleted: u64,
    pub(super) trimmed: u64,
    pub(super) unknown_cursors: u64,
    /// Of the log.
    pub(super) calls: u64,
    pub(super) most_calls: u64,
    pub(super) follows: u64,
    pub(super) stale_reads: u64,
}

impl Tally {
    pub(super) fn count(&mut self, told: &Told) {
        let counter = match told {
            Told::Message { .. } => &mut self.messages,
            Told::End { .. } => &mut self.ends,
            Told::Cursor(_) => &mut self.cursors,
            Told::Reset { reason, .. } => match reason.as_str() {
                "deleted" => &mut self.deleted,
                "trimmed" => &mut self.trimmed,
                _ => &mut self.unknown_cursors,
            },
        };
        counter.add_assign(1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.most_calls = self.most_calls.max(other.most_calls);
        for (sum, of) in [
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
            *sum += of;
        }
    }

    /// Whether everything happened that may, and often.
    pub(super) fn is_much(&self) -> bool {
        let rare = [self.ends, self.cursors, self.deleted, self.trimmed, self.unknown_cursors];
        let often = [self.stored, self.messages, self.follows, self.stale_reads];
        rare.iter().all(|times| *times > self.histories / 100)
            && often.iter().all(|times| *times > self.histories)
    }
}
