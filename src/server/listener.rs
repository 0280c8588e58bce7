//! Connections that do not wait for ever.

use std::{pin::Pin, time::Duration};

use axum::serve::{Listener, ListenerExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*): it resumes
/// by its cursor, and its socket is free for another.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// The listener, with writes that fail when the other side takes nothing. The time-out belongs to
/// the socket and not to the response: a response that is not asked for more can not act.
pub(super) fn bounded_writes(listener: TcpListener) -> impl Listener<Addr = std::net::SocketAddr> {
    BoundedWrites(listener.tap_io(|socket| {
        // A message is on its way as soon as it is written; nothing follows that it could wait for.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
    }))
}

struct BoundedWrites<L>(L);

impl<L: Listener<Io = TcpStream>> Listener for BoundedWrites<L> {
    type Io = Pin<Box<TimeoutStream<TcpStream>>>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = self.0.accept().await;
        let mut socket = TimeoutStream::new(socket);
        socket.set_write_timeout(Some(WRITE_TIMEOUT));
        (Box::pin(socket), address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
