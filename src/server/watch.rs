//! Watching a stream.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    App,
    access::MayWatch,
    client::Client,
    cursor::Cursor,
    error::Problem,
    events::{Reader, WatchGrant},
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
        Err(problem) if problem.is_about_rights() && app.access.has_cookie(&headers, client) => {
            // An `EventSource` can not see a status.
            return Ok(app.events.refused());
        }
        Err(problem) => return Err(problem),
    };
    let permit = app.limits.watch(client.address)?;
    if cursor.is_resumed() {
        app.metrics.resumed();
    }
    match Watcher::start(&app.hub, stream, client.address, cursor.place).await? {
        // The only answer after which a browser does not come back.
        Start::Finished => Ok(StatusCode::NO_CONTENT.into_response()),
        Start::Watching(first, watcher) => {
            let grant = WatchGrant { permit, until };
            Ok(app.events.respond(reader, Watched::Stored, grant, first, watcher.frames()))
        }
    }
}
