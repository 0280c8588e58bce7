//! Connections that leave hyper when their response is an event stream.
//!
//! hyper lets a connection go when its service returns an error: nothing of the response has been written
//! then. What an earlier response has left in its buffer would be lost, so a connection is released only
//! if everything was flushed.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::{BufMut as _, BytesMut};
use hyper::{
    Response,
    header::{CONNECTION, DATE, HeaderValue, TRANSFER_ENCODING},
    rt::{Read, ReadBufCursor, Write},
};

use crate::server::fan_out::EventStream;

/// Whether and how a connection is released: shared by its service and its socket.
#[derive(Default)]
pub(super) struct Release {
    /// Whether hyper has bytes that the socket did not take yet.
    is_unflushed: AtomicBool,
    released: Mutex<Option<Released>>,
}

/// A response that is sent without hyper.
pub(super) struct Released {
    pub(super) stream: EventStream,
    /// The head of the response, as it is sent.
    pub(super) head: BytesMut,
}

/// The error of a service that makes hyper let the connection go.
#[derive(Debug)]
pub(super) struct ReleasedError;

impl fmt::Display for ReleasedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is served without hyper")
    }
}

impl std::error::Error for ReleasedError {}

impl Release {
    pub(super) fn is_possible(&self) -> bool {
        !self.is_unflushed.load(Ordering::Relaxed)
    }

    pub(super) fn put<B>(&self, response: Response<B>, stream: EventStream) {
        let released = Released { stream, head: head(response) };
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(released);
    }

    pub(super) fn take(&self) -> Option<Released> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The head of a response with a body in chunks, after which the connection is closed (RFC 9112).
fn head<B>(mut response: Response<B>) -> BytesMut {
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        headers.insert(DATE, date);
    }
    let mut head = BytesMut::with_capacity(1024);
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        head.put_slice(part.as_bytes());
    }
    for (name, value) in headers.iter() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.put_slice(part);
        }
    }
    head.put_slice(b"\r\n");
    head
}

/// A socket that tracks whether everything is flushed: hyper flushes it only when its buffer is empty.
pub(super) struct FlushTracker<I> {
    pub(super) io: I,
    pub(super) release: Arc<Release>,
}

impl<I: Read + Unpin> Read for FlushTracker<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: Write + Unpin> Write for FlushTracker<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.release.is_unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.release.is_unflushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
