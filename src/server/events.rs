//! An SSE response: cursor in, frames out.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Query, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, Stream},
};
use serde::Deserialize;

use super::{App, error::Problem, frame};
use crate::{
    message::{EventId, PING_INTERVAL_MS},
    problem,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// About how many bytes one write should hold: many frames to a system call.
pub(super) const BATCH: usize = 16 * 1024;
/// How long to wait after a full batch. A browser takes some 20 µs to dispatch one event, and
/// dispatches all that has arrived without a pause: what comes faster freezes its page. This is
/// 2 MB or 30,000 short events a second.
pub(super) const BATCH_PAUSE: Duration = Duration::from_millis(8);

/// Where a reader is, as its request says: the `Last-Event-ID` header, else the query parameter
/// `last_event_id`, else nowhere. The header wins, because a browser that reconnects by itself
/// repeats the old URL and adds the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) place: Place,
    from_header: bool,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the first message.
    Earliest,
    /// After the last one there is.
    Latest,
    /// After this one.
    After(EventId),
    /// The reader believes to be somewhere, but not where we know.
    Unknown,
}

impl Cursor {
    /// For a stream that can not have given this cursor: a place nobody knows where a browser
    /// sent it (it can do nothing about a refusal), else a refusal.
    pub(super) fn refuse(self, detail: &str) -> Result<Place, Problem> {
        if self.from_header {
            Ok(Place::Unknown)
        } else {
            Err(Problem::new(problem::MALFORMED_CURSOR, detail))
        }
    }
}

fn place(text: &str) -> Option<Place> {
    match text {
        // What a client sends that has no id yet.
        "" | "earliest" => Some(Place::Earliest),
        "latest" => Some(Place::Latest),
        id => id.parse().ok().map(Place::After),
    }
}

#[derive(Deserialize)]
struct CursorQuery {
    last_event_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Cursor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
        if let Some(value) = header {
            let place = value.to_str().ok().and_then(place).unwrap_or(Place::Unknown);
            return Ok(Self { place, from_header: true });
        }
        let Query(query) = Query::<CursorQuery>::from_request_parts(parts, state).await.map_err(
            |rejection: QueryRejection| {
                Problem::new(problem::MALFORMED_QUERY, rejection.body_text())
            },
        )?;
        let text = query.last_event_id.unwrap_or_default();
        let cursor = Self { place: Place::Unknown, from_header: false };
        let place = match place(&text) {
            Some(place) => place,
            None => cursor.refuse(
                "last_event_id must be an id as the stream sent it, like 1763891234567-42, or \
                 earliest, or latest.",
            )?,
        };
        Ok(Self { place, ..cursor })
    }
}

/// How many event streams are open; every one holds a share that goes when its response goes.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStreams(Arc<AtomicUsize>);

impl OpenStreams {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn open(&self) -> OpenStream {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.0))
    }
}

struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The response that carries `frames`: `first` at once, a ping in every silence, and its own end
/// when the server stops. Nothing runs for it but the connection's task, so that it takes no work
/// once its reader has gone.
pub(super) fn respond(
    app: &App,
    first: String,
    frames: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let shutdown = app.shutdown.clone();
    let retry = app.retry;
    let rest = stream::unfold(Some((Box::pin(frames), app.open_streams.open())), move |open| {
        let shutdown = shutdown.clone();
        async move {
            let (mut frames, open_stream) = open?;
            tokio::select! {
                biased;
                () = shutdown.wait() => Some((farewell(retry), None)),
                next = frames.next() => next.map(|bytes| (bytes, Some((frames, open_stream)))),
                () = tokio::time::sleep(Duration::from_millis(PING_INTERVAL_MS)) => {
                    Some((said(frame::ping), Some((frames, open_stream))))
                }
            }
        }
    });
    let body = stream::iter([Bytes::from(first)]).chain(rest).map(Ok::<_, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        // nginx and those who follow it would otherwise collect the stream before they pass it on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// The last words of a server that stops: come back, but not all at the same moment. (Our own page
/// does not see them; it spreads its attempts by itself.)
fn farewell(retry: Duration) -> Bytes {
    let most = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(fastrand::u64(most.min(500)..=most));
    said(|buffer| frame::retry(buffer, spread))
}

fn said(frame: impl FnOnce(&mut String)) -> Bytes {
    let mut buffer = String::new();
    frame(&mut buffer);
    Bytes::from(buffer)
}
