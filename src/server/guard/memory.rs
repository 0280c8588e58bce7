//! The memory budget: all bytes in flight under one semaphore.
//!
//! Request bodies and responses that are not event streams reserve their memory here before they are
//! read or made, and all of it at once: requests that reserve piece by piece could deadlock. A
//! reservation is released when its value is dropped. A request that does not fit waits in a queue, up
//! to 2 s. Each client has a share, in which it waits only for its own requests. While a request waits
//! for the memory of other clients, those that are too slow have theirs revoked.

mod layout;
mod pool;
mod progress;
mod reserved_body;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, TryAcquireError},
    time::timeout,
};

pub(crate) use self::{layout::min_budget, progress::MAX_HOLD, reserved_body::ReservedBody};
use self::{
    layout::{Layout, MAX_BUFFER_OVERHEAD, REQUEST_OVERHEAD},
    pool::Pool,
    progress::{Contention, Progress},
};
use crate::{
    problem,
    server::{client::Address, error::Problem, observe::MemoryUsage},
};

/// How long a request waits for memory before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The memory budget; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The bytes that can be reserved, one permit each.
    bytes: Pool,
    contention: Contention,
    /// One permit for each request that may use a little memory without a reservation.
    unreserved: Pool,
    /// The most bytes for the tails of watched streams.
    tails: usize,
    parts: [PartCounts; MemoryPart::ALL.len()],
}

/// What memory is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryPart {
    /// Request bodies.
    Bodies,
    /// Responses that are not event streams.
    Answers,
    /// Large messages that are being sent to readers of event streams.
    Streams,
}

/// The metrics of a part.
#[derive(Debug, Default)]
struct PartCounts {
    bytes: AtomicU64,
    waits: AtomicU64,
    refusals: AtomicU64,
}

/// Reserved memory; released when this value is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    budget: MemoryBudget,
    part: MemoryPart,
    /// The reserved bytes, with overhead.
    bytes: u32,
    progress: Arc<Progress>,
    /// That many permits of each semaphore: of the shares, the narrowest network first, and the total.
    held: Vec<OwnedSemaphorePermit>,
}

/// A permit to use a little memory without a reservation; released when this value is dropped.
#[derive(Debug)]
pub(crate) struct UnreservedPermit {
    _held: Vec<OwnedSemaphorePermit>,
}

impl MemoryPart {
    const ALL: [Self; 3] = [Self::Bodies, Self::Answers, Self::Streams];

    /// The value of the metrics' label `part`.
    fn label(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Streams => "streams",
        }
    }
}

impl MemoryBudget {
    /// A budget of `bytes`, for messages of at most `max_message_bytes`.
    pub(crate) fn new(bytes: u64, max_message_bytes: u64) -> Self {
        let layout = Layout::new(bytes, max_message_bytes);
        Self(Arc::new(Shared {
            bytes: Pool::new(layout.reservable, layout.share),
            contention: Contention::default(),
            unreserved: Pool::new(layout.unreserved, layout.unreserved_share),
            tails: layout.tails,
            parts: Default::default(),
        }))
    }

    /// The most bytes for the tails of watched streams.
    pub(crate) fn tails(&self) -> usize {
        self.0.tails
    }

    /// The metrics of each part.
    pub(crate) fn usage(&self) -> Vec<MemoryUsage> {
        let usage = |part: MemoryPart| {
            let counts = self.counts(part);
            let [bytes, waits, refusals] = [&counts.bytes, &counts.waits, &counts.refusals]
                .map(|count| count.load(Ordering::Relaxed));
            MemoryUsage { part: part.label(), bytes, waits, refusals }
        };
        MemoryPart::ALL.map(usage).into()
    }

    fn counts(&self, part: MemoryPart) -> &PartCounts {
        &self.0.parts[part as usize]
    }

    /// Reserves `bytes`, and the overhead of a request.
    ///
    /// # Errors
    /// When they do not fit within 2 s, or when too many requests wait already.
    pub(crate) async fn acquire(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Result<MemoryPermit, Problem> {
        let acquired = timeout(MAX_WAIT, self.acquire_queued(address, part, bytes)).await;
        acquired.ok().flatten().ok_or_else(|| self.refuse(part))
    }

    async fn acquire_queued(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Option<MemoryPermit> {
        let bytes = with_overhead(bytes)?;
        let (mut held, mut waiting) = (Vec::with_capacity(2), None);
        for semaphore in self.0.bytes.semaphores(address) {
            let permit = match Arc::clone(&semaphore).try_acquire_many_owned(bytes) {
                Ok(permit) => permit,
                Err(TryAcquireError::Closed) => return None,
                Err(TryAcquireError::NoPermits) => {
                    // Also if this request cannot wait: other clients hold the memory it needs.
                    let is_total = self.0.bytes.is_total(&semaphore);
                    let _contender = is_total.then(|| self.0.contention.enter());
                    if waiting.is_none() {
                        waiting = Some(self.try_acquire_unreserved(address)?);
                        self.counts(part).waits.fetch_add(1, Ordering::Relaxed);
                    }
                    semaphore.acquire_many_owned(bytes).await.ok()?
                }
            };
            held.push(permit);
        }
        Some(self.permit(part, bytes, held))
    }

    /// Like [`acquire`](Self::acquire), but without waiting.
    pub(crate) fn try_acquire(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Option<MemoryPermit> {
        let bytes = with_overhead(bytes)?;
        Some(self.permit(part, bytes, self.0.bytes.try_acquire(address, bytes)?))
    }

    fn permit(
        &self,
        part: MemoryPart,
        bytes: u32,
        held: Vec<OwnedSemaphorePermit>,
    ) -> MemoryPermit {
        self.counts(part).bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        let progress = Arc::new(Progress::begin());
        MemoryPermit { budget: self.clone(), part, bytes, progress, held }
    }

    /// Permits a request to use a little memory without a reservation, to wait for one or to have its
    /// body discarded. `None` when too many requests do so.
    pub(crate) fn try_acquire_unreserved(&self, address: Address) -> Option<UnreservedPermit> {
        self.0.unreserved.try_acquire(address, 1).map(|held| UnreservedPermit { _held: held })
    }

    fn refuse(&self, part: MemoryPart) -> Problem {
        self.counts(part).refusals.fetch_add(1, Ordering::Relaxed);
        Problem::new(
            problem::MEMORY_EXHAUSTED,
            "The server has no memory left for this request. Try again later, with fewer requests \
             at the same time.",
        )
    }
}

impl MemoryPermit {
    /// Records that `bytes` were received or sent. A transfer of no more than the reserved bytes need not
    /// call it: it has to be done within [`MAX_HOLD`] while others wait.
    pub(crate) fn advance(&self, bytes: usize) {
        self.progress.advance(bytes, self.bytes as usize);
    }

    /// Waits until the memory has to be released: other requests wait for memory, and fewer bytes than
    /// are reserved were transferred within [`MAX_HOLD`].
    pub(crate) fn overdue(&self) -> impl Future<Output = ()> + Send + use<> {
        let (budget, progress) = (self.budget.clone(), Arc::clone(&self.progress));
        async move { progress.overdue(&budget.0.contention).await }
    }

    /// Whether the reservation is large enough for `bytes`.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        with_overhead(bytes).is_some_and(|bytes| bytes <= self.bytes)
    }

    /// Changes the reservation to `bytes`: releases the rest, or acquires more without waiting.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Problem> {
        let resized = with_overhead(bytes).and_then(|bytes| self.try_resize(bytes));
        resized.ok_or_else(|| self.budget.refuse(self.part))
    }

    fn try_resize(&mut self, bytes: u32) -> Option<()> {
        let count = &self.budget.counts(self.part).bytes;
        if let Some(rest) = self.bytes.checked_sub(bytes) {
            for permit in &mut self.held {
                drop(permit.split(rest as usize));
            }
            count.fetch_sub(rest.into(), Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            for permit in &mut self.held {
                let semaphore = Arc::clone(permit.semaphore());
                permit.merge(semaphore.try_acquire_many_owned(more).ok()?);
            }
            count.fetch_add(more.into(), Ordering::Relaxed);
        }
        self.bytes = bytes;
        Some(())
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        let count = &self.budget.counts(self.part).bytes;
        count.fetch_sub(self.bytes.into(), Ordering::Relaxed);
    }
}

/// Runs `work` to completion, even if the request is cancelled, and holds its reservation until then: the
/// data of the request stays in memory until the work is done.
pub(crate) async fn hold_until_done<T: Send + 'static>(
    memory: impl Send + 'static,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let work = async move {
        let _memory = memory;
        work.await
    };
    SpawnOnDrop(Some(Box::pin(work))).await
}

/// A future that is spawned as a task when it is dropped before it is done. Not spawned from the start:
/// waking another thread for each publish takes longer than the publish.
struct SpawnOnDrop<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> Future for SpawnOnDrop<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for SpawnOnDrop<T> {
    fn drop(&mut self) {
        // Without a runtime, the process is exiting.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

/// The bytes that a request takes which holds `bytes`. `None` when that is more than 4 GiB.
fn with_overhead(bytes: usize) -> Option<u32> {
    let overhead = REQUEST_OVERHEAD + bytes.min(MAX_BUFFER_OVERHEAD);
    u32::try_from(bytes.saturating_add(overhead)).ok()
}

#[cfg(test)]
mod tests;
