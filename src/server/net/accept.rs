//! Connections: taken in, served, and not waited for for ever.

use std::{io::ErrorKind, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    connections::Connections,
    http::{Connection, Http},
    socket::with_write_timeout,
    tls::Tls,
};
use crate::server::client::Peer;

/// How long to wait when the system has no socket to give.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// What every connection is held to, whatever it is for.
#[derive(Clone)]
pub(crate) struct ConnectionOptions {
    pub(crate) connections: Connections,
    /// How long a client may take for its TLS handshake, and to say what it wants.
    pub(crate) header_timeout: Duration,
}

/// Serves the connections of `listener` until `stop`; then lets those that are open finish.
///
/// Ours and not `axum::serve`, which leaves the buffers and the time-outs as they are.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    options: ConnectionOptions,
    stop: impl Future<Output = ()>,
) {
    let http = Http::new(options.header_timeout);
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
        let Some(permit) = options.connections.admit(address) else { continue };
        let peer = Peer { address, secure: tls.is_some() };
        let connection = Connection { peer, ending: ending.clone(), permit };
        let socket = with_write_timeout(socket);
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
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}
