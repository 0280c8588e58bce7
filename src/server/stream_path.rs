//! The stream that a request is about.

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

/// What is said of a name that is none.
pub(crate) fn malformed_name() -> Problem {
    Problem::new(
        problem::MALFORMED_NAME,
        "Use 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, with a letter or a digit first.",
    )
}
