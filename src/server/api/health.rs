//! Whether the server lives, and whether it takes readers and messages.

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
    let draining = shutdown.has_begun().then(|| "the server stops".to_owned());
    let trouble = log.trouble().map(|why| why.to_string());
    let damaged = log.damaged().map(|what| what.to_string());
    // Everything that is wrong, since whoever reads it can not look into the server. The first
    // gives its name to the problem: what stops needs no mending.
    let kind = if draining.is_some() { problem::DRAINING } else { problem::STORE_UNAVAILABLE };
    let wrong: Vec<_> = draining.into_iter().chain(trouble).chain(damaged).collect();
    if !wrong.is_empty() {
        return Err(Problem::new(kind, format!("Not ready: {}.", wrong.join("; "))));
    }
    Ok(Json(json!({ "status": "ready", "open_streams": limits.watchers.in_use() })))
}
