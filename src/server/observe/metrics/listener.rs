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

/// The format that Prometheus prefers. Programs that parse the Prometheus text format can parse it too.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Routes `GET /metrics`; `sample` reads the values of a scrape.
pub(crate) fn router<F: Future<Output = Sample> + Send + 'static>(
    metrics: Metrics,
    sample: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Router {
    let scrape =
        move |State(metrics): State<Metrics>| async move { respond(&metrics, sample().await) };
    Router::new().route("/metrics", get(scrape)).with_state(metrics)
}

fn respond(metrics: &Metrics, sample: Sample) -> Response {
    match metrics.exposition(sample) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            Problem::new(problem::INTERNAL, "The server's log has the cause.").into_response()
        }
    }
}
