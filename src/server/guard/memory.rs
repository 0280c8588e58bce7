//! The memory budget: bytes in flight under one semaphore.
//!
//! What clients can make the server hold, request bodies and answers that are not streams, is reserved
//! here before it is read or made, and the whole at once: requests that reserved piece by piece would
//! wait for each other for ever. A reservation is a value that lives as long as what it is for. What
//! does not fit waits in its turn, for a moment; each client has a share, where it waits for itself
//! alone. Who waits for others makes those give up what they hold that are too slow.

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

/// The budget; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What can be reserved, a permit a byte.
    bytes: Pool,
    contention: Contention,
    /// A permit for each request that may take memory without a reservation.
    unreserved: Pool,
    /// The most that tails may take, in bytes.
    tails: usize,
    parts: [PartCounts; MemoryPart::ALL.len()],
}

/// What memory is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryPart {
    /// The bodies of requests.
    Bodies,
    /// Answers that are not streams.
    Answers,
    /// Large messages that readers of streams are being given.
    Streams,
}

/// What is counted of a part.
#[derive(Debug, Default)]
struct PartCounts {
    bytes: AtomicU64,
    waits: AtomicU64,
    refusals: AtomicU64,
}

/// Memory that is reserved; given back when this value is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    budget: MemoryBudget,
    part: MemoryPart,
    /// How many bytes.
    bytes: u32,
    progress: Arc<Progress>,
    /// As many of each semaphore: of the shares, the narrowest network first, and of the total.
    held: Vec<OwnedSemaphorePermit>,
}

/// Leave to take a little memory without a reservation; given back when this value is dropped.
#[derive(Debug)]
pub(crate) struct UnreservedPermit {
    _held: Vec<OwnedSemaphorePermit>,
}

impl MemoryPart {
    const ALL: [Self; 3] = [Self::Bodies, Self::Answers, Self::Streams];

    /// Its name, as a label of the metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Streams => "streams",
        }
    }
}

impl MemoryBudget {
    /// A budget of so many bytes, for messages that are no larger than that.
    pub(crate) fn new(bytes: u64, max_message_bytes: u64) -> Self {
        let layout = Layout::of(bytes, max_message_bytes);
        Self(Arc::new(Shared {
            bytes: Pool::new(layout.reservable, layout.share),
            contention: Contention::default(),
            unreserved: Pool::new(layout.unreserved, layout.unreserved_share),
            tails: layout.tails,
            parts: Default::default(),
        }))
    }

    /// The most that the tails of watched streams may take, in bytes.
    pub(crate) fn tails(&self) -> usize {
        self.0.tails
    }

    /// What is in use of each part.
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

    /// Reserves so many bytes, and what a request takes beside them.
    ///
    /// # Errors
    /// When they do not fit, and do not come to fit within a moment.
    pub(crate) async fn acquire(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Result<MemoryPermit, Problem> {
        let acquired = timeout(MAX_WAIT, self.acquire_in_turn(address, part, bytes)).await;
        acquired.ok().flatten().ok_or_else(|| self.refuse(part))
    }

    async fn acquire_in_turn(
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
                    // Also if it cannot wait: others are in its way.
                    let is_total = self.0.bytes.is_total(&semaphore);
                    let _contender = is_total.then(|| self.0.contention.begin());
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

    /// The same, if it fits at once.
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

    /// Lets a request take the little memory that it needs without a reservation, to wait for one or
    /// to have its body thrown away, if not too many do so.
    pub(crate) fn try_acquire_unreserved(&self, address: Address) -> Option<UnreservedPermit> {
        self.0.unreserved.try_acquire(address, 1).map(|held| UnreservedPermit { _held: held })
    }

    fn refuse(&self, part: MemoryPart) -> Problem {
        self.counts(part).refusals.fetch_add(1, Ordering::Relaxed);
        Problem::new(
            problem::MEMORY_EXHAUSTED,
            "The server has no memory left for this. Try again later, with fewer requests at the \
             same time.",
        )
    }
}

impl MemoryPermit {
    /// So many bytes have come, or were taken, of what the memory is for. Where that is never more than
    /// what is reserved there is no need to say it: it has to be over in [`MAX_HOLD`] if others wait.
    pub(crate) fn advance(&self, bytes: usize) {
        self.progress.advance(bytes, self.bytes as usize);
    }

    /// Waits until the memory has to be given up: others wait for some, and in [`MAX_HOLD`] fewer bytes
    /// have moved than are reserved.
    pub(crate) fn overdue(&self) -> impl Future<Output = ()> + Send + use<> {
        let (budget, progress) = (self.budget.clone(), Arc::clone(&self.progress));
        async move { progress.overdue(&budget.0.contention).await }
    }

    /// Whether so many bytes would have been reserved as well.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        with_overhead(bytes).is_some_and(|bytes| bytes <= self.bytes)
    }

    /// Reserves as many bytes as it turns out that are needed: gives back the rest, or acquires more,
    /// without waiting.
    ///
    /// # Errors
    /// When there is no more.
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

/// Does something to its end, even if the client goes meanwhile, and holds until then what is reserved
/// for it: what a request has handed over is in memory until it is done.
pub(crate) async fn hold_until_done<T: Send + 'static>(
    memory: impl Send + 'static,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let work = async move {
        let _memory = memory;
        work.await
    };
    Work(Some(Box::pin(work))).await
}

/// Work that goes on by itself when it is dropped before it is done. Not a task from the beginning: to
/// wake another thread for each publish takes longer than the publish.
struct Work<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> Future for Work<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Work<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

/// What a request takes that holds so many bytes.
fn with_overhead(bytes: usize) -> Option<u32> {
    let overhead = REQUEST_OVERHEAD + bytes.min(MAX_BUFFER_OVERHEAD);
    u32::try_from(bytes.saturating_add(overhead)).ok()
}

#[cfg(test)]
mod tests;
