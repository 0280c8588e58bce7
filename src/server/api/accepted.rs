//! The JSON response to a write: the id of the message, and when it was accepted.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{message::EventId, server::clock::timestamp};

/// The body of the response.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The id of the message.
    id: EventId,
    /// When it was accepted.
    #[schema(format = DateTime)]
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
