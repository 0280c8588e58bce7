//! Watching a stream.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::cursor::Cursor;
use crate::server::{
    client::Client,
    error::Problem,
    guard::{Access, Limits, MayWatch},
    hub::{Hub, Start, Watcher},
    observe::StreamKind,
    sse::{EventStreams, Reader, WatchGrant},
};

/// What it takes to watch streams.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) access: Access,
    pub(crate) events: EventStreams,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
}

/// `GET /streams/{name}/events`
pub(crate) async fn watch(
    State(Watching { access, events, hub, limits }): State<Watching>,
    may: Result<MayWatch, Problem>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    cursor: Cursor,
) -> Result<Response, Problem> {
    let MayWatch { stream, until } = match may {
        Ok(may) => may,
        Err(problem) if problem.is_auth_error() && access.has_cookie(&headers, client) => {
            // An `EventSource` can not see a status.
            return Ok(events.refused());
        }
        Err(problem) => return Err(problem),
    };
    let permit = limits.watch(client.address)?;
    if cursor.is_resumed() {
        events.metrics.resumed();
    }
    match Watcher::start(&hub, stream, client.address, cursor.place).await? {
        // The only answer after which a browser does not come back.
        Start::Finished => Ok(StatusCode::NO_CONTENT.into_response()),
        Start::Watching(first, watcher) => {
            let grant = WatchGrant { permit, until };
            Ok(events.respond(reader, StreamKind::Stored, grant, first, watcher.frames()))
        }
    }
}
