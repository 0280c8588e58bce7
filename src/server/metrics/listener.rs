//! `GET /metrics`, on a listener of its own.

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{super::error::Problem, Metrics, Now};
use crate::problem;

/// What Prometheus asks for first. Others that read its text format can read this.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the numbers are, and what looks up the rest of them.
pub(in crate::server) fn router<F: Future<Output = Now> + Send + 'static>(
    metrics: Metrics,
    look: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Router {
    let answer =
        move |State(metrics): State<Metrics>| async move { respond(&metrics, look().await) };
    Router::new().route("/metrics", get(answer)).with_state(metrics)
}

fn respond(metrics: &Metrics, now: Now) -> Response {
    match metrics.exposition(now) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can not be written");
            Problem::new(problem::INTERNAL, "The server's log has the cause.").into_response()
        }
    }
}
