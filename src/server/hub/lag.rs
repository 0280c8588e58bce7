//! Consumer lag: how many messages the watchers of a stream are behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::server::log::Change;

/// The newest sequence of a stream, and the positions of its watchers. Sequences have few gaps within a
/// generation, so that their difference is the number of messages, at least approximately.
#[derive(Debug, Default)]
pub(super) struct Lag {
    head: Head,
    /// The sequence of each watcher's position. Those of watchers that have gone are removed only when
    /// the vector is full, so that leaving costs no search.
    positions: Vec<Arc<AtomicU64>>,
}

/// The newest known sequence of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Head(Arc<Sequences>);

#[derive(Debug, Default)]
struct Sequences {
    newest: AtomicU64,
    /// The position of watchers that have waited for the stream to begin: before the first message of
    /// the generation, or of the follow.
    base: AtomicU64,
}

/// The position of one watcher, in an atomic, so that the metrics can read it without asking the
/// watcher.
#[derive(Debug)]
pub(super) struct LagHandle {
    head: Head,
    position: Arc<AtomicU64>,
}

impl Head {
    /// A follow starts at this sequence, 0 where there is no stream.
    pub(super) fn start(&self, seq: u64) {
        self.0.base.store(seq, Ordering::Relaxed);
        self.0.newest.store(seq, Ordering::Relaxed);
    }

    /// The follow has delivered a change.
    pub(super) fn change(&self, change: &Change) {
        let first = match change {
            Change::Appended { after: 0, messages, .. } => messages.first(),
            Change::Ended { after: 0, end, .. } => Some(end),
            _ => None,
        };
        if let Some(first) = first {
            self.0.base.store(first.id.seq.saturating_sub(1), Ordering::Relaxed);
        }
        self.0.newest.store(change.head(), Ordering::Relaxed);
    }
}

impl Lag {
    pub(super) fn head(&self) -> Head {
        self.head.clone()
    }

    pub(super) fn join(&mut self) -> LagHandle {
        if self.positions.len() == self.positions.capacity() {
            self.remove_closed();
        }
        let position = Arc::new(AtomicU64::new(u64::MAX));
        self.positions.push(Arc::clone(&position));
        LagHandle { head: self.head.clone(), position }
    }

    /// Number of messages that the slowest watcher is behind.
    pub(super) fn max(&mut self) -> u64 {
        self.remove_closed();
        let Sequences { newest, base } = &*self.head.0;
        let positions =
            self.positions.iter().map(|position| match position.load(Ordering::Relaxed) {
                0 => base.load(Ordering::Relaxed),
                position => position,
            });
        positions.min().map_or(0, |slowest| newest.load(Ordering::Relaxed).saturating_sub(slowest))
    }

    fn remove_closed(&mut self) {
        self.positions.retain(|position| Arc::strong_count(position) > 1);
    }
}

impl LagHandle {
    /// The watcher has reached this sequence.
    pub(super) fn set_position(&self, seq: u64) {
        self.position.store(seq, Ordering::Relaxed);
    }

    /// The watcher has read in the log that the stream has this sequence.
    pub(super) fn raise_head(&self, seq: u64) {
        self.head.0.newest.fetch_max(seq, Ordering::Relaxed);
    }
}
