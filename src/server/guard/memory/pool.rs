//! A pool of permits: a total, and a share of it per client network.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::client::{Address, NETWORK_SHARES};

/// The pool.
#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    /// The most permits that one client may hold.
    share: usize,
    total: Arc<Semaphore>,
    /// The shares of the networks that hold permits or wait for some.
    shares: Mutex<HashMap<IpNet, Weak<Semaphore>>>,
}

impl Pool {
    pub(super) fn new(size: usize, share: usize) -> Self {
        Self { size, share, total: Arc::new(Semaphore::new(size)), shares: Mutex::default() }
    }

    /// The semaphores of which a client has to acquire permits: the shares of its networks, the narrowest
    /// first, then the total. All clients acquire them in this order, so that none deadlock.
    pub(super) fn semaphores(&self, address: Address) -> impl Iterator<Item = Arc<Semaphore>> {
        let shares = address.networks().zip(NETWORK_SHARES);
        shares.map(|(network, shares)| self.share(network, shares)).chain([Arc::clone(&self.total)])
    }

    /// Whether this is the semaphore of the total.
    pub(super) fn is_total(&self, semaphore: &Arc<Semaphore>) -> bool {
        Arc::ptr_eq(&self.total, semaphore)
    }

    /// Acquires that many permits of each semaphore, without waiting.
    pub(super) fn try_acquire(
        &self,
        address: Address,
        permits: u32,
    ) -> Option<Vec<OwnedSemaphorePermit>> {
        let acquire = |semaphore: Arc<Semaphore>| semaphore.try_acquire_many_owned(permits).ok();
        self.semaphores(address).map(acquire).collect()
    }

    /// The semaphore of a network's share.
    fn share(&self, network: IpNet, shares: u32) -> Arc<Semaphore> {
        let mut all = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = all.get(&network).and_then(Weak::upgrade) {
            return semaphore;
        }
        if all.len() == all.capacity() {
            all.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        // A wide network, with many clients of one owner, gets at most half of the total.
        let max = self.share.max(self.size / 2);
        let permits = self.share.saturating_mul(shares as usize).min(max);
        let semaphore = Arc::new(Semaphore::new(permits));
        all.insert(network, Arc::downgrade(&semaphore));
        semaphore
    }

    /// How many permits of the total are available.
    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        self.total.available_permits()
    }
}
