//! Permits that clients share: a number in all, and a part of it for each network.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::client::{Address, NETWORK_SHARES};

/// The permits.
#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    /// The most that one client may hold.
    share: usize,
    total: Arc<Semaphore>,
    /// What is left of the shares of those networks that hold something or wait.
    shares: Mutex<HashMap<IpNet, Weak<Semaphore>>>,
}

impl Pool {
    pub(super) fn new(size: usize, share: usize) -> Self {
        Self { size, share, total: Arc::new(Semaphore::new(size)), shares: Mutex::default() }
    }

    /// What a client has to acquire permits of: the shares of its networks, the narrowest first, and
    /// the total. All acquire them in this order, so that nothing waits in a circle.
    pub(super) fn semaphores(&self, address: Address) -> impl Iterator<Item = Arc<Semaphore>> {
        let shares = address.networks().zip(NETWORK_SHARES);
        shares.map(|(network, shares)| self.share(network, shares)).chain([Arc::clone(&self.total)])
    }

    /// Whether a semaphore is the one for what all clients hold together.
    pub(super) fn is_total(&self, semaphore: &Arc<Semaphore>) -> bool {
        Arc::ptr_eq(&self.total, semaphore)
    }

    /// Acquires so many permits, if they are there: of each semaphore.
    pub(super) fn try_acquire(
        &self,
        address: Address,
        permits: u32,
    ) -> Option<Vec<OwnedSemaphorePermit>> {
        let acquire = |semaphore: Arc<Semaphore>| semaphore.try_acquire_many_owned(permits).ok();
        self.semaphores(address).map(acquire).collect()
    }

    /// What is left of the share of a network.
    fn share(&self, network: IpNet, shares: u32) -> Arc<Semaphore> {
        let mut all = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = all.get(&network).and_then(Weak::upgrade) {
            return semaphore;
        }
        if all.len() == all.capacity() {
            all.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        // Many networks of one owner are no more than half of all.
        let max = self.share.max(self.size / 2);
        let permits = self.share.saturating_mul(shares as usize).min(max);
        let semaphore = Arc::new(Semaphore::new(permits));
        all.insert(network, Arc::downgrade(&semaphore));
        semaphore
    }

    /// How many permits are left.
    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        self.total.available_permits()
    }
}
