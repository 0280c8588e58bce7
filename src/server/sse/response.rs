//! An SSE response: frames out, with pings, pacing and a last event.

use std::{
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, HttpBody as _},
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream::Stream;
use tokio::time::{Instant, Sleep};

use super::{
    frame,
    stats::{Batch, CloseReason, StreamStats},
};
use crate::{
    message::{PING_INTERVAL_MS, RESET},
    server::{
        guard::{Permit, ReservedBody},
        observe::{Metrics, StreamKind, Streaming},
        shutdown::{Shutdown, Stopping},
    },
};

/// About how many bytes one write should hold: many frames to a system call.
pub(crate) const BATCH: usize = 16 * 1024;
/// How long a browser is left alone after a batch. It takes some 20 µs to dispatch one event, and
/// dispatches all that has arrived without a pause: what comes faster freezes its page. This is
/// 2 MB or 30,000 short events a second.
const BATCH_PAUSE: Duration = Duration::from_millis(8);

/// With the charset, though the format knows no other (HTML standard, section 9.2.3): clients that
/// take text without one for Latin-1 (Python's requests) would garble it. Proxies that tell an event
/// stream by its type look at the type alone; nginx, Caddy and `HAProxy` do.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// The reason of a reset that says that the reader may not watch any more.
const EXPIRED: &str = "expired";

const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
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

/// What a reader holds while it reads; it goes with the response.
pub(crate) struct WatchGrant {
    pub(crate) permit: Permit,
    /// When it ends, if it does.
    pub(crate) until: Option<Instant>,
}

/// What the event streams of a server have in common.
#[derive(Clone)]
pub(crate) struct EventStreams {
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    /// The pause after which a cut reader comes back, told to each stream as `retry`.
    pub(crate) retry: Duration,
}

impl EventStreams {
    /// The response that carries `frames`: `first` at once, a ping in every silence, and its own end
    /// when the server stops, or when the reader's right ends. Nothing runs for it but the
    /// connection's task, so that it takes no work once its reader has gone.
    pub(crate) fn respond(
        &self,
        reader: Reader,
        watched: StreamKind,
        grant: WatchGrant,
        first: Batch<String>,
        frames: impl Stream<Item = Batch> + Send + 'static,
    ) -> Response {
        let body = Events {
            first: Some(Box::new(first.into())),
            frames: Box::pin(frames),
            large: None,
            stopping: Stopping::new(&self.shutdown),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            resting: false,
            last_said: Instant::now(),
            until: grant.until,
            ended: false,
            reader,
            retry: self.retry,
            stats: StreamStats::begin(self.metrics.clone(), watched),
            _permit: grant.permit,
        };
        (Extension(Streaming), stream_response(Body::from_stream(body))).into_response()
    }

    /// The answer to a page that may not watch, or not any more: an `EventSource` cannot see a status,
    /// and would come back again and again.
    pub(crate) fn refused(&self) -> Response {
        self.metrics.reset(EXPIRED);
        let mut said = Batch::default();
        frame::retry(&mut said.frames, self.retry);
        expired(&mut said);
        stream_response(Body::from(said.frames))
    }
}

fn stream_response(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
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
    /// The rest of a large message.
    large: Option<ReservedBody>,
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
    stats: StreamStats,
    _permit: Permit,
}

impl<F: Stream<Item = Batch>> Events<F> {
    fn deliver(&mut self, batch: Batch) -> Poll<Option<Bytes>> {
        self.stats.count(&batch);
        self.pace(batch.frames.len());
        match batch.memory {
            None => Poll::Ready(Some(batch.frames)),
            Some(memory) => {
                self.large = Some(ReservedBody::new(batch.frames.into(), *memory));
                Poll::Ready(Some(Bytes::new()))
            }
        }
    }

    /// The first block, at once: the pause before a reconnect, with the first event that there is, or
    /// with a ping.
    fn begin(&mut self, mut first: Batch, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if first.frames.is_empty() && !self.stopping.has_begun(context) {
            match self.frames.as_mut().poll_next(context) {
                Poll::Ready(Some(batch)) => first = batch,
                Poll::Ready(None) => (self.ended, self.stats.closed) = (true, CloseReason::Ended),
                Poll::Pending => {}
            }
        }
        let mut frames = String::new();
        frame::retry(&mut frames, self.retry);
        if first.frames.is_empty() {
            frame::ping(&mut frames);
        }
        let mut frames = frames.into_bytes();
        frames.extend_from_slice(&first.frames);
        self.deliver(Batch { frames: frames.into(), ..first })
    }

    /// So many bytes are said now.
    fn pace(&mut self, bytes: usize) {
        self.last_said = Instant::now();
        if self.reader == Reader::Browser && bytes >= BATCH / 2 {
            self.resting = true;
            self.timer.as_mut().reset(self.last_said + BATCH_PAUSE);
        }
    }

    /// The last words to a reader whose right to watch has ended.
    fn expire(&mut self) -> Poll<Option<Bytes>> {
        self.ended = true;
        self.stats.closed = CloseReason::Expired;
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
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(large) = &mut self.large {
                match ready!(Pin::new(large).poll_frame(context)) {
                    // It had to be given up. The reader must not take what it has for the whole.
                    Some(Err(error)) => {
                        self.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Some(Ok(frame)) => return Poll::Ready(frame.into_data().ok().map(Ok)),
                    None => self.large = None,
                }
            }
            let said = ready!(self.poll_said(context));
            if self.large.is_none() {
                return Poll::Ready(said.map(Ok));
            }
        }
    }
}

impl<F: Stream<Item = Batch>> Events<F> {
    /// What is said next; nothing in the place of a large message.
    fn poll_said(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return self.begin(*first, context);
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stopping.has_begun(context) {
            self.ended = true;
            self.stats.closed = CloseReason::Stopping;
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
                self.stats.closed = CloseReason::Ended;
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
            let ping = said(frame::ping);
            self.pace(ping.len());
            let due = self.due();
            self.timer.as_mut().reset(due);
            return Poll::Ready(Some(ping));
        }
        Poll::Pending
    }
}

/// The last words of a server that stops: come back, but not all at the same moment. (Our own page
/// does not see them; it spreads its attempts by itself.)
fn farewell(retry: Duration) -> Bytes {
    let max = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(fastrand::u64(max.min(500)..=max));
    said(|buffer| {
        frame::retry(buffer, spread);
        frame::ping(buffer);
    })
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
