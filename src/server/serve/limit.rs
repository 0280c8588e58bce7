//! How many connections there may be.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::super::{
    client::Trusted,
    limits::{Seat, Seats},
};

/// The connections that are open, and those that were one too many; a cheap clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Connections {
    seats: Seats,
    /// Through them come the connections of everybody: only the whole number binds them.
    trusted: Trusted,
    refused: Arc<AtomicU64>,
}

impl Connections {
    pub(in crate::server) fn new(seats: Seats, trusted: Trusted) -> Self {
        Self { seats, trusted, refused: Arc::default() }
    }

    /// How many are open.
    pub(in crate::server) fn open(&self) -> u64 {
        self.seats.taken()
    }

    /// How many were closed at once so far because there were too many.
    pub(in crate::server) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A seat for another one, if there is one.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Seat> {
        let counted = (!self.trusted.contains(address)).then(|| address.into());
        let seat = self.seats.take(counted);
        if let Err(full) = seat {
            let refused = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, ?full, refused, "a connection too many was closed");
        }
        seat.ok()
    }
}
