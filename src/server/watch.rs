//! Watching a stream.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    App,
    error::Problem,
    events::{self, Cursor, Reader},
    frame,
    hub::{Start, Watcher},
    metrics::Watched,
    named::Named,
};

/// `GET /streams/{name}/events`
pub(super) async fn watch(
    State(app): State<App>,
    Named(stream): Named,
    reader: Reader,
    cursor: Cursor,
) -> Result<Response, Problem> {
    if cursor.is_resumed() {
        app.metrics.resumed();
    }
    let hub = app.hub.clone();
    match Watcher::start(hub, app.log.clone(), stream, cursor.place).await? {
        // The only answer after which a browser does not come back.
        Start::Finished => Ok(StatusCode::NO_CONTENT.into_response()),
        Start::Watching(mut first, watcher) => {
            let mut frames = String::new();
            frame::retry(&mut frames, app.retry);
            first.frames.insert_str(0, &frames);
            Ok(events::respond(&app, reader, Watched::Stored, first, watcher.frames()))
        }
    }
}
