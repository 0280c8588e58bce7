//! TCP sockets: the write timeout, keep-alive, and `TCP_NODELAY`.

use std::{pin::Pin, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*); it resumes by its
/// cursor.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// The idle time after which the system sends TCP keep-alive probes.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// A socket whose writes fail when the peer takes nothing for [`WRITE_TIMEOUT`].
pub(super) type Socket = Pin<Box<TimeoutStream<TcpStream>>>;

/// Sets the options of an accepted socket. The write timeout is the socket's and not the response's,
/// because a response that is not polled cannot run a timer.
pub(super) fn with_write_timeout(socket: TcpStream) -> Socket {
    // A message is sent as soon as it is written: no more data follows for it to be batched with.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    // A client that only sends may vanish without closing, and no write would fail.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    if let Err(error) = SockRef::from(&socket).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "TCP keep-alive cannot be set");
    }
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(socket)
}
