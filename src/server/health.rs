//! Whether the server lives, and whether it takes readers and messages.

use axum::{Json, extract::State};
use serde_json::json;

use super::{App, error::Problem, log::Refusal};

/// `GET /health/live`
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "live" }))
}

/// `GET /health/ready`
pub(super) async fn ready(State(app): State<App>) -> Result<Json<serde_json::Value>, Problem> {
    app.takes_messages()?;
    if let Some(why) = app.log.trouble() {
        return Err(Refusal::Unavailable(why).into());
    }
    Ok(Json(json!({ "status": "ready", "open_streams": app.limits.seats.count() })))
}
