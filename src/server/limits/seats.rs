//! How many may watch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::super::{client::Address, error::Problem};
use crate::problem;

/// When to try again, about: seats become free at any time.
const AGAIN: Duration = Duration::from_secs(30);

/// The seats of those who watch; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(in crate::server) struct Seats {
    /// How many there are.
    most: u64,
    /// How many one address may take.
    each: u64,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    by: HashMap<Address, u64>,
}

/// A seat; free again when it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Seat {
    seats: Seats,
    address: Address,
}

impl Seats {
    pub(super) fn new(most: u64, each: u64) -> Self {
        Self { most, each, taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    pub(in crate::server) fn count(&self) -> u64 {
        self.taken().all
    }

    /// A seat, if there is one.
    pub(in crate::server) fn take(&self, address: Address) -> Result<Seat, Problem> {
        let mut taken = self.taken();
        if taken.all >= self.most {
            let detail = "As many watch as the server can serve. Try again later.";
            return Err(Problem::new(problem::SERVER_FULL, detail).retry_after(AGAIN));
        }
        let mine = taken.by.entry(address).or_default();
        if *mine >= self.each {
            let detail = format!("{} streams are open to your address already; close one.", *mine);
            return Err(Problem::new(problem::TOO_MANY_WATCHERS, detail).retry_after(AGAIN));
        }
        *mine += 1;
        taken.all += 1;
        Ok(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.all -= 1;
        if let Some(mine) = taken.by.get_mut(&self.address) {
            *mine -= 1;
            if *mine == 0 {
                taken.by.remove(&self.address);
            }
        }
    }
}
