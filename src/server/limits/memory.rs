//! The memory budget: bytes in flight under one semaphore.
//!
//! What clients can make the server hold, request bodies and answers that are not streams, is reserved
//! here before it is read or made, and the whole at once: requests that reserved piece by piece would
//! wait for each other for ever. A reservation is a value that lives as long as what it is for. What
//! does not fit waits in its turn, for a moment; each client has a share, where it waits for itself
//! alone.

mod layout;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout_at},
};

pub(in crate::server) use self::layout::min_budget;
use self::layout::{Layout, MAX_BUFFER_OVERHEAD, REQUEST_OVERHEAD};
use super::super::{
    client::{Address, NETWORK_SHARES},
    error::Problem,
};
use crate::problem;

/// How long a request waits for memory before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The budget; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(in crate::server) struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// How many bytes can be reserved.
    bytes: usize,
    /// What is left of them, a permit a byte.
    total: Arc<Semaphore>,
    /// The most that one client may reserve, in bytes.
    share: usize,
    /// What is left of the shares of those networks that have reserved something or wait.
    shares: Mutex<HashMap<IpNet, Weak<Semaphore>>>,
    /// How many requests wait for what others hold, beyond their own shares.
    contenders: AtomicUsize,
    /// A permit for each request that may take memory without a reservation.
    waiting: Arc<Semaphore>,
    /// The most that tails may take, in bytes.
    tails: usize,
    parts: [Counts; MemoryPart::ALL.len()],
}

/// What memory is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum MemoryPart {
    /// The bodies of requests.
    Bodies,
    /// Answers that are not streams.
    Answers,
}

/// What is counted of a part.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    waits: AtomicU64,
    refusals: AtomicU64,
}

/// The same, when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct MemoryUsage {
    pub(in crate::server) part: MemoryPart,
    /// Bytes that are reserved.
    pub(in crate::server) bytes: u64,
    /// How many requests had to wait, so far.
    pub(in crate::server) waits: u64,
    /// How many were refused, so far.
    pub(in crate::server) refusals: u64,
}

/// Memory that is reserved; given back when this value is dropped.
#[derive(Debug)]
pub(in crate::server) struct MemoryPermit {
    budget: MemoryBudget,
    part: MemoryPart,
    /// How many bytes.
    bytes: u32,
    /// As many of each semaphore: of the shares, the narrowest network first, and of the total.
    held: Vec<OwnedSemaphorePermit>,
}

impl MemoryPart {
    pub(in crate::server) const ALL: [Self; 2] = [Self::Bodies, Self::Answers];

    /// Its name, as a label of the metrics.
    pub(in crate::server) fn label(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Answers => "answers",
        }
    }
}

impl MemoryBudget {
    /// A budget of so many bytes, for messages that are no larger than that.
    pub(in crate::server) fn new(bytes: u64, max_message_bytes: u64) -> Self {
        let layout = Layout::of(bytes, max_message_bytes);
        Self(Arc::new(Shared {
            bytes: layout.reservable,
            total: Arc::new(Semaphore::new(layout.reservable)),
            share: layout.share,
            shares: Mutex::default(),
            contenders: AtomicUsize::default(),
            waiting: Arc::new(Semaphore::new(layout.waiting)),
            tails: layout.tails,
            parts: Default::default(),
        }))
    }

    /// The most that the tails of watched streams may take, in bytes.
    pub(in crate::server) fn tails(&self) -> usize {
        self.0.tails
    }

    /// What is in use of each part.
    pub(in crate::server) fn usage(&self) -> [MemoryUsage; MemoryPart::ALL.len()] {
        MemoryPart::ALL.map(|part| {
            let counts = self.counts(part);
            let [bytes, waits, refusals] = [&counts.bytes, &counts.waits, &counts.refusals]
                .map(|count| count.load(Ordering::Relaxed));
            MemoryUsage { part, bytes, waits, refusals }
        })
    }

    fn counts(&self, part: MemoryPart) -> &Counts {
        &self.0.parts[part as usize]
    }

    /// Reserves so many bytes, and what a request takes beside them.
    ///
    /// # Errors
    /// When they do not fit, and do not come to fit within a moment.
    pub(in crate::server) async fn acquire(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Result<MemoryPermit, Problem> {
        let acquired = self.acquire_in_turn(address, part, bytes).await;
        acquired.ok_or_else(|| self.refuse(part))
    }

    async fn acquire_in_turn(
        &self,
        address: Address,
        part: MemoryPart,
        bytes: usize,
    ) -> Option<MemoryPermit> {
        let bytes = with_overhead(bytes)?;
        let shares = address.networks().zip(NETWORK_SHARES).map(|network| self.share(network));
        let (mut held, mut waiting) = (Vec::with_capacity(2), None);
        let deadline = Instant::now() + MAX_WAIT;
        // All acquire in the same order, so that nothing waits in a circle.
        for semaphore in shares.chain([Arc::clone(&self.0.total)]) {
            let permit = match Arc::clone(&semaphore).try_acquire_many_owned(bytes) {
                Ok(permit) => permit,
                Err(TryAcquireError::Closed) => return None,
                Err(TryAcquireError::NoPermits) => {
                    if waiting.is_none() {
                        waiting = Some(self.wait_without_reservation()?);
                        self.counts(part).waits.fetch_add(1, Ordering::Relaxed);
                    }
                    let _contender = Contender::for_semaphore(&self.0, &semaphore);
                    timeout_at(deadline, semaphore.acquire_many_owned(bytes)).await.ok()?.ok()?
                }
            };
            held.push(permit);
        }
        self.counts(part).bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        Some(MemoryPermit { budget: self.clone(), part, bytes, held })
    }

    /// Whether requests wait for memory that others hold.
    pub(in crate::server) fn is_contended(&self) -> bool {
        self.0.contenders.load(Ordering::Relaxed) > 0
    }

    /// Lets a request take the little memory that it needs to wait, if not too many do.
    pub(in crate::server) fn wait_without_reservation(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.waiting).try_acquire_owned().ok()
    }

    /// What is left of the share of a network.
    fn share(&self, (network, shares): (IpNet, u32)) -> Arc<Semaphore> {
        let mut all = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = all.get(&network).and_then(Weak::upgrade) {
            return semaphore;
        }
        if all.len() == all.capacity() {
            all.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        // Many networks of one owner are no more than half of all.
        let most = self.0.share.max(self.0.bytes / 2);
        let bytes = self.0.share.saturating_mul(shares as usize).min(most);
        let semaphore = Arc::new(Semaphore::new(bytes));
        all.insert(network, Arc::downgrade(&semaphore));
        semaphore
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

/// A request while it waits for what others hold.
struct Contender<'shared>(&'shared Shared);

impl<'shared> Contender<'shared> {
    /// None where it waits for its own share.
    fn for_semaphore(shared: &'shared Shared, semaphore: &Arc<Semaphore>) -> Option<Self> {
        Arc::ptr_eq(&shared.total, semaphore).then(|| {
            shared.contenders.fetch_add(1, Ordering::Relaxed);
            Self(shared)
        })
    }
}

impl Drop for Contender<'_> {
    fn drop(&mut self) {
        self.0.contenders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MemoryPermit {
    /// Reserves as many bytes as it turns out that are needed: gives back the rest, or acquires more,
    /// without waiting.
    ///
    /// # Errors
    /// When there is no more.
    pub(in crate::server) fn resize(&mut self, bytes: usize) -> Result<(), Problem> {
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

/// What a request takes that holds so many bytes.
fn with_overhead(bytes: usize) -> Option<u32> {
    let overhead = REQUEST_OVERHEAD + bytes.min(MAX_BUFFER_OVERHEAD);
    u32::try_from(bytes.saturating_add(overhead)).ok()
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn budget() -> MemoryBudget {
        // 32 MiB can be reserved, and 8 by one client.
        MemoryBudget::new(64 * MIB as u64, 64 * 1024)
    }

    async fn acquire(budget: &MemoryBudget, address: &str, bytes: usize) -> Option<MemoryPermit> {
        let address: IpAddr = address.parse().expect("an address");
        budget.acquire(address.into(), MemoryPart::Bodies, bytes).await.ok()
    }

    fn bodies(budget: &MemoryBudget) -> MemoryUsage {
        budget.usage()[MemoryPart::Bodies as usize]
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_share_and_all_have_the_total() {
        let budget = budget();
        let mut held = Vec::new();
        for client in 0..20 {
            for _ in 0..20 {
                held.extend(acquire(&budget, &format!("192.0.2.{client}"), MIB / 2).await);
            }
        }
        let each = MIB / 2 + REQUEST_OVERHEAD + MAX_BUFFER_OVERHEAD;
        assert_eq!(held.len(), 32 * MIB / each);
        assert_eq!(bodies(&budget).bytes, (held.len() * each) as u64);
        assert!(bodies(&budget).refusals > 0 && bodies(&budget).waits > 0);
        held.drain(..10);
        assert!(acquire(&budget, "198.51.100.1", MIB).await.is_some());
        drop(held);
        assert_eq!(bodies(&budget).bytes, 0);
        assert_eq!(budget.0.total.available_permits(), 32 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_for_a_moment() {
        let budget = budget();
        let first = acquire(&budget, "192.0.2.1", 7 * MIB).await.expect("a reservation");
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { acquire(&budget, "192.0.2.1", 7 * MIB).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.expect("no panic").expect("its turn");
        assert!(acquire(&budget, "192.0.2.1", 7 * MIB).await.is_none(), "in vain");
        assert_eq!((bodies(&budget).waits, bodies(&budget).refusals), (2, 1));
        drop(second);
        assert!(acquire(&budget, "192.0.2.1", 7 * MIB).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn networks_of_one_owner_share() {
        let budget = budget();
        let mut held = Vec::new();
        for network in 0..100 {
            held.extend(acquire(&budget, &format!("2001:db8:0:{network:x}00::1"), 2 * MIB).await);
        }
        assert_eq!(held.len(), 7, "half of all");
        assert!(acquire(&budget, "2001:db8:1::1", 2 * MIB).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_shrinks_and_grows() {
        let budget = budget();
        let mut permit = acquire(&budget, "192.0.2.1", 7 * MIB).await.expect("a reservation");
        permit.resize(MIB).expect("less");
        let each = MIB + REQUEST_OVERHEAD + MAX_BUFFER_OVERHEAD;
        assert_eq!(bodies(&budget).bytes, each as u64);
        let other = acquire(&budget, "192.0.2.1", 6 * MIB).await.expect("the rest");
        assert!(permit.resize(2 * MIB).is_err(), "more than the share");
        drop(other);
        permit.resize(3 * MIB).expect("more");
        drop(permit);
        assert_eq!(bodies(&budget).bytes, 0);
        assert_eq!(budget.0.total.available_permits(), 32 * MIB);
    }
}
