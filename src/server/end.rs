//! Ending a stream.

use axum::{Json, body::Body, extract::State};

use super::{
    App,
    access::MayPublish,
    body::{self, ReadBody},
    client::Client,
    data::Data,
    error::Problem,
    limits::hold_until_done,
    publish::{self, Accepted},
};
use crate::message::{CLOSING_TEXT, EventId};

/// `POST /streams/{name}/end`
pub(super) async fn end(
    State(app): State<App>,
    client: Client,
    may: MayPublish,
    body: Body,
) -> Result<Json<Accepted>, Problem> {
    let most = app.max_message_bytes;
    let ReadBody { bytes, memory } =
        body::read(&app, client, body, most, || publish::too_large(most)).await?;
    let text = closing_text(&app, bytes)?;
    stream_end(&app, may, text, memory).await.map(|id| Json(Accepted::new(id)))
}

/// What is said at the end: these bytes, if there are any.
pub(super) fn closing_text(app: &App, bytes: Vec<u8>) -> Result<Data, Problem> {
    let bytes = if bytes.is_empty() { CLOSING_TEXT.into() } else { bytes };
    publish::data(app, bytes)
}

/// Ends a stream with a text for which memory is reserved.
pub(super) async fn stream_end(
    app: &App,
    may: MayPublish,
    text: Data,
    memory: impl Send + 'static,
) -> Result<EventId, Problem> {
    app.takes_messages()?;
    app.limits.publish(may.publisher())?;
    let (log, stream) = (app.log.clone(), may.stream().clone());
    let end = async move { log.end(stream, text).await };
    Ok(hold_until_done(memory, end).await?)
}
