//! What is kept of a reader while its event stream is open.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use tokio::time::Instant;

use super::stats::{BATCH_BYTES, StreamStats};
use crate::{message::PING_INTERVAL_MS, server::guard::Permit};

/// A reader is sent something at least this often.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);

/// The kind of a client, from its user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Paced, since it cannot dispatch events faster than the pauses after large batches allow.
    Browser,
    /// Not paced.
    Program,
}

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The user agent of every browser begins with this.
        let agent = parts.headers.get(header::USER_AGENT);
        let browser = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
        Ok(if browser { Self::Browser } else { Self::Program })
    }
}

/// The permission of a reader, held by its response.
pub(crate) struct WatchGrant {
    pub(crate) permit: Permit,
    /// When the permission to watch ends. `None`: never.
    pub(crate) expires_at: Option<Instant>,
}

/// An open event stream, beside its frames: what is kept of its request, and what was sent.
pub(crate) struct Subscription {
    pub(crate) reader: Reader,
    /// When the permission to watch ends.
    pub(crate) expires_at: Option<Instant>,
    pub(crate) last_sent: Instant,
    /// Whether the last ping said that the store is out of reach.
    pub(crate) stale: bool,
    pub(super) stats: StreamStats,
    pub(super) _permit: Permit,
}

impl Subscription {
    /// Records what was sent of frames that many readers share.
    pub(crate) fn record_sent(&mut self, messages: u64, bytes: u64, now: Instant) {
        self.last_sent = now;
        self.stats.add(messages, bytes);
    }

    /// Whether the reader needs a pause after a batch of so many bytes.
    pub(crate) fn is_paced(&self, bytes: usize) -> bool {
        self.reader == Reader::Browser && bytes >= BATCH_BYTES / 2
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= Instant::now())
    }

    /// When something happens although there is no message: a ping, or the end of the permission.
    pub(crate) fn next_deadline(&self) -> Instant {
        let ping = self.last_sent + PING_INTERVAL;
        self.expires_at.map_or(ping, |expires_at| expires_at.min(ping))
    }
}
