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
    let text = publish::read(&app, body, app.max_message_bytes).await?;
    let text = closing_text(&app, text)?;
    stream_end(&app, stream, text).await.map(|id| Json(Accepted::new(id)))
}

/// What is said at the end: these bytes, if there are any.
pub(super) fn closing_text(app: &App, bytes: Vec<u8>) -> Result<Data, Problem> {
    let bytes = if bytes.is_empty() { CLOSING_TEXT.into() } else { bytes };
    publish::data(app, bytes)
}

/// Ends a stream, whoever asks for it.
pub(super) async fn stream_end(
    app: &App,
    stream: StreamName,
    text: Data,
) -> Result<EventId, Problem> {
    app.takes_messages()?;
    Ok(app.log.end(stream, text).await?)
}
