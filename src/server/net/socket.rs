//! TCP sockets: the write timeout, keep-alive, and no delay.

use std::{pin::Pin, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*): it resumes
/// by its cursor, and its socket is free for another.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// After what silence the system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// A socket whose writes fail when the other side takes nothing.
pub(super) type Socket = Pin<Box<TimeoutStream<TcpStream>>>;

/// The time-out belongs to the socket and not to the response: a response that is not asked for
/// more can not act.
pub(super) fn with_write_timeout(socket: TcpStream) -> Socket {
    // A message is on its way as soon as it is written; nothing follows that it could wait for.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    // Whoever only sends may be gone without a word, and nothing is written that would tell.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    if let Err(error) = SockRef::from(&socket).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection without keep-alive");
    }
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(socket)
}
