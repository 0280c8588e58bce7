//! Unread request bodies: a refusal arrives even while the client is still sending.
//!
//! A handler may answer before it has read the body: the stream has ended, the message is too large.
//! HTTP/1.1 would then close the connection under the client, and curl takes the early end of an
//! HTTP/2 stream for an error of the protocol: the answer is lost. So what is left of the body is read
//! and thrown away first, within bounds of bytes and time.

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

/// How many bytes are read on, and for how long. A client that pauses is not in the middle of
/// sending: it sees the answer at once.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(5);
/// The same for a client that asks for too much, or of a server that stops.
const BRIEF_BYTES: usize = 256 * 1024;
const BRIEF_TIME: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Answers a request, and reads before that what the answer left of its body.
pub(crate) async fn read_on(
    State(memory): State<MemoryBudget>,
    request: Request,
    next: Next,
) -> Response {
    let address = Client::of_request(request.extensions()).address;
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Such a client waits to be asked for the body, and the first read asks for it (RFC 9110,
    // section 10.1.1).
    let waits = parts.headers.contains_key(header::EXPECT);
    let rest = Rest::default();
    let body = Body::new(LeftBody { body: Some(body), asked: !waits, rest: Arc::clone(&rest) });
    let response = next.run(Request::from_parts(parts, body)).await;
    let rest = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Where too many requests already take memory without a reservation, this one does not.
    if let Some((rest, _permit)) = rest.zip(memory.try_acquire_unreserved(address)) {
        let is_brief = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]
            .contains(&response.status());
        let (bytes, time) =
            if is_brief { (BRIEF_BYTES, BRIEF_TIME) } else { (MAX_BYTES, MAX_TIME) };
        discard(rest, bytes, time).await;
    }
    response
}

async fn discard(body: Body, max_bytes: usize, max_time: Duration) {
    let deadline = Instant::now() + max_time;
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while bytes < max_bytes {
        let next = timeout_at(deadline.min(Instant::now() + MAX_PAUSE), pieces.next()).await;
        let Ok(Some(Ok(piece))) = next else { return };
        bytes += piece.len();
    }
}

/// What a handler left of a body.
type Rest = Arc<Mutex<Option<Body>>>;

/// A body that comes back when its handler drops it before its end.
struct LeftBody {
    body: Option<Body>,
    /// Whether the client sends it.
    asked: bool,
    rest: Rest,
}

impl HttpBody for LeftBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked = true;
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

impl Drop for LeftBody {
    fn drop(&mut self) {
        if self.asked {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}
