//! When a message was published.

use std::time::{Duration, UNIX_EPOCH};

use tidings::message::EventId;

/// When a message was published: its id as an RFC 3339 timestamp in UTC, with milliseconds.
pub(super) fn published_at(id: EventId) -> String {
    /// The last millisecond of the year 9999, the last year that RFC 3339 can express.
    const LATEST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(id.millis.min(LATEST));
    humantime::format_rfc3339_millis(time).to_string()
}
