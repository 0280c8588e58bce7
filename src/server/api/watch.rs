//! Watching a stream: the endpoint of its event stream (SSE).

use std::num::NonZeroU32;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::cursor::{WatchParams, is_resumed};
use crate::{
    problem,
    server::{
        client::Client,
        clock::Clock,
        error::Problem,
        fan_out::FanOut,
        guard::{Access, Limits, MayWatchAll},
        hub::{Hub, MergedWatcher, Start, Watcher},
        log::Freshness,
        observe::StreamKind,
        sse::{Batch, EventStreams, Reader, WatchGrant},
    },
};

/// What the endpoint needs to serve event streams.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) access: Access,
    pub(crate) clock: Clock,
    pub(crate) events: EventStreams,
    pub(crate) fan_out: FanOut,
    pub(crate) freshness: Freshness,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
}

/// `GET /streams/{name}/events`, and of several streams `GET /streams/{name},{name}/events`
pub(crate) async fn watch(
    State(Watching { access, clock, events, fan_out, freshness, hub, limits }): State<Watching>,
    may: Result<MayWatchAll, Problem>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    WatchParams { cursor, watchers }: WatchParams,
) -> Result<Response, Problem> {
    let MayWatchAll { streams, expires_at } = match may {
        Ok(may) => may,
        Err(problem) if problem.is_auth_error() && access.has_cookie(&headers, client) => {
            // An `EventSource` cannot see the status of an error.
            return Ok(events.expired_response());
        }
        Err(problem) => return Err(problem),
    };
    let Some(stream) = streams.single() else {
        if watchers {
            let detail = "Ask for the number of watchers of one stream at a time.";
            return Err(Problem::new(problem::MALFORMED_QUERY, detail));
        }
        let cursors = cursor.parse_all(&streams)?;
        // Starting them reads as many pages of history.
        let number = u32::try_from(streams.as_slice().len()).unwrap_or(u32::MAX);
        limits.read(client.address, NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))?;
        let permit = limits.watch(client.address)?;
        if cursors.iter().copied().any(is_resumed) {
            events.metrics.resumed();
        }
        let start =
            MergedWatcher::start(&hub, &streams, client.address, &cursors, clock.now()).await?;
        let Some(frames) = start else { return Ok(StatusCode::NO_CONTENT.into_response()) };
        let (grant, first) = (WatchGrant { permit, expires_at }, Batch::default());
        return Ok(events.respond(reader, StreamKind::Stored, freshness, grant, first, frames));
    };
    let position = cursor.parse()?.position;
    let permit = limits.watch(client.address)?;
    if is_resumed(position) {
        events.metrics.resumed();
    }
    match Watcher::start(&hub, stream.clone(), client.address, position, 1).await? {
        // The only status after which an `EventSource` does not reconnect.
        Start::Finished => Ok(StatusCode::NO_CONTENT.into_response()),
        Start::Watching(first, watcher) => {
            let grant = WatchGrant { permit, expires_at };
            let kind = StreamKind::Stored;
            let subscription = events.subscribe(reader, kind, grant);
            Ok(fan_out.respond(subscription, first, watcher, watchers))
        }
    }
}
