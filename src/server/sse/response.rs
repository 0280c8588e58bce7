//! The SSE response: a stream of frames with keep-alive pings, pacing, token expiry and graceful
//! shutdown.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, HttpBody as _},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

pub(crate) use super::stats::BATCH_BYTES;
use super::{
    frame,
    stats::{Batch, CloseReason, StreamStats},
    subscription::{Reader, Subscription, WatchGrant},
};
use crate::{
    message::ResetReason,
    server::{
        guard::ReservedBody,
        log::{Freshness, FreshnessPoller},
        observe::{Metrics, StreamKind, Streaming},
        shutdown::{Shutdown, ShutdownPoller},
    },
};

/// The pause after a large batch for a browser. A browser takes about 20 µs to dispatch an event, and
/// dispatches all that have arrived without a pause: a faster stream would freeze the page. This is
/// 2 MB or 30,000 short events per second.
const BATCH_PAUSE: Duration = Duration::from_millis(8);

/// With the charset, though the format is always UTF-8 (HTML standard, section 9.2.3): clients that
/// decode text without one as Latin-1 (Python's requests) would garble it. Proxies that recognise an
/// event stream by its media type (nginx, Caddy and `HAProxy`) ignore the parameter.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// Makes SSE responses; what the event streams of a server share.
#[derive(Clone)]
pub(crate) struct EventStreams {
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    /// The `retry` of the streams: the pause before a disconnected reader reconnects.
    pub(crate) retry: Duration,
}

impl EventStreams {
    /// Begins an event stream.
    pub(crate) fn subscribe(
        &self,
        reader: Reader,
        kind: StreamKind,
        grant: WatchGrant,
    ) -> Subscription {
        Subscription {
            reader,
            expires_at: grant.expires_at,
            last_sent: Instant::now(),
            stale: false,
            stats: StreamStats::begin(self.metrics.clone(), kind),
            _permit: grant.permit,
        }
    }

    /// The response that streams `first` and then `frames`, with a ping after each 15 s of silence, and
    /// at once when `freshness` changes. It ends with `frames`, when the server drains, or when the
    /// reader's permission ends. It runs in the connection's task only, so that it stops when the reader
    /// disconnects.
    pub(crate) fn respond(
        &self,
        reader: Reader,
        kind: StreamKind,
        freshness: Freshness,
        grant: WatchGrant,
        first: Batch<String>,
        frames: impl Stream<Item = Batch> + Send + 'static,
    ) -> Response {
        let subscription = self.subscribe(reader, kind, grant);
        let body =
            EventBody::new(self, freshness, subscription, Box::pin(frames)).with_first(first);
        (Extension(Streaming), stream_response(Body::from_stream(body))).into_response()
    }

    /// The response to a browser that is not permitted to watch: an event stream with a reset
    /// (`expired`). An `EventSource` cannot see an error status, and would reconnect again and again.
    pub(crate) fn expired_response(&self) -> Response {
        self.metrics.reset(ResetReason::Expired);
        let mut batch = Batch::default();
        frame::retry(&mut batch.frames, self.retry);
        batch.push_reset(ResetReason::Expired, None);
        stream_response(Body::from(batch.frames))
    }
}

/// The response of an event stream with this body; `extension` is another extension of it.
pub(crate) fn respond_with(body: Body, extension: impl Clone + Send + Sync + 'static) -> Response {
    (Extension(Streaming), Extension(extension), stream_response(body)).into_response()
}

fn stream_response(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        // Turns off response buffering in nginx and proxies that follow it.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// The body of an SSE response.
pub(crate) struct EventBody<F> {
    subscription: Subscription,
    first: Option<Box<Batch>>,
    frames: F,
    /// The rest of a large message, with its memory reservation.
    large: Option<ReservedBody>,
    /// Boxed, and none where the store is never out of reach: an idle watcher stays small.
    freshness: Option<Box<FreshnessPoller>>,
    shutdown: ShutdownPoller,
    /// For the next ping, or for the pause after a large batch. Not reset for each frame: when it
    /// fires, the time of the last frame decides.
    timer: Pin<Box<Sleep>>,
    pausing: bool,
    ended: bool,
    /// Whether the next batch has the rest of a frame.
    mid_frame: bool,
    retry: Duration,
}

impl<F: Stream<Item = Batch> + Unpin> EventBody<F> {
    /// The rest of an event stream that has begun.
    pub(crate) fn new(
        streams: &EventStreams,
        freshness: Freshness,
        subscription: Subscription,
        frames: F,
    ) -> Self {
        Self {
            subscription,
            first: None,
            frames,
            large: None,
            freshness: freshness.poller(),
            shutdown: ShutdownPoller::new(&streams.shutdown),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            pausing: false,
            ended: false,
            mid_frame: false,
            retry: streams.retry,
        }
    }

    /// Begins the event stream, with these frames, which may be empty.
    pub(crate) fn with_first(self, first: Batch<String>) -> Self {
        Self { first: Some(Box::new(first.into())), ..self }
    }

    /// Its frames, when all that it had to send is sent.
    pub(crate) fn idle_frames(&mut self) -> Option<&mut F> {
        let is_busy = self.first.is_some()
            || self.large.is_some()
            || self.pausing
            || self.ended
            || self.mid_frame;
        (!is_busy).then_some(&mut self.frames)
    }

    pub(crate) fn into_subscription(self) -> Subscription {
        self.subscription
    }

    fn send(&mut self, batch: Batch) -> Poll<Option<Bytes>> {
        self.subscription.stats.count(&batch);
        self.record_sent(batch.frames.len());
        self.mid_frame = batch.incomplete;
        match batch.memory {
            None => Poll::Ready(Some(batch.frames)),
            Some(memory) => {
                self.large = Some(ReservedBody::new(batch.frames.into(), *memory));
                Poll::Ready(Some(Bytes::new()))
            }
        }
    }

    /// The first block, sent at once: `retry`, with the first events if there are any, else with a
    /// ping.
    fn first_block(&mut self, mut first: Batch, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if first.frames.is_empty() && !self.shutdown.has_begun(context) {
            match self.frames.poll_next_unpin(context) {
                Poll::Ready(Some(batch)) => first = batch,
                Poll::Ready(None) => {
                    self.ended = true;
                    self.subscription.stats.close_reason = CloseReason::Ended;
                }
                Poll::Pending => {}
            }
        }
        let mut frames = String::new();
        frame::retry(&mut frames, self.retry);
        if first.frames.is_empty() {
            self.subscription.stale = self.is_stale(context);
            frame::ping(&mut frames, self.subscription.stale);
        }
        let mut frames = frames.into_bytes();
        frames.extend_from_slice(&first.frames);
        self.send(Batch { frames: frames.into(), ..first })
    }

    /// Whether the store is out of reach. The task is woken when that changes.
    fn is_stale(&mut self, context: &mut Context<'_>) -> bool {
        self.freshness.as_mut().is_some_and(|freshness| freshness.is_stale(context))
    }

    fn ping(&mut self, stale: bool) -> Poll<Option<Bytes>> {
        self.subscription.stale = stale;
        let ping = encode(|buffer| frame::ping(buffer, stale));
        self.record_sent(ping.len());
        Poll::Ready(Some(ping))
    }

    /// Records that `bytes` are sent now, and begins the pause of a browser after a large batch.
    pub(crate) fn record_sent(&mut self, bytes: usize) {
        self.subscription.last_sent = Instant::now();
        if self.subscription.is_paced(bytes) {
            self.pausing = true;
            self.timer.as_mut().reset(self.subscription.last_sent + BATCH_PAUSE);
        }
    }

    /// Ends the stream with a reset (`expired`).
    fn expire(&mut self) -> Poll<Option<Bytes>> {
        self.ended = true;
        self.subscription.stats.close_reason = CloseReason::Expired;
        let mut batch = Batch::default();
        batch.push_reset(ResetReason::Expired, None);
        self.send(batch.into())
    }

    /// Whether the timer has fired.
    fn timer_fired(&mut self, context: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(context).is_ready()
    }
}

impl<F: Stream<Item = Batch> + Unpin> Stream for EventBody<F> {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(large) = &mut self.large {
                match ready!(Pin::new(large).poll_frame(context)) {
                    // The memory was revoked. The error shows the reader that the message is
                    // incomplete.
                    Some(Err(error)) => {
                        self.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Some(Ok(frame)) => return Poll::Ready(frame.into_data().ok().map(Ok)),
                    None => self.large = None,
                }
            }
            let chunk = ready!(self.poll_chunk(context));
            if self.large.is_none() {
                return Poll::Ready(chunk.map(Ok));
            }
        }
    }
}

impl<F: Stream<Item = Batch> + Unpin> EventBody<F> {
    /// The next chunk; for a large message it is empty, and the message is in `large`.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return self.first_block(*first, context);
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.mid_frame
            && let Poll::Ready(Some(rest)) = self.frames.poll_next_unpin(context)
        {
            return self.send(rest);
        }
        if self.shutdown.has_begun(context) {
            self.ended = true;
            self.subscription.stats.close_reason = CloseReason::Shutdown;
            return Poll::Ready(Some(shutdown_frame(self.retry, self.subscription.stale)));
        }
        if self.subscription.has_expired() {
            return self.expire();
        }
        if self.pausing {
            if !self.timer_fired(context) {
                return Poll::Pending;
            }
            self.pausing = false;
            let due = self.subscription.next_deadline();
            self.timer.as_mut().reset(due);
        }
        match self.frames.poll_next_unpin(context) {
            Poll::Ready(Some(batch)) => return self.send(batch),
            Poll::Ready(None) => {
                self.subscription.stats.close_reason = CloseReason::Ended;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        // Only after all frames that are ready: a reader takes a message for a sign of a fresh store.
        let stale = self.is_stale(context);
        if stale != self.subscription.stale {
            return self.ping(stale);
        }
        while self.timer_fired(context) {
            let due = self.subscription.next_deadline();
            if due > Instant::now() {
                self.timer.as_mut().reset(due);
                continue;
            }
            if self.subscription.expires_at == Some(due) {
                return self.expire();
            }
            return self.ping(stale);
        }
        Poll::Pending
    }
}

/// The last frame before a shutdown: `retry` with a random pause, so that the readers do not all
/// reconnect at once. (The page of Tidings cannot see it, and spreads its attempts itself.)
fn shutdown_frame(retry: Duration, stale: bool) -> Bytes {
    let max = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(fastrand::u64(max.min(500)..=max));
    encode(|buffer| {
        frame::retry(buffer, spread);
        frame::ping(buffer, stale);
    })
}

fn encode(frame: impl FnOnce(&mut String)) -> Bytes {
    let mut buffer = String::new();
    frame(&mut buffer);
    Bytes::from(buffer)
}

#[cfg(test)]
mod tests;
