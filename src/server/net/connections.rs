//! How many connections there may be.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::server::{
    client::TrustedProxies,
    guard::{ConcurrencyLimit, Permit},
};

/// The connections that are open, and those that were one too many; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    limit: ConcurrencyLimit,
    /// Through them come the connections of everybody: only the whole number binds them.
    trusted: TrustedProxies,
    refused: Arc<AtomicU64>,
}

impl Connections {
    pub(crate) fn new(limit: ConcurrencyLimit, trusted: TrustedProxies) -> Self {
        Self { limit, trusted, refused: Arc::default() }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        self.limit.in_use()
    }

    /// How many were closed at once so far because there were too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A permit for another one, if there is one.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Permit> {
        let counted = (!self.trusted.contains(address)).then(|| address.into());
        let permit = self.limit.acquire(counted);
        if let Err(exceeded) = permit {
            let refused = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, ?exceeded, refused, "a connection too many was closed");
        }
        permit.ok()
    }
}
