//! How far watchers are behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::server::log::Change;

/// Where a stream is, and where its watchers are. Sequences have no gaps within a generation, or hardly
/// any: the difference of two is how many messages are between them.
#[derive(Debug, Default)]
pub(super) struct Lag {
    head: Head,
    /// The sequence that each watcher has come to. Those of watchers that have gone are left until
    /// there are too many of them: to go must not cost a search.
    positions: Vec<Arc<AtomicU64>>,
}

/// The newest sequence of a stream, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Head(Arc<Sequences>);

#[derive(Debug, Default)]
struct Sequences {
    newest: AtomicU64,
    /// Where those watchers are that have waited for the stream to begin: before the first message of
    /// the generation, or of those that were told.
    base: AtomicU64,
}

/// Where one watcher is. Stored in an atomic, so that the metrics can read it without asking the
/// watcher.
#[derive(Debug)]
pub(super) struct LagHandle {
    head: Head,
    position: Arc<AtomicU64>,
}

impl Head {
    /// The stream has come to this sequence, or is not there; changes are told from there on.
    pub(super) fn start(&self, seq: u64) {
        self.0.base.store(seq, Ordering::Relaxed);
        self.0.newest.store(seq, Ordering::Relaxed);
    }

    /// The stream has changed.
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
            self.forget_gone();
        }
        let position = Arc::new(AtomicU64::new(u64::MAX));
        self.positions.push(Arc::clone(&position));
        LagHandle { head: self.head.clone(), position }
    }

    /// How many messages the slowest watcher is behind.
    pub(super) fn max(&mut self) -> u64 {
        self.forget_gone();
        let Sequences { newest, base } = &*self.head.0;
        let positions =
            self.positions.iter().map(|position| match position.load(Ordering::Relaxed) {
                0 => base.load(Ordering::Relaxed),
                position => position,
            });
        positions.min().map_or(0, |slowest| newest.load(Ordering::Relaxed).saturating_sub(slowest))
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
        self.head.0.newest.fetch_max(seq, Ordering::Relaxed);
    }
}
