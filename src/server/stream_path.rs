//! The extractor of the stream name in the path of a request.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::error::Problem;
use crate::{message::StreamName, problem};

/// The name of a stream, from the path.
pub(crate) struct StreamPath(pub(crate) StreamName);

impl<S: Send + Sync> FromRequestParts<S> for StreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let name = path.ok().and_then(|Path(name)| name.parse().ok());
        name.map(Self).ok_or_else(malformed_name)
    }
}

/// The problem for a malformed stream name.
pub(crate) fn malformed_name() -> Problem {
    Problem::new(
        problem::MALFORMED_NAME,
        "Use 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, a letter or a digit first.",
    )
}
