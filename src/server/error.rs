//! Refusals as responses: the one place that gives them their status and type.

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::log::{NotRead, Refusal};
use crate::{
    message::EventId,
    problem::{self, Kind},
};

/// A refusal: what kind, and what this request should have done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    /// What was done before the refusal, where a request asks for many things.
    taken: Option<Taken>,
}

/// How far a publisher of lines came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Taken {
    /// How many lines are stored.
    pub(super) taken: u64,
    /// The id of the last one.
    pub(super) last_id: Option<EventId>,
}

/// The members of RFC 9457, section 3.1. Ours, because the library at hand takes a `type` without
/// a fragment only.
#[derive(Serialize)]
struct Details {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(flatten)]
    taken: Option<Taken>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), taken: None }
    }

    /// The same, with what was done before.
    pub(super) fn after(self, taken: Taken) -> Self {
        Self { taken: Some(taken), ..self }
    }

    pub(super) fn draining() -> Self {
        Self::new(problem::DRAINING, "Try another server, or this one later.")
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn title(&self) -> &'static str {
        self.kind.title
    }

    /// What to do, in a sentence.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let why = rejection.body_text();
        Self::new(problem::MALFORMED_QUERY, format!("Give each parameter once, in UTF-8. ({why})"))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoStream => Self::new(
                problem::NO_SUCH_STREAM,
                "Check the name; GET /streams lists the streams there are.",
            ),
            Refusal::Ended => Self::new(
                problem::STREAM_ENDED,
                "Publish under another name, or DELETE the stream to begin it anew.",
            ),
            Refusal::KeyReused => Self::new(
                problem::KEY_REUSED,
                "This key came with another message before; take a new one.",
            ),
            Refusal::TooManyStreams => Self::new(
                problem::TOO_MANY_STREAMS,
                "DELETE a stream that is not needed, or publish to one that exists.",
            ),
            Refusal::Unavailable(why) => {
                Self::new(problem::STORE_UNAVAILABLE, format!("Try again shortly ({why})."))
            }
        }
    }
}

impl From<NotRead> for Problem {
    fn from(not_read: NotRead) -> Self {
        match not_read {
            NotRead::NoStream => Refusal::NoStream.into(),
            NotRead::UnknownPlace => Self::new(
                problem::UNKNOWN_CURSOR,
                "Begin from earliest or latest, or with an id that the stream still has.",
            ),
            NotRead::Unavailable(why) => Refusal::Unavailable(why).into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let Kind { slug, title, status: number, .. } = self.kind;
        let details = Details {
            r#type: format!("/problems#{slug}"),
            title,
            status: number,
            detail: self.detail,
            taken: self.taken,
        };
        let media_type = HeaderValue::from_static("application/problem+json");
        let mut response =
            (status, [(header::CONTENT_TYPE, media_type)], Json(details)).into_response();
        // For the log and the metrics.
        response.extensions_mut().insert(self.kind);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
