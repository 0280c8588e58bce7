//! The JSON response to a write: the id of the message, and when it was accepted.

use serde::Serialize;

use crate::{message::EventId, server::clock::timestamp};

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

/// When a message was accepted, from its id: an RFC 3339 timestamp.
pub(crate) fn accepted_at(id: EventId) -> String {
    timestamp(id.millis)
}
