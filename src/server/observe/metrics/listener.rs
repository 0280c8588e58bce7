//! `GET /metrics`, on a listener of its own.

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Metrics, Sample};
use crate::{problem, server::error::Problem};

/// What Prometheus asks for first. Others that read its text format can read this.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the numbers are, and what looks up the rest of them.
pub(crate) fn router<F: Future<Output = Sample> + Send + 'static>(
    metrics: Metrics,
    sample: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Router {
    let answer =
        move |State(metrics): State<Metrics>| async move { respond(&metrics, sample().await) };
    Router::new().route("/metrics", get(answer)).with_state(metrics)
}

fn respond(metrics: &Metrics, sample: Sample) -> Response {
    match metrics.exposition(sample) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can not be written");
            Problem::new(problem::INTERNAL, "The server's log has the cause.").into_response()
        }
    }
}
