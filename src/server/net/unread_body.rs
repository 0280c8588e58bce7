//! Lingering close: unread request bodies are discarded before the response, so that a refusal arrives
//! while the client is still sending.
//!
//! A handler may respond before it has read the body: the stream has ended, the message is too large.
//! An HTTP/1.1 connection would then be closed while the client sends, and curl reports the early end of
//! an HTTP/2 stream as a protocol error: the response is lost. So the rest of the body is read and
//! discarded first, within limits of bytes and time.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures::StreamExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::server::{client::Client, guard::MemoryBudget};

/// How many bytes are discarded, and for how long. A client that pauses for [`MAX_PAUSE`] gets the
/// response at once, because it is not sending.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(5);
/// The same where the response is 429 or 503: a client over its limits, a full or stopping server.
const BRIEF_BYTES: usize = 256 * 1024;
const BRIEF_TIME: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Middleware: discards what the handler left unread of the body before the response is sent.
pub(crate) async fn discard_unread(
    State(memory): State<MemoryBudget>,
    request: Request,
    next: Next,
) -> Response {
    let address = Client::from_extensions(request.extensions()).address;
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Such a client waits for `100 Continue`, which the first read of the body sends (RFC 9110,
    // section 10.1.1).
    let expects_continue = parts.headers.contains_key(header::EXPECT);
    let unread = Unread::default();
    let body = Body::new(ReclaimedBody {
        body: Some(body),
        is_sent: !expects_continue,
        unread: Arc::clone(&unread),
    });
    let response = next.run(Request::from_parts(parts, body)).await;
    let unread = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Skipped when too many requests already hold memory without a reservation.
    if let Some((unread, _permit)) = unread.zip(memory.try_acquire_unreserved(address)) {
        let is_brief = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]
            .contains(&response.status());
        let (bytes, time) =
            if is_brief { (BRIEF_BYTES, BRIEF_TIME) } else { (MAX_BYTES, MAX_TIME) };
        discard(unread, bytes, time).await;
    }
    response
}

async fn discard(body: Body, max_bytes: usize, max_time: Duration) {
    let deadline = Instant::now() + max_time;
    let mut chunks = body.into_data_stream();
    let mut bytes = 0;
    while bytes < max_bytes {
        let next = timeout_at(deadline.min(Instant::now() + MAX_PAUSE), chunks.next()).await;
        let Ok(Some(Ok(chunk))) = next else { return };
        bytes += chunk.len();
    }
}

/// What a handler left unread of a body.
type Unread = Arc<Mutex<Option<Body>>>;

/// A body that is put into `unread` when its handler drops it before its end.
struct ReclaimedBody {
    body: Option<Body>,
    /// Whether the client sends the body, or still waits for `100 Continue`.
    is_sent: bool,
    unread: Unread,
}

impl HttpBody for ReclaimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_sent = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ReclaimedBody {
    fn drop(&mut self) {
        if self.is_sent {
            *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}
