//! TCP sockets: the write timeout, keep-alive, and `TCP_NODELAY`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::server::fan_out::WRITE_TIMEOUT;

/// The idle time after which the system sends TCP keep-alive probes.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// A socket whose writes fail when the peer takes nothing for [`WRITE_TIMEOUT`]. The timeout is the
/// socket's and not the response's, because a response that is not polled cannot run a timer.
pub(super) struct Socket {
    stream: TcpStream,
    /// Runs while a write waits for the peer.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Sets the options of an accepted socket.
    pub(super) fn new(stream: TcpStream) -> Self {
        // A message is sent as soon as it is written: no more data follows for it to be batched with.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        // A client that only sends may vanish without closing, and no write would fail.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
            tracing::debug!(%error, "TCP keep-alive cannot be set");
        }
        Self { stream, timeout: None }
    }

    pub(super) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.timeout = None;
            return Poll::Ready(written);
        }
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        timeout.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
