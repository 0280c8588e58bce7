//! The limits on open connections: in total, and per client address.

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

/// Counts the open connections, and those that exceeded a limit; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    limit: ConcurrencyLimit,
    /// They carry the connections of all clients: only the total limit applies to them.
    trusted: TrustedProxies,
    refused: Arc<AtomicU64>,
}

impl Connections {
    pub(crate) fn new(limit: ConcurrencyLimit, trusted: TrustedProxies) -> Self {
        Self { limit, trusted, refused: Arc::default() }
    }

    /// The number of open connections.
    pub(crate) fn open(&self) -> u64 {
        self.limit.in_use()
    }

    /// The number of connections that were closed at once because a limit was exceeded.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A permit for another connection; `None` when a limit is exceeded.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Permit> {
        let counted = (!self.trusted.contains(address)).then(|| address.into());
        let permit = self.limit.acquire(counted);
        if let Err(exceeded) = permit {
            let refused = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, ?exceeded, refused, "a connection over the limit was closed");
        }
        permit.ok()
    }
}
