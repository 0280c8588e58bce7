//! The JSON response to a write: the id of the message, and when it was accepted.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::message::EventId;

/// The body of the response.
#[derive(Serialize)]
pub(crate) struct Accepted {
    id: EventId,
    at: String,
}

impl Accepted {
    pub(crate) fn new(id: EventId) -> Self {
        Self { id, at: accepted_at(id) }
    }
}

/// When a message was accepted: its id as an RFC 3339 timestamp in UTC, with milliseconds.
pub(crate) fn accepted_at(id: EventId) -> String {
    /// The last millisecond of the year 9999, the last year that RFC 3339 can express.
    const LATEST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(id.millis.min(LATEST));
    humantime::format_rfc3339_millis(time).to_string()
}
