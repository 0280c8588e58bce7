//! The total of all tails: what they may take together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Counts what the tails take; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(super) struct TailBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// In bytes.
    max: usize,
    used: AtomicUsize,
    /// Of blocks with a single large message: what the tails have, and what readers hold when it is no
    /// longer there.
    large: AtomicUsize,
    /// How many blocks there have been.
    blocks: AtomicU64,
}

/// Bytes of a tail, which count for as long as this value lives.
#[derive(Debug)]
pub(super) struct TailBytes {
    pub(super) budget: TailBudget,
    pub(super) bytes: usize,
    /// When they were appended: the number of the block among those of all tails.
    pub(super) number: u64,
}

/// Bytes of a large block, which count for as long as anyone holds it.
#[derive(Debug)]
pub(super) struct LargeBytes {
    budget: TailBudget,
    bytes: usize,
}

impl TailBudget {
    pub(super) fn new(max: usize) -> Self {
        let (used, large) = (AtomicUsize::default(), AtomicUsize::default());
        Self(Arc::new(Shared { max, used, large, blocks: AtomicU64::default() }))
    }

    /// What all tails take, in bytes.
    pub(super) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether they take more than they may.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used() > self.0.max
    }

    /// Whether they take so much that, once some has to go, more goes: the search for what is oldest
    /// is worth it.
    pub(super) fn is_tight(&self) -> bool {
        self.used() > self.0.max / 4 * 3
    }

    /// Counts bytes, whether or not they fit.
    pub(super) fn count(&self, bytes: usize) -> TailBytes {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let number = self.0.blocks.fetch_add(1, Ordering::Relaxed);
        TailBytes { budget: self.clone(), bytes, number }
    }

    /// Counts the bytes of a large block.
    pub(super) fn count_large(&self, bytes: usize) -> LargeBytes {
        self.0.large.fetch_add(bytes, Ordering::Relaxed);
        LargeBytes { budget: self.clone(), bytes }
    }

    /// Whether large blocks alone take more than the tails may, with what readers hold that stall.
    pub(super) fn has_too_many_large(&self) -> bool {
        self.0.large.load(Ordering::Relaxed) > self.0.max
    }
}

impl Drop for TailBytes {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for LargeBytes {
    fn drop(&mut self) {
        self.budget.0.large.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
