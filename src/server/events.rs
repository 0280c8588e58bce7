//! An SSE response: cursor in, frames out.

mod delivery;

use std::{
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension,
    body::Body,
    extract::{FromRequestParts, Query},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::Stream};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

pub(super) use self::delivery::Batch;
use self::delivery::{Delivery, Over};
use super::{
    App, error::Problem, frame, limits::Seat, metrics::Watched, request::Lasting,
    shutdown::Stopping,
};
use crate::{
    message::{EventId, PING_INTERVAL_MS, RESET},
    problem,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// About how many bytes one write should hold: many frames to a system call.
pub(super) const BATCH: usize = 16 * 1024;
/// How long a browser is left alone after a batch. It takes some 20 µs to dispatch one event, and
/// dispatches all that has arrived without a pause: what comes faster freezes its page. This is
/// 2 MB or 30,000 short events a second.
const BATCH_PAUSE: Duration = Duration::from_millis(8);

/// The reason of a reset that says that the reader may not watch any more.
const EXPIRED: &str = "expired";

const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// It must not get more than it can show.
    Browser,
    /// It takes what it gets.
    Program,
}

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every browser calls itself that.
        let agent = parts.headers.get(header::USER_AGENT);
        let browser = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
        Ok(if browser { Self::Browser } else { Self::Program })
    }
}

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
    /// Whether the reader was here before.
    pub(super) fn is_resumed(self) -> bool {
        matches!(self.place, Place::After(_) | Place::Unknown)
    }

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
        id => match id.parse().ok()? {
            EventId::BEGINNING => Some(Place::Earliest),
            id => Some(Place::After(id)),
        },
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
        let Query(query) = Query::<CursorQuery>::from_request_parts(parts, state).await?;
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

/// What a reader holds while it reads; it goes with the response.
pub(super) struct Right {
    pub(super) seat: Seat,
    /// When it ends, if it does.
    pub(super) until: Option<Instant>,
}

/// The response that carries `frames`: `first` at once, a ping in every silence, and its own end
/// when the server stops, or when the reader's right ends. Nothing runs for it but the connection's task, so that it takes no work
/// once its reader has gone.
pub(super) fn respond(
    app: &App,
    reader: Reader,
    watched: Watched,
    right: Right,
    first: Batch<String>,
    frames: impl Stream<Item = Batch> + Send + 'static,
) -> Response {
    let body = Events {
        first: Some(Box::new(first.into())),
        frames: Box::pin(frames),
        stopping: Stopping::new(&app.shutdown),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        resting: false,
        last_said: Instant::now(),
        until: right.until,
        ended: false,
        reader,
        retry: app.retry,
        delivery: Delivery::begin(app.metrics.clone(), watched),
        _seat: right.seat,
    };
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    (Extension(Lasting), stream_response(body)).into_response()
}

/// The answer to a page that may not watch, or not any more: an `EventSource` can not see a status,
/// and would come back again and again.
pub(super) fn refused(app: &App) -> Response {
    app.metrics.reset(EXPIRED);
    let mut said = Batch::default();
    frame::retry(&mut said.frames, app.retry);
    expired(&mut said);
    stream_response(Body::from(said.frames))
}

fn stream_response(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        // nginx and those who follow it would otherwise collect the stream before they pass it on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// The body of such a response.
struct Events<F> {
    first: Option<Box<Batch>>,
    frames: Pin<Box<F>>,
    stopping: Stopping,
    /// For the next ping, or for the rest after a full batch. It is not set anew for each frame,
    /// but looks when it goes off whether there was one.
    timer: Pin<Box<Sleep>>,
    resting: bool,
    last_said: Instant,
    /// When the right to watch ends.
    until: Option<Instant>,
    ended: bool,
    reader: Reader,
    retry: Duration,
    delivery: Delivery,
    _seat: Seat,
}

impl<F: Stream<Item = Batch>> Events<F> {
    fn deliver(&mut self, batch: Batch) -> Poll<Option<Bytes>> {
        self.delivery.count(&batch);
        self.say(batch.frames)
    }

    fn say(&mut self, bytes: Bytes) -> Poll<Option<Bytes>> {
        self.last_said = Instant::now();
        if self.reader == Reader::Browser && bytes.len() >= BATCH / 2 {
            self.resting = true;
            self.timer.as_mut().reset(self.last_said + BATCH_PAUSE);
        }
        Poll::Ready(Some(bytes))
    }

    /// The last words to a reader whose right to watch has ended.
    fn expire(&mut self) -> Poll<Option<Bytes>> {
        self.ended = true;
        self.delivery.over = Over::Expired;
        let mut batch = Batch::default();
        expired(&mut batch);
        self.deliver(batch.into())
    }

    /// When the timer has to go off in a silence.
    fn due(&self) -> Instant {
        let ping = self.last_said + PING_INTERVAL;
        self.until.map_or(ping, |until| until.min(ping))
    }

    /// Whether the timer has gone off.
    fn time_is_up(&mut self, context: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(context).is_ready()
    }
}

impl<F: Stream<Item = Batch>> Stream for Events<F> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return self.deliver(*first);
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stopping.has_begun(context) {
            self.ended = true;
            self.delivery.over = Over::Stopping;
            return Poll::Ready(Some(farewell(self.retry)));
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return self.expire();
        }
        if self.resting {
            if !self.time_is_up(context) {
                return Poll::Pending;
            }
            self.resting = false;
            let due = self.due();
            self.timer.as_mut().reset(due);
        }
        match self.frames.as_mut().poll_next(context) {
            Poll::Ready(Some(batch)) => return self.deliver(batch),
            Poll::Ready(None) => {
                self.delivery.over = Over::Ended;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        while self.time_is_up(context) {
            let due = self.due();
            if due > Instant::now() {
                self.timer.as_mut().reset(due);
                continue;
            }
            if self.until == Some(due) {
                return self.expire();
            }
            let ping = self.say(said(frame::ping));
            let due = self.due();
            self.timer.as_mut().reset(due);
            return ping;
        }
        Poll::Pending
    }
}

/// The last words of a server that stops: come back, but not all at the same moment. (Our own page
/// does not see them; it spreads its attempts by itself.)
fn farewell(retry: Duration) -> Bytes {
    let most = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(fastrand::u64(most.min(500)..=most));
    said(|buffer| frame::retry(buffer, spread))
}

/// Tells a reader that it may not watch any more. Its cursor stays good.
fn expired(batch: &mut Batch<String>) {
    batch.reset = Some(EXPIRED);
    let why = format!(r#"{{"reason":"{EXPIRED}","oldest":null}}"#);
    frame::event(&mut batch.frames, RESET, None, &why);
}

fn said(frame: impl FnOnce(&mut String)) -> Bytes {
    let mut buffer = String::new();
    frame(&mut buffer);
    Bytes::from(buffer)
}
