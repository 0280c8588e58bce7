//! Publishing: the body is the message.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    accepted::Accepted,
    body::ReadBody,
    idempotency,
    lines::{self, Lines},
    publishing::Publishing,
    query::parameters,
};
use crate::{
    problem,
    server::{client::Client, error::Problem, guard::MayPublish},
};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// `POST /streams/{name}`, and the same with `?lines`
pub(crate) async fn publish(
    State(publishing): State<Arc<Publishing>>,
    client: Client,
    may: MayPublish,
    format: BodyFormat,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = idempotency::key(&headers)?;
    if let BodyFormat::Lines(lines) = format {
        return match key {
            None => lines::publish(&publishing, client, may, lines, body)
                .await
                .map(IntoResponse::into_response),
            Some(key) => lines::publish_whole(&publishing, client, may, lines, body, key)
                .await
                .map(|(stored, replayed)| answer(Json(stored), replayed)),
        };
    }
    let ReadBody { bytes, memory } = publishing.read(client, body).await?;
    let text = publishing.text(bytes)?;
    let appended = publishing.publish(&may, text, key, memory).await?;
    let accepted = Json(Accepted::new(appended.last));
    Ok(answer((StatusCode::CREATED, accepted), appended.replayed))
}

/// The answer, and whether it was given before.
fn answer(answer: impl IntoResponse, replayed: bool) -> Response {
    let mut response = answer.into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// How the body is to be understood.
pub(crate) enum BodyFormat {
    /// As one message.
    Single,
    /// As a message a line.
    Lines(Lines),
}

impl<S: Send + Sync> FromRequestParts<S> for BodyFormat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [lines] = parameters(parts, ["lines"]).await?;
        match lines.as_deref() {
            None => Ok(Self::Single),
            Some("") => Ok(Self::Lines(Lines::Altered)),
            Some("strict") => Ok(Self::Lines(Lines::Strict)),
            Some(_) => {
                Err(Problem::new(problem::MALFORMED_QUERY, "Write ?lines alone, or ?lines=strict."))
            }
        }
    }
}
