//! Publishing as to an ntfy server: `POST` or `PUT /{topic}`, JSON at the base address, and a `GET` for
//! tools that can send nothing else. A topic is a stream.
//!
//! Written from ntfy's public documentation of publishing. What a message cannot have is refused where
//! the sender relies on it (a delay, an e-mail), and ignored where it does not (an icon).

mod json;
mod topic;

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::{
    json::publish_json,
    topic::{RESERVED as RESERVED_TOPICS, Topic},
};
use super::{
    body::ReadBody,
    idempotency,
    notification::{Notification, Parameters, Priority},
    publish::respond,
    publishing::Publishing,
};
use crate::{
    message::{EventId, StreamName},
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Access, MayPublish, cross_site},
        log::IdempotencyKey,
    },
};

/// The most bytes of a message that the response repeats: those that ntfy allows one. Memory is reserved for
/// the request, not for a response, which a client may read late.
const MAX_REPEATED_BYTES: usize = 4096;
/// The text of a notification that has none.
const DEFAULT_MESSAGE: &str = "triggered";

/// The query of a request.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `POST` or `PUT /{topic}`: the body is the message, the rest is in headers or in the query.
pub(crate) async fn publish(
    State(publishing): State<Arc<Publishing>>,
    client: Client,
    Topic(may): Topic,
    pairs: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut parameters = parameters(&headers, pairs)?;
    let notification = Notification::new(&parameters)?;
    let key = idempotency::key(&headers)?;
    let ReadBody { bytes, memory } = publishing.read(client, body).await?;
    let message = if bytes.is_empty() {
        parameters.take_message()
    } else {
        publishing.text(bytes)?.into_text()
    };
    store(&publishing, &may, notification, message, key, memory).await
}

/// `GET /{topic}/publish`, `/send` and `/trigger`: everything is in the query.
///
/// Pages, mail programs and previews of links request addresses without anyone's intent to write. So this
/// needs a token in the `Authorization` header, which none of them adds, and refuses pages of other sites.
pub(crate) async fn publish_by_get(
    State(publishing): State<Arc<Publishing>>,
    State(access): State<Access>,
    Topic(may): Topic,
    pairs: Pairs,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if method != Method::GET {
        let detail = "Use GET here, or POST to the topic.";
        let problem = Problem::new(problem::METHOD_NOT_ALLOWED, detail);
        return Ok(([(header::ALLOW, "GET")], problem).into_response());
    }
    if !access.is_restricted() || !headers.contains_key(header::AUTHORIZATION) {
        return Err(Problem::new(
            problem::GET_NEEDS_TOKEN,
            "POST to the topic; or, on a server with a secret, send a token in the Authorization \
             header.",
        ));
    }
    cross_site::refuse_other_sites(&headers)?;
    let mut parameters = parameters(&headers, pairs)?;
    let notification = Notification::new(&parameters)?;
    let key = idempotency::key(&headers)?;
    let message = parameters.take_message();
    let mut response = store(&publishing, &may, notification, message, key, ()).await?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn parameters(headers: &HeaderMap, pairs: Pairs) -> Result<Parameters, Problem> {
    let Query(pairs) = pairs?;
    let mut parameters = Parameters::from_headers(headers);
    parameters.add_query(pairs)?;
    Ok(parameters)
}

/// Publishes a notification; the response is that of ntfy.
async fn store(
    publishing: &Publishing,
    may: &MayPublish,
    notification: Notification,
    message: String,
    key: Option<IdempotencyKey>,
    memory: impl Send + 'static,
) -> Result<Response, Problem> {
    let mut repeated = message[..message.floor_char_boundary(MAX_REPEATED_BYTES)].to_owned();
    if repeated.is_empty() {
        DEFAULT_MESSAGE.clone_into(&mut repeated);
    }
    let text = notification.text(message);
    let text = if text.is_empty() { DEFAULT_MESSAGE.to_owned() } else { text };
    let text = publishing.text(text.into_bytes())?;
    let appended = publishing.publish(may, text, key, memory).await?;
    let published = Published::new(appended.last, may.stream(), &notification, repeated);
    Ok(respond(Json(published), appended.replayed))
}

/// The response to a notification, as ntfy documents it. Its members that a message does not have, such as
/// when it expires, are absent.
#[derive(Serialize, ToSchema)]
pub(crate) struct Published<'request> {
    /// The id of the message.
    id: EventId,
    /// When it was accepted, in seconds since the Unix epoch.
    time: u64,
    /// `message`.
    event: &'static str,
    /// The stream.
    #[schema(value_type = StreamName)]
    topic: &'request StreamName,
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(required = false)]
    title: &'request str,
    /// Its beginning: the first 4096 bytes.
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    tags: &'request [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    click: Option<&'request str>,
}

impl<'request> Published<'request> {
    fn new(
        id: EventId,
        topic: &'request StreamName,
        notification: &'request Notification,
        message: String,
    ) -> Self {
        let Notification { title, priority, tags, click, .. } = notification;
        Self {
            id,
            time: id.millis / 1000,
            event: "message",
            topic,
            title,
            message,
            priority: (*priority != Priority::Default).then(|| priority.number()),
            tags,
            click: click.as_deref(),
        }
    }
}
