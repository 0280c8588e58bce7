//! Publishing: the request body is the message, or with `?lines` each line is one.

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
    lines::{self, LineMode},
    notification::{Notification, Parameters},
    publishing::Publishing,
    query::parameters,
};
use crate::{
    problem,
    server::{client::Client, error::Problem, guard::MayPublish},
};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// `POST /streams/{name}`, and the same with `?lines`. The title, priority, tags and links of a
/// notification may be in headers without `X-`: where a tool adds a topic to an address, that may be
/// `…/streams`.
pub(crate) async fn publish(
    State(publishing): State<Arc<Publishing>>,
    client: Client,
    may: MayPublish,
    format: BodyFormat,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = idempotency::key(&headers)?;
    if let BodyFormat::Lines(mode) = format {
        return match key {
            None => lines::publish(&publishing, client, may, mode, body)
                .await
                .map(IntoResponse::into_response),
            Some(key) => lines::publish_atomic(&publishing, client, may, mode, body, key)
                .await
                .map(|(stored, replayed)| respond(Json(stored), replayed)),
        };
    }
    let notification = Notification::new(&Parameters::from_stream_headers(&headers))?;
    let ReadBody { bytes, memory } = publishing.read(client, body).await?;
    let mut text = publishing.text(bytes)?;
    if !notification.is_plain() {
        text = publishing.text(notification.text(text.into_text()).into_bytes())?;
    }
    let appended = publishing.publish(&may, text, key, memory).await?;
    let accepted = Json(Accepted::new(appended.last));
    Ok(respond((StatusCode::CREATED, accepted), appended.replayed))
}

/// The response, with `Idempotency-Replayed: true` if the request was a retry that is already stored.
pub(super) fn respond(response: impl IntoResponse, replayed: bool) -> Response {
    let mut response = response.into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// How to read the body.
pub(crate) enum BodyFormat {
    /// As one message.
    Single,
    /// As one message per line.
    Lines(LineMode),
}

impl<S: Send + Sync> FromRequestParts<S> for BodyFormat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [lines] = parameters(parts, ["lines"]).await?;
        match lines.as_deref() {
            None => Ok(Self::Single),
            Some("") => Ok(Self::Lines(LineMode::Lossy)),
            Some("strict") => Ok(Self::Lines(LineMode::Strict)),
            Some(_) => Err(Problem::new(
                problem::MALFORMED_QUERY,
                "Use ?lines without a value, or ?lines=strict.",
            )),
        }
    }
}
