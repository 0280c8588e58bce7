//! The topic in the path of a request: a stream whose address is not one of the site.

use axum::{
    extract::{FromRef, FromRequestParts, Path},
    http::request::Parts,
};

use crate::{
    problem,
    server::{
        error::Problem,
        guard::{Access, MayPublish},
        mount,
    },
};

/// The first segments of the site's addresses that are no routes of their own. (A file's name has a full
/// stop, which no topic has.)
pub(crate) const RESERVED: [&str; 3] = ["api", "health", "pkg"];

/// The permission to publish to the stream that the topic names.
pub(crate) struct Topic(pub(crate) MayPublish);

impl<S: Send + Sync> FromRequestParts<S> for Topic
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let is_of_site = |topic: &str| topic.contains('.') || RESERVED.contains(&topic);
        if path.is_ok_and(|Path(topic)| is_of_site(&topic)) {
            let detail = format!(
                "This is not the address of a topic. POST to {} for a stream of any name.",
                mount::address("/streams/{name}")
            );
            return Err(Problem::new(problem::NOT_FOUND, detail));
        }
        MayPublish::from_request_parts(parts, state).await.map(Self)
    }
}
