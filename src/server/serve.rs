//! Connections: taken in, served, and not waited for for ever.

use std::{io::ErrorKind, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*): it resumes
/// by its cursor, and its socket is free for another.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// What a connection may hold of what it reads or writes: it bounds the head of a request, and what
/// a reader that has stalled costs.
const BUFFER: usize = 16 * 1024;
/// How long to wait when the system has no socket to give.
const RESPITE: Duration = Duration::from_millis(500);

/// Serves the connections of `listener` until `stop`; then lets those that are open finish.
///
/// Ours and not `axum::serve`, which leaves the buffers and the time-outs as they are.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    // A frame is small: copied into one piece it costs less than as a list of pieces.
    http.writev(false);
    let service = TowerToHyperService::new(router);
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let socket = tokio::select! {
            socket = accept(&listener) => socket,
            () = &mut stop => break,
        };
        let connection = http.serve_connection(TokioIo::new(bounded(socket)), service.clone());
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
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

/// Writes fail when the other side takes nothing. The time-out belongs to the socket and not to
/// the response: a response that is not asked for more can not act.
fn bounded(socket: TcpStream) -> std::pin::Pin<Box<TimeoutStream<TcpStream>>> {
    // A message is on its way as soon as it is written; nothing follows that it could wait for.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(socket)
}
