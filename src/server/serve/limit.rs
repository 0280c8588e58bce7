//! How many connections there may be.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::super::client::{Address, Trusted};

/// The connections that are open, and those that were one too many; a cheap clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: u64,
    most_per_address: u64,
    /// Through them come the connections of everybody: only the whole number binds them.
    trusted: Trusted,
    open: Mutex<Open>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    count: u64,
    /// Only addresses that have any, so that it never holds more than there may be connections.
    by_address: HashMap<Address, u64>,
}

/// One of the connections that may be open; its place is free again when this value goes.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    /// For whom it counts.
    address: Option<Address>,
}

impl Connections {
    pub(in crate::server) fn new(most: u64, most_per_address: u64, trusted: Trusted) -> Self {
        let (open, refused) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { most, most_per_address, trusted, open, refused }))
    }

    /// How many are open.
    pub(in crate::server) fn open(&self) -> u64 {
        self.0.open().count
    }

    /// How many were closed at once so far because there were too many.
    pub(in crate::server) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// A place for another one, if there is one.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Permit> {
        let counted = (!self.0.trusted.contains(address)).then(|| Address::from(address));
        let admitted = self.0.open().add(counted, self.0.most, self.0.most_per_address);
        if !admitted {
            let refused = 1 + self.0.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, refused, "a connection too many was closed");
            return None;
        }
        Some(Permit { shared: Arc::clone(&self.0), address: counted })
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn add(&mut self, address: Option<Address>, most: u64, most_per_address: u64) -> bool {
        if self.count >= most {
            return false;
        }
        if let Some(address) = address {
            let of_address = self.by_address.get(&address).copied().unwrap_or_default();
            if of_address >= most_per_address {
                return false;
            }
            self.by_address.insert(address, of_address + 1);
        }
        self.count += 1;
        true
    }

    fn remove(&mut self, address: Option<Address>) {
        self.count -= 1;
        let Some(Entry::Occupied(mut of_address)) = address.map(|one| self.by_address.entry(one))
        else {
            return;
        };
        *of_address.get_mut() -= 1;
        if *of_address.get() == 0 {
            of_address.remove();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.open().remove(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let trusted = Trusted::new(&["10.0.0.0/8".parse().expect("a network")]);
        let connections = Connections::new(4, 2, trusted);
        let admit = |address: &str| connections.admit(address.parse().expect("an address"));

        let one = admit("2001:db8::1").expect("the first of its address");
        let two = admit("2001:db8::2").expect("another of the same network");
        assert!(admit("2001:db8::3").is_none(), "a third of the same network");
        let proxied = [admit("10.0.0.1"), admit("10.0.0.1")];
        assert!(proxied.iter().all(Option::is_some));
        assert!(admit("192.0.2.1").is_none(), "there are four");
        assert_eq!((connections.open(), connections.refused()), (4, 2));

        drop(one);
        assert!(admit("::ffff:192.0.2.1").is_some());
        let three = admit("2001:db8::3").expect("a place that was left");
        drop(proxied);
        assert!(admit("2001:db8::4").is_none());
        drop((two, three));
        assert_eq!(connections.open(), 0);
        assert!(connections.0.open().by_address.is_empty(), "no address is remembered");
    }
}
