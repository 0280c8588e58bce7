//! Memory budget of all tails together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Counts the memory of the tails; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct TailBudget(Arc<BudgetInner>);

#[derive(Debug)]
struct BudgetInner {
    /// In bytes.
    max: usize,
    used: AtomicUsize,
    /// Bytes of blocks with a single large message: in the tails, or still held by readers after
    /// their eviction.
    large: AtomicUsize,
    /// Number of blocks that were ever counted.
    blocks: AtomicU64,
}

/// Bytes of a tail, counted until this is dropped.
#[derive(Debug)]
pub(super) struct TailBytes {
    pub(super) budget: TailBudget,
    pub(super) bytes: usize,
    /// Orders the blocks of all tails by time: a number that increases with each block.
    pub(super) block_number: u64,
}

/// Bytes of a large block, counted until its last holder drops it.
#[derive(Debug)]
pub(super) struct LargeBytes {
    budget: TailBudget,
    bytes: usize,
}

impl TailBudget {
    pub(super) fn new(max: usize) -> Self {
        let (used, large) = (AtomicUsize::default(), AtomicUsize::default());
        Self(Arc::new(BudgetInner { max, used, large, blocks: AtomicU64::default() }))
    }

    /// Size of all tails, in bytes.
    pub(super) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether the tails exceed the budget.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used() > self.0.max
    }

    /// Whether an eviction must continue: down to three quarters of the budget, because finding the
    /// oldest blocks is expensive.
    pub(super) fn is_above_target(&self) -> bool {
        self.used() > self.0.max / 4 * 3
    }

    /// Counts bytes, even if they exceed the budget.
    pub(super) fn count(&self, bytes: usize) -> TailBytes {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let block_number = self.0.blocks.fetch_add(1, Ordering::Relaxed);
        TailBytes { budget: self.clone(), bytes, block_number }
    }

    /// Counts the bytes of a large block, even if they exceed the budget.
    pub(super) fn count_large(&self, bytes: usize) -> LargeBytes {
        self.0.large.fetch_add(bytes, Ordering::Relaxed);
        LargeBytes { budget: self.clone(), bytes }
    }

    /// Whether large blocks alone, with those that stalled readers hold, exceed the budget.
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
