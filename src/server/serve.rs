//! Connections: taken in, served, and not waited for for ever.

mod chunked;
mod http;
mod limit;
mod redirect;
mod streams;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_io_timeout::TimeoutStream;

use self::http::{Connection, Http};
pub(super) use self::{chunked::ChunkedBody, limit::Connections, redirect::redirect};
use super::{client::Peer, tls::Tls};

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*): it resumes
/// by its cursor, and its socket is free for another.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// After what silence the system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// How long to wait when the system has no socket to give.
const RESPITE: Duration = Duration::from_millis(500);

/// What every connection is held to, whatever it is for.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) connections: Connections,
    /// How long a client may take for its TLS handshake, and to say what it wants.
    pub(super) header_timeout: Duration,
}

/// Serves the connections of `listener` until `stop`; then lets those that are open finish.
///
/// Ours and not `axum::serve`, which leaves the buffers and the time-outs as they are.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    terms: Terms,
    stop: impl Future<Output = ()>,
) {
    let http = Http::new(terms.header_timeout);
    // Every connection holds a receiver: it is told of the end, and its own end is seen.
    let (end, ending) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (socket, address) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let address = address.ip().to_canonical();
        // An answer would cost more than the connection.
        let Some(permit) = terms.connections.admit(address) else { continue };
        let peer = Peer { address, secure: tls.is_some() };
        let connection = Connection { peer, ending: ending.clone(), permit };
        let socket = bounded(socket);
        match &tls {
            None => tokio::spawn(http.plain(socket, router.clone(), connection)),
            Some(tls) => {
                tokio::spawn(http.encrypted(tls.acceptor(), socket, router.clone(), connection))
            }
        };
    }
    drop((listener, ending));
    // It fails where nobody has to be told.
    let _ = end.send(());
    end.closed().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // It was gone before it was here.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::error!(%error, "a connection can not be taken in");
                tokio::time::sleep(RESPITE).await;
            }
        }
    }
}

/// A socket whose writes fail when the other side takes nothing.
type Socket = Pin<Box<TimeoutStream<TcpStream>>>;

/// The time-out belongs to the socket and not to the response: a response that is not asked for
/// more can not act.
fn bounded(socket: TcpStream) -> Socket {
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
