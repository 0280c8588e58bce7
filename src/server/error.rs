//! Refusals as responses: the one place that gives them their status and type.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::problem::Kind;

/// A refusal: what kind, and what this request should have done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
}

/// The members of RFC 9457, section 3.1. Ours, because the library at hand takes a `type` without
/// a fragment only.
#[derive(Serialize)]
struct Details {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Kind { slug, status, title, .. } = self.kind;
        let details =
            Details { r#type: format!("/problems#{slug}"), title, status, detail: self.detail };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, media_type)], Json(details)).into_response()
    }
}
