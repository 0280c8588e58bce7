//! The accept loop: serves each connection in a task, and lets the open ones finish on shutdown.

use std::{io::ErrorKind, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    connections::Connections,
    http::{Connection, Http},
    socket::Socket,
    tls::Tls,
};
use crate::{base_path::BasePath, server::client::Peer};

/// How long to wait after a failed `accept`, such as one without a free file descriptor.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// The limits and timeouts of the connections of a listener.
#[derive(Clone)]
pub(crate) struct ConnectionOptions {
    pub(crate) connections: Connections,
    /// How long a client may take for its TLS handshake, and to send the head of a request.
    pub(crate) header_timeout: Duration,
    /// Begins the addresses in responses.
    pub(crate) base_path: BasePath,
}

/// Serves the connections of `listener` until `stop` completes; returns when those that are open have
/// finished.
///
/// Replaces `axum::serve`, which does not set the sizes of buffers and the timeouts.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    options: ConnectionOptions,
    stop: impl Future<Output = ()>,
) {
    let http = Http::new(options.header_timeout, options.base_path);
    // Every connection holds a receiver: it is notified of the shutdown, and the sender sees when all
    // receivers are dropped.
    let (shutdown_sender, shutdown) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (socket, address) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let address = address.ip().to_canonical();
        // A response would cost more than the connection.
        let Some(permit) = options.connections.admit(address) else { continue };
        let peer = Peer { address, secure: tls.is_some() };
        let connection = Connection { peer, shutdown: shutdown.clone(), permit };
        let socket = Socket::new(socket);
        match &tls {
            None => tokio::spawn(http.serve_plain(socket, router.clone(), connection)),
            Some(tls) => {
                tokio::spawn(http.serve_tls(tls.acceptor(), socket, router.clone(), connection))
            }
        };
    }
    drop((listener, shutdown));
    // Fails if no connection is open.
    let _ = shutdown_sender.send(());
    shutdown_sender.closed().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client closed the connection before it was accepted.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}
