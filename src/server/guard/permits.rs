//! Concurrency limits: a total number of permits, and a maximum per client.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;

use crate::server::client::{Address, NETWORK_SHARES};

/// A concurrency limit, in total and per client; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyLimit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: u64,
    max_per_address: u64,
    in_use: Mutex<InUse>,
}

#[derive(Debug, Default)]
struct InUse {
    count: u64,
    /// Only networks that hold permits: at most three entries per permit.
    by_network: HashMap<IpNet, u64>,
}

/// A permit; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    /// The address whose limit it counts against.
    address: Option<Address>,
}

/// Which limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The total.
    Global,
    /// That of the client.
    PerClient,
}

impl ConcurrencyLimit {
    pub(crate) fn new(max: u64, max_per_address: u64) -> Self {
        Self(Arc::new(Shared { max, max_per_address, in_use: Mutex::default() }))
    }

    /// How many permits are in use in total.
    pub(crate) fn in_use(&self) -> u64 {
        self.0.in_use().count
    }

    /// Acquires a permit. Without an address, only the total limit applies.
    ///
    /// # Errors
    /// When a limit is exceeded.
    pub(crate) fn acquire(&self, address: Option<Address>) -> Result<Permit, Exceeded> {
        let mut in_use = self.0.in_use();
        if in_use.count >= self.0.max {
            return Err(Exceeded::Global);
        }
        if let Some(address) = address {
            for (network, shares) in address.networks().zip(NETWORK_SHARES) {
                let of_network = in_use.by_network.get(&network).copied().unwrap_or_default();
                if of_network >= self.0.max_per_address.saturating_mul(shares.into()) {
                    return Err(Exceeded::PerClient);
                }
            }
            for network in address.networks() {
                *in_use.by_network.entry(network).or_default() += 1;
            }
        }
        in_use.count += 1;
        Ok(Permit { shared: Arc::clone(&self.0), address })
    }
}

impl Shared {
    fn in_use(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut in_use = self.shared.in_use();
        in_use.count -= 1;
        for network in self.address.into_iter().flat_map(Address::networks) {
            if let Entry::Occupied(mut of_network) = in_use.by_network.entry(network) {
                *of_network.get_mut() -= 1;
                if *of_network.get() == 0 {
                    of_network.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_released() {
        let limit = ConcurrencyLimit::new(4, 2);
        let acquire = |address: &str| {
            let address: std::net::IpAddr = address.parse().expect("an address");
            limit.acquire(Some(address.into()))
        };
        let first = acquire("2001:db8::1").expect("the first of its network");
        let second = acquire("2001:db8::2").expect("another of the same network");
        assert_eq!(acquire("2001:db8::3").expect_err("a third"), Exceeded::PerClient);
        let without_address = [limit.acquire(None), limit.acquire(None)];
        assert!(without_address.iter().all(Result::is_ok));
        assert_eq!(acquire("192.0.2.1").expect_err("there are four"), Exceeded::Global);
        assert_eq!(limit.in_use(), 4);

        drop(first);
        assert!(acquire("::ffff:192.0.2.1").is_ok());
        let third = acquire("2001:db8::3").expect("a free permit");
        drop(without_address);
        assert_eq!(acquire("2001:db8::4").expect_err("a third"), Exceeded::PerClient);
        drop((second, third));
        assert_eq!(limit.in_use(), 0);
        assert!(limit.0.in_use().by_network.is_empty(), "no network is remembered");
    }

    #[test]
    fn networks_of_one_owner_share_a_limit() {
        let limit = ConcurrencyLimit::new(u64::MAX, 2);
        let acquired = |prefix: &str, networks: u32| -> Vec<Permit> {
            let addresses = (0..networks).flat_map(|n| [n, n, n]).map(|n| {
                let address: std::net::IpAddr =
                    format!("{prefix}{n:02x}::1").parse().expect("an address");
                limit.acquire(Some(address.into()))
            });
            addresses.flatten().collect()
        };
        assert_eq!(acquired("2001:db8:a:1", 1).len(), 2, "a /64");
        assert_eq!(acquired("2001:db8:a:1", 100).len(), 8, "a /56");
        let networks: Vec<_> =
            (1..100).flat_map(|n| acquired(&format!("2001:db8:b:{n:x}"), 100)).collect();
        assert_eq!(networks.len(), 32, "a /48");
        assert_eq!(acquired("2001:db8:c:1", 1).len(), 2, "another /48");
    }
}
