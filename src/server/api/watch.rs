//! Watching a stream: the endpoint of its event stream (SSE).

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
    log::Freshness,
    observe::StreamKind,
    sse::{EventStreams, Reader, WatchGrant},
};

/// What the endpoint needs to serve event streams.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) access: Access,
    pub(crate) events: EventStreams,
    pub(crate) freshness: Freshness,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
}

/// `GET /streams/{name}/events`
pub(crate) async fn watch(
    State(Watching { access, events, freshness, hub, limits }): State<Watching>,
    may: Result<MayWatch, Problem>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    cursor: Cursor,
) -> Result<Response, Problem> {
    let MayWatch { stream, expires_at } = match may {
        Ok(may) => may,
        Err(problem) if problem.is_auth_error() && access.has_cookie(&headers, client) => {
            // An `EventSource` cannot see the status of an error.
            return Ok(events.expired_response());
        }
        Err(problem) => return Err(problem),
    };
    let permit = limits.watch(client.address)?;
    if cursor.is_resumed() {
        events.metrics.resumed();
    }
    match Watcher::start(&hub, stream, client.address, cursor.position).await? {
        // The only status after which an `EventSource` does not reconnect.
        Start::Finished => Ok(StatusCode::NO_CONTENT.into_response()),
        Start::Watching(first, watcher) => {
            let grant = WatchGrant { permit, expires_at };
            let frames = watcher.frames();
            Ok(events.respond(reader, StreamKind::Stored, freshness, grant, first, frames))
        }
    }
}
