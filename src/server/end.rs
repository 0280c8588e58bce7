//! Ending a stream.

use axum::{Json, body::Body, extract::State};

use super::{
    App,
    data::Data,
    error::Problem,
    named::Named,
    publish::{self, Accepted},
};
use crate::message::{CLOSING_TEXT, EventId, StreamName};

/// `POST /streams/{name}/end`
pub(super) async fn end(
    State(app): State<App>,
    Named(stream): Named,
    body: Body,
) -> Result<Json<Accepted>, Problem> {
    let mut text = publish::read(body, app.max_message_bytes).await?;
    if text.is_empty() {
        text = CLOSING_TEXT.into();
    }
    let text = publish::data(&app, text)?;
    stream_end(&app, stream, text).await.map(|id| Json(Accepted::new(id)))
}

/// Ends a stream, whoever asks for it.
pub(super) async fn stream_end(
    app: &App,
    stream: StreamName,
    text: Data,
) -> Result<EventId, Problem> {
    if app.shutdown.has_begun() {
        return Err(Problem::draining());
    }
    Ok(app.log.end(stream, text).await?)
}
