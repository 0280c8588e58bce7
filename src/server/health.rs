//! Whether the server lives, and whether it takes new readers.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, error::Problem};
use crate::problem;

/// `GET /health/live`
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "live" }))
}

/// `GET /health/ready`
pub(super) async fn ready(State(app): State<App>) -> Response {
    if app.shutdown.has_begun() {
        let stopping = Problem::new(problem::DRAINING, "Try another server, or this one later.");
        return ([(header::RETRY_AFTER, "5")], stopping).into_response();
    }
    Json(json!({ "status": "ready", "open_streams": app.open_streams.count() })).into_response()
}
