//! Health checks: liveness and readiness.

use axum::{Json, extract::State};
use serde_json::json;

use crate::{
    problem,
    server::{error::Problem, guard::Limits, log::Log, shutdown::Shutdown},
};

/// `GET /health/live`
pub(crate) async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "live" }))
}

/// `GET /health/ready`
pub(crate) async fn ready(
    State(limits): State<Limits>,
    State(log): State<Log>,
    State(shutdown): State<Shutdown>,
) -> Result<Json<serde_json::Value>, Problem> {
    let draining = shutdown.has_begun().then(|| "the server is shutting down".to_owned());
    let trouble = log.unwritable().map(|why| why.to_string());
    let damaged = log.damaged().map(|what| what.to_string());
    // All reasons, since a health checker may have no other access to the server. The first one sets
    // the kind of the problem: a shutdown needs no repair.
    let kind = if draining.is_some() { problem::DRAINING } else { problem::STORE_UNAVAILABLE };
    let reasons: Vec<_> = draining.into_iter().chain(trouble).chain(damaged).collect();
    if !reasons.is_empty() {
        return Err(Problem::new(kind, format!("Not ready: {}.", reasons.join("; "))));
    }
    Ok(Json(json!({ "status": "ready", "open_streams": limits.watchers.in_use() })))
}
