//! Problem responses (RFC 9457): status, headers and JSON. The wording of each type is in `problem.rs`.

use std::{num::NonZeroU32, time::Duration};

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    log::{AppendError, ReadError},
    mount,
};
use crate::{
    base_path::BasePath,
    message::EventId,
    problem::{self, Kind},
};

const PROBLEM_JSON: &str = "application/problem+json";

/// The `Retry-After` of a response with status 503 that has none of its own, in seconds.
const RETRY_AFTER_UNAVAILABLE: u32 = 5;

/// A problem: its kind, and what the client of this request can do.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    /// The lines of an upload that were stored before the problem. Boxed, because it is rare.
    taken: Option<Box<LinesStored>>,
    /// After how many seconds to try again.
    retry_after: Option<NonZeroU32>,
}

/// The result of an upload of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LinesStored {
    /// The number of lines that are stored.
    pub(crate) taken: u64,
    /// How many of them differ from what was sent: truncated, or with replacement characters.
    pub(crate) altered: u64,
    /// The id of the last one.
    #[schema(required)]
    pub(crate) last_id: Option<EventId>,
}

/// The members of RFC 9457, section 3.1. Not of the `problem_details` crate, which
/// keeps `type` as an `http::Uri`: that has no fragment.
#[derive(Serialize)]
struct Details<'problem> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'problem str,
    #[serde(flatten)]
    taken: Option<&'problem LinesStored>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), taken: None, retry_after: None }
    }

    /// Adds the time after which the client may try again.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        Self { retry_after: NonZeroU32::new(seconds).or(Some(NonZeroU32::MIN)), ..self }
    }

    /// After how many seconds the client may try again, if that is known.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after.map(NonZeroU32::get)
    }

    /// Adds the lines that were stored before the problem.
    pub(crate) fn after(self, taken: LinesStored) -> Self {
        Self { taken: Some(Box::new(taken)), ..self }
    }

    pub(crate) fn draining() -> Self {
        Self::new(problem::DRAINING, "Try another server, or this one later.")
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether another token may help.
    pub(crate) fn is_auth_error(&self) -> bool {
        [
            problem::TOKEN_MISSING,
            problem::TOKEN_INVALID,
            problem::TOKEN_EXPIRED,
            problem::TOKEN_UNFIT,
            problem::NOT_PERMITTED,
        ]
        .contains(&self.kind)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn title(&self) -> &'static str {
        self.kind.title
    }

    /// What to do, in a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Replaces a detail for programs by one for the visitor of a page.
    pub(crate) fn for_page(self) -> Self {
        let detail = match self.kind {
            problem::TOKEN_MISSING => "Sign in to see this page.",
            problem::TOKEN_INVALID => "That is not a token of this server, or not the whole of it.",
            problem::TOKEN_EXPIRED => {
                "The token has expired. The operator of this server gives a new one."
            }
            _ => return self,
        };
        Self { detail: detail.to_owned(), ..self }
    }

    /// Gives a response the status, headers and extension of this problem.
    pub(crate) fn apply_to(&self, response: &mut Response) {
        let status = self.status();
        *response.status_mut() = status;
        // For the log and the metrics.
        response.extensions_mut().insert(self.kind);
        let unavailable =
            (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_UNAVAILABLE);
        if let Some(seconds) = self.retry_after.map(NonZeroU32::get).or(unavailable) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 6750, section 3.
        let challenge = match self.kind {
            problem::TOKEN_MISSING | problem::SIGNATURE_MISSING => r#"Bearer realm="tidings""#,
            problem::TOKEN_INVALID | problem::TOKEN_EXPIRED | problem::TOKEN_UNFIT => {
                r#"Bearer realm="tidings", error="invalid_token""#
            }
            problem::NOT_PERMITTED => r#"Bearer realm="tidings", error="insufficient_scope""#,
            _ => return,
        };
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let why = rejection.body_text();
        Self::new(problem::MALFORMED_QUERY, format!("Give each parameter once, in UTF-8. ({why})"))
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NoStream => Self::new(
                problem::NO_SUCH_STREAM,
                format!(
                    "Check the name; GET {} lists the streams there are.",
                    mount::address("/streams")
                ),
            ),
            AppendError::Ended => Self::new(
                problem::STREAM_ENDED,
                "Publish under another name, or DELETE the stream to begin it anew.",
            ),
            AppendError::KeyReused => Self::new(
                problem::KEY_REUSED,
                "This key came with another message before; take a new one.",
            ),
            AppendError::TooManyStreams => Self::new(
                problem::TOO_MANY_STREAMS,
                "DELETE a stream that is not needed, or publish to one that exists.",
            ),
            AppendError::Unavailable(why) => {
                Self::new(problem::STORE_UNAVAILABLE, format!("Try again shortly ({why})."))
            }
            AppendError::Unknown(why) => Self::new(
                problem::OUTCOME_UNKNOWN,
                format!(
                    "It may have been stored: repeat it with the same Idempotency-Key, and it is \
                     stored once ({why})."
                ),
            )
            .retry_after(Duration::from_secs(RETRY_AFTER_UNAVAILABLE.into())),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoStream => AppendError::NoStream.into(),
            ReadError::UnknownCursor | ReadError::Trimmed => Self::new(
                problem::UNKNOWN_CURSOR,
                "Begin from earliest or latest, or with an id that the stream still has.",
            ),
            ReadError::Behind => {
                AppendError::Unavailable("what can be read is behind".into()).into()
            }
            ReadError::Unavailable(why) => AppendError::Unavailable(why).into(),
        }
    }
}

impl Problem {
    fn details(&self, base_path: &BasePath) -> Details<'_> {
        let Kind { slug, title, status, .. } = self.kind;
        let r#type = base_path.address(&format!("/problems#{slug}"));
        Details { r#type, title, status, detail: &self.detail, taken: self.taken.as_deref() }
    }

    /// The whole response as HTTP/1.1, for a connection without an HTTP server.
    pub(crate) fn to_http1(&self, base_path: &BasePath) -> String {
        // Texts and numbers always serialize.
        let body = serde_json::to_string(&self.details(base_path)).unwrap_or_default();
        format!(
            "HTTP/1.1 {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status(),
            body.len()
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let media_type = HeaderValue::from_static(PROBLEM_JSON);
        let mut response =
            ([(header::CONTENT_TYPE, media_type)], Json(self.details(&mount::base_path())))
                .into_response();
        self.apply_to(&mut response);
        response
    }
}
