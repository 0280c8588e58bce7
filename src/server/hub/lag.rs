//! How far watchers are behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Where a stream is, and where its watchers are. Sequences have no gaps here, or hardly any: the
/// difference of two is how many messages are between them.
#[derive(Debug, Default)]
pub(super) struct Lag {
    head: Head,
    /// The sequence that each watcher has come to. Those of watchers that have gone are left until
    /// there are too many of them: to go must not cost a search.
    positions: Vec<Arc<AtomicU64>>,
}

/// The newest sequence of a stream, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Head(Arc<AtomicU64>);

/// Where one watcher is. Stored in an atomic, so that the metrics can read it without asking the
/// watcher.
#[derive(Debug)]
pub(super) struct LagHandle {
    head: Head,
    position: Arc<AtomicU64>,
}

impl Head {
    /// The stream has come to this sequence, or begins anew before the first.
    pub(super) fn set(&self, seq: u64) {
        self.0.store(seq, Ordering::Relaxed);
    }
}

impl Lag {
    pub(super) fn head(&self) -> Head {
        self.head.clone()
    }

    pub(super) fn join(&mut self) -> LagHandle {
        if self.positions.len() == self.positions.capacity() {
            self.forget_gone();
        }
        let position = Arc::new(AtomicU64::new(u64::MAX));
        self.positions.push(Arc::clone(&position));
        LagHandle { head: self.head.clone(), position }
    }

    /// How many messages the slowest watcher is behind.
    pub(super) fn max(&mut self) -> u64 {
        self.forget_gone();
        let head = self.head.0.load(Ordering::Relaxed);
        let slowest = self.positions.iter().map(|position| position.load(Ordering::Relaxed)).min();
        slowest.map_or(0, |position| head.saturating_sub(position))
    }

    fn forget_gone(&mut self) {
        self.positions.retain(|position| Arc::strong_count(position) > 1);
    }
}

impl LagHandle {
    /// The watcher has come to this sequence.
    pub(super) fn set_position(&self, seq: u64) {
        self.position.store(seq, Ordering::Relaxed);
    }

    /// The watcher has seen in the log that the stream has come to this sequence.
    pub(super) fn raise_head(&self, seq: u64) {
        self.head.0.fetch_max(seq, Ordering::Relaxed);
    }
}
