//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where ids get their milliseconds from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's.
    System,
    /// A time of day that follows tokio's clock, which a test can stop and move.
    Following {
        /// Milliseconds since the Unix epoch at `origin`.
        millis: u64,
        /// The moment they belong to.
        origin: Instant,
    },
}

impl Clock {
    /// The time of day in milliseconds since the Unix epoch.
    pub fn now(self) -> u64 {
        let (base, since) = match self {
            // A clock set before 1970 reads 0.
            Self::System => (0, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Following { millis, origin } => (millis, origin.elapsed()),
        };
        base.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
