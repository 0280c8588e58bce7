//! How far watchers are behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Where a stream is, and where its watchers are. Sequences have no gaps here, or hardly any: the
/// difference of two is how many messages are between them.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The newest sequence, as far as it is known.
    head: Arc<AtomicU64>,
    /// The sequence that each watcher has come to. Those of watchers that have gone are left until
    /// there are too many of them: to go must not cost a search.
    places: Vec<Arc<AtomicU64>>,
}

/// Where one watcher is. It has it written on the wall, and nobody has to ask it.
#[derive(Debug)]
pub(super) struct Mark {
    head: Arc<AtomicU64>,
    place: Arc<AtomicU64>,
}

impl Lag {
    /// The stream has come to this sequence, or begins anew before the first.
    pub(super) fn head_is(&self, seq: u64) {
        self.head.store(seq, Ordering::Relaxed);
    }

    pub(super) fn join(&mut self) -> Mark {
        if self.places.len() == self.places.capacity() {
            self.forget_gone();
        }
        let place = Arc::new(AtomicU64::new(u64::MAX));
        self.places.push(Arc::clone(&place));
        Mark { head: Arc::clone(&self.head), place }
    }

    /// How many messages the slowest watcher is behind.
    pub(super) fn greatest(&mut self) -> u64 {
        self.forget_gone();
        let head = self.head.load(Ordering::Relaxed);
        let slowest = self.places.iter().map(|place| place.load(Ordering::Relaxed)).min();
        slowest.map_or(0, |place| head.saturating_sub(place))
    }

    fn forget_gone(&mut self) {
        self.places.retain(|place| Arc::strong_count(place) > 1);
    }
}

impl Mark {
    /// The watcher has come to this sequence.
    pub(super) fn at(&self, seq: u64) {
        self.place.store(seq, Ordering::Relaxed);
    }

    /// The watcher has seen in the log that the stream has come to this sequence.
    pub(super) fn head_is_at_least(&self, seq: u64) {
        self.head.fetch_max(seq, Ordering::Relaxed);
    }
}
