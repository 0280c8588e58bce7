//! Publishing: the body is the message.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    App,
    access::MayPublish,
    body::{self, ReadBody},
    client::Client,
    data::{Data, NotData},
    error::Problem,
    limits::hold_until_done,
    lines::{self, Lines},
    log::{Appended, IdempotencyKey},
    query::parameters,
};
use crate::{message::EventId, problem};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in characters (design, section 2).
const MAX_KEY_LENGTH: usize = 255;

/// `POST /streams/{name}`, and the same with `?lines`
pub(super) async fn publish(
    State(app): State<App>,
    client: Client,
    may: MayPublish,
    format: BodyFormat,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    if let BodyFormat::Lines(lines) = format {
        return match key {
            None => lines::publish(&app, client, may, lines, body)
                .await
                .map(IntoResponse::into_response),
            Some(key) => lines::publish_whole(&app, client, may, lines, body, key)
                .await
                .map(|(stored, replayed)| answer(Json(stored), replayed)),
        };
    }
    let most = app.max_message_bytes;
    let ReadBody { bytes, memory } =
        body::read(&app, client, body, most, || too_large(most)).await?;
    let data = data(&app, bytes)?;
    let appended = message(&app, &may, data, key, memory).await?;
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

/// Publishes one message, for which memory is reserved.
pub(super) async fn message(
    app: &App,
    may: &MayPublish,
    data: Data,
    key: Option<IdempotencyKey>,
    memory: impl Send + 'static,
) -> Result<Appended, Problem> {
    app.takes_messages()?;
    app.limits.publish(may.publisher())?;
    let (log, stream) = (app.log.clone(), may.stream().clone());
    let append = async move { log.append(stream, data, key).await };
    let appended = hold_until_done(memory, append).await?;
    if appended.replayed {
        app.metrics.replayed();
    }
    Ok(appended)
}

/// What was accepted.
#[derive(Serialize)]
pub(super) struct Accepted {
    id: EventId,
    at: String,
}

impl Accepted {
    pub(super) fn new(id: EventId) -> Self {
        Self { id, at: at(id) }
    }
}

/// When a message was accepted, as RFC 3339 has it, in UTC.
pub(super) fn at(id: EventId) -> String {
    /// The last millisecond of the year 9999, the last that has a spelling.
    const LATEST: u64 = 253_402_300_799_999;
    let moment = UNIX_EPOCH + Duration::from_millis(id.millis.min(LATEST));
    humantime::format_rfc3339_millis(moment).to_string()
}

/// How the body is to be understood.
pub(super) enum BodyFormat {
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

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let printable = |bytes: &[u8]| bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    match key.to_str() {
        Ok(text)
            if keys.next().is_none()
                && (1..=MAX_KEY_LENGTH).contains(&text.len())
                && printable(text.as_bytes()) =>
        {
            Ok(Some(IdempotencyKey(text.to_owned())))
        }
        _ => Err(malformed_key("Send one Idempotency-Key of 1 to 255 printable ASCII characters.")),
    }
}

fn malformed_key(detail: &str) -> Problem {
    Problem::new(problem::MALFORMED_KEY, detail)
}

/// The bytes as a message.
pub(super) fn data(app: &App, bytes: Vec<u8>) -> Result<Data, Problem> {
    let most = app.max_message_bytes;
    Data::new(bytes, most).map_err(|error| match error {
        NotData::Empty => Problem::new(
            problem::EMPTY_MESSAGE,
            "There is nothing in it. In a terminal, the body is the message: curl -d 'hello' …",
        ),
        NotData::TooLarge => too_large(most),
        NotData::NotUtf8(place) => Problem::new(
            problem::NOT_UTF8,
            format!("The body is not UTF-8 from byte {place} on; send text in UTF-8."),
        ),
    })
}

pub(super) fn too_large(most: usize) -> Problem {
    let detail = format!("A message has at most {most} bytes here; send less at a time.");
    Problem::new(problem::MESSAGE_TOO_LARGE, detail)
}
