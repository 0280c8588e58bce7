//! The wall clock, and timestamps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clock that dates ids and checks the expiry of tokens.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system clock.
    System,
    /// A wall clock that advances with tokio's clock, which a test can pause and advance.
    Tokio {
        /// Milliseconds since the Unix epoch at `origin`.
        millis: u64,
        /// The instant of tokio's clock that `millis` belongs to.
        origin: Instant,
    },
}

impl Clock {
    /// The time of day in milliseconds since the Unix epoch.
    pub fn now(self) -> u64 {
        let (base, since) = match self {
            // A clock set before 1970 reads 0.
            Self::System => (0, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Tokio { millis, origin } => (millis, origin.elapsed()),
        };
        base.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since the Unix epoch as an RFC 3339 timestamp in UTC, with milliseconds.
pub(crate) fn timestamp(millis: u64) -> String {
    /// The last millisecond of the year 9999, the last year that RFC 3339 can express.
    const LATEST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(millis.min(LATEST));
    humantime::format_rfc3339_millis(time).to_string()
}
