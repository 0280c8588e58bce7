//! Ending a stream.

use std::sync::Arc;

use axum::{Json, body::Body, extract::State};

use super::{accepted::Accepted, body::ReadBody, publishing::Publishing};
use crate::server::{client::Client, error::Problem, guard::MayPublish};

/// `POST /streams/{name}/end`
pub(crate) async fn end(
    State(publishing): State<Arc<Publishing>>,
    client: Client,
    may: MayPublish,
    body: Body,
) -> Result<Json<Accepted>, Problem> {
    let ReadBody { bytes, memory } = publishing.read(client, body).await?;
    publishing.end(&may, bytes, memory).await.map(|id| Json(Accepted::new(id)))
}
