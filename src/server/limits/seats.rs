//! Seats: so many in all, and so many of them for each address.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::client::Address;

/// The seats that there are; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(in crate::server) struct Seats(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: u64,
    most_per_address: u64,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: u64,
    /// Only addresses that have any, so that it never holds more than there are seats.
    by_address: HashMap<Address, u64>,
}

/// A seat that is taken; it is free again when this value goes.
#[derive(Debug)]
pub(in crate::server) struct Seat {
    shared: Arc<Shared>,
    /// For whom it counts.
    address: Option<Address>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Full {
    /// All are taken.
    ForAll,
    /// The address has as many as it may.
    ForAddress,
}

impl Seats {
    pub(in crate::server) fn new(most: u64, most_per_address: u64) -> Self {
        Self(Arc::new(Shared { most, most_per_address, taken: Mutex::default() }))
    }

    /// How many are taken.
    pub(in crate::server) fn taken(&self) -> u64 {
        self.0.taken().count
    }

    /// Takes a seat, if there is one. One that counts for no address is bound by the number of all
    /// alone.
    pub(in crate::server) fn take(&self, address: Option<Address>) -> Result<Seat, Full> {
        let mut taken = self.0.taken();
        if taken.count >= self.0.most {
            return Err(Full::ForAll);
        }
        if let Some(address) = address {
            let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
            if of_address >= self.0.most_per_address {
                return Err(Full::ForAddress);
            }
            taken.by_address.insert(address, of_address + 1);
        }
        taken.count += 1;
        Ok(Seat { shared: Arc::clone(&self.0), address })
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.count -= 1;
        let of_address = self.address.map(|address| taken.by_address.entry(address));
        if let Some(Entry::Occupied(mut of_address)) = of_address {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let seats = Seats::new(4, 2);
        let take = |address: &str| {
            let address: std::net::IpAddr = address.parse().expect("an address");
            seats.take(Some(address.into()))
        };
        let one = take("2001:db8::1").expect("the first of its address");
        let two = take("2001:db8::2").expect("another of the same network");
        assert_eq!(take("2001:db8::3").expect_err("a third"), Full::ForAddress);
        let nobodys = [seats.take(None), seats.take(None)];
        assert!(nobodys.iter().all(Result::is_ok));
        assert_eq!(take("192.0.2.1").expect_err("there are four"), Full::ForAll);
        assert_eq!(seats.taken(), 4);

        drop(one);
        assert!(take("::ffff:192.0.2.1").is_ok());
        let three = take("2001:db8::3").expect("a seat that was left");
        drop(nobodys);
        assert_eq!(take("2001:db8::4").expect_err("a third"), Full::ForAddress);
        drop((two, three));
        assert_eq!(seats.taken(), 0);
        assert!(seats.0.taken().by_address.is_empty(), "no address is remembered");
    }
}
