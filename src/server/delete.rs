//! Forgetting a stream.

use axum::{extract::State, http::StatusCode};

use super::{App, access::MayPublish, error::Problem};

/// `DELETE /streams/{name}`
pub(super) async fn delete(State(app): State<App>, may: MayPublish) -> Result<StatusCode, Problem> {
    app.takes_messages()?;
    app.limits.publish(may.publisher())?;
    app.log.delete(may.stream().clone()).await?;
    Ok(StatusCode::NO_CONTENT)
}
