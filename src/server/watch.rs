//! Watching a stream.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    App,
    access::{self, MayWatch},
    client::Client,
    error::Problem,
    events::{self, Cursor, Reader, Right},
    frame,
    hub::{Start, Watcher},
    metrics::Watched,
};

/// `GET /streams/{name}/events`
pub(super) async fn watch(
    State(app): State<App>,
    may: Result<MayWatch, Problem>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    cursor: Cursor,
) -> Result<Response, Problem> {
    let MayWatch { stream, until } = match may {
        Ok(may) => may,
        Err(problem) if problem.is_about_rights() && access::has_cookie(&headers) => {
            // An `EventSource` can not see a status.
            return Ok(events::refused(&app));
        }
        Err(problem) => return Err(problem),
    };
    let seat = app.limits.watch(client.address)?;
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
            let right = Right { seat, until };
            Ok(events::respond(&app, reader, Watched::Stored, right, first, watcher.frames()))
        }
    }
}
