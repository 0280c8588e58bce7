//! Deleting a stream.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};

use super::publishing::Publishing;
use crate::server::{error::Problem, guard::MayPublish};

/// `DELETE /streams/{name}`
pub(crate) async fn delete(
    State(publishing): State<Arc<Publishing>>,
    may: MayPublish,
) -> Result<StatusCode, Problem> {
    publishing.admit(&may)?;
    publishing.log.delete(may.stream().clone()).await?;
    Ok(StatusCode::NO_CONTENT)
}
