//! The answer to a write: the id of the message and when it was accepted.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::message::EventId;

/// What was accepted.
#[derive(Serialize)]
pub(crate) struct Accepted {
    id: EventId,
    at: String,
}

impl Accepted {
    pub(crate) fn new(id: EventId) -> Self {
        Self { id, at: at(id) }
    }
}

/// When a message was accepted, as RFC 3339 has it, in UTC.
pub(crate) fn at(id: EventId) -> String {
    /// The last millisecond of the year 9999, the last that has a spelling.
    const LATEST: u64 = 253_402_300_799_999;
    let moment = UNIX_EPOCH + Duration::from_millis(id.millis.min(LATEST));
    humantime::format_rfc3339_millis(moment).to_string()
}
