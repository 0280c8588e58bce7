//! Forgetting a stream.

use axum::{extract::State, http::StatusCode};

use super::{App, error::Problem, named::Named};

/// `DELETE /streams/{name}`
pub(super) async fn delete(
    State(app): State<App>,
    Named(stream): Named,
) -> Result<StatusCode, Problem> {
    app.takes_messages()?;
    app.log.delete(stream).await?;
    Ok(StatusCode::NO_CONTENT)
}
