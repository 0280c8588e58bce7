//! Serves HTTP/1.1 or HTTP/2 on a connection, after the TLS handshake if there is one.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::Service as _,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt as _, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    http2_streams::{Http2Streams, StallDetectingBody},
    release::{FlushTracker, Release, Released},
    service::ConnectionService,
    socket::Socket,
};
use crate::{
    base_path::BasePath,
    problem,
    server::{client::Peer, error::Problem, fan_out, guard::Permit},
};

/// The bytes that a connection may buffer in each direction: bounds the head of an HTTP/1.1 request,
/// and the memory that a stalled reader takes.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
/// The bytes of a response that an HTTP/2 stream may buffer before it accepts no more chunks. The last
/// chunk is a copy of one byte, so that little more stays buffered once the body and its permits are
/// dropped.
const MAX_STREAM_BUFFER_BYTES: usize = 1024;
/// The bytes that the head of an HTTP/2 request may have; the same as for HTTP/1.1.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// The HTTP/2 flow-control windows of a stream and of a connection, in bytes: what a client may send
/// before the server reads it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// How many requests may be open on an HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// How often an HTTP/2 client is sent a PING frame, and how long it may take to acknowledge it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a server that stops waits for an HTTP/2 client to close the connection once it has all its
/// responses.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a client that sends plain HTTP to the TLS port may take to read the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// An accepted connection.
pub(super) struct Connection {
    pub(super) peer: Peer,
    /// Changes when the server stops; dropped when the connection has ended.
    pub(super) shutdown: watch::Receiver<()>,
    pub(super) permit: Permit,
}

/// The settings of the HTTP servers.
pub(super) struct Http {
    http1: http1::Builder,
    header_timeout: Duration,
    base_path: BasePath,
}

impl Http {
    pub(super) fn new(header_timeout: Duration, base_path: BasePath) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_BUFFER_BYTES);
        // Frames are small: copying them into one buffer costs less than a vectored write.
        http1.writev(false);
        Self { http1, header_timeout, base_path }
    }

    /// Serves a connection without TLS.
    pub(super) fn serve_plain(
        &self,
        socket: Socket,
        router: Router,
        connection: Connection,
    ) -> impl Future<Output = ()> + use<> {
        let release = Arc::<Release>::default();
        let service = ConnectionService::new(router, connection.peer, Some(Arc::clone(&release)));
        let io = FlushTracker { io: TokioIo::new(socket), release: Arc::clone(&release) };
        let mut http = Box::new(self.http1.serve_connection(io, service));
        async move {
            let Connection { mut shutdown, permit, .. } = connection;
            let outcome = until_shutdown(&mut http, &mut shutdown).await;
            let Err(error) = outcome else { return };
            let Some(Released { stream, head }) = release.take() else { return log_error(&error) };
            let http1::Parts { io, read_buf, .. } = http.into_parts();
            let socket = io.io.into_inner().into_inner();
            let connection = fan_out::Connection::new(socket, read_buf.len(), permit, shutdown);
            drop(read_buf);
            Box::pin(stream.serve(connection, head)).await;
        }
    }

    /// Serves a connection that begins with a TLS handshake.
    pub(super) fn serve_tls(
        &self,
        acceptor: TlsAcceptor,
        socket: Socket,
        router: Router,
        mut connection: Connection,
    ) -> impl Future<Output = ()> + use<> {
        let (http1, header_timeout) = (self.http1.clone(), self.header_timeout);
        let base_path = self.base_path.clone();
        async move {
            let handshake = async {
                let mut socket = socket;
                if is_plain_http(&socket).await {
                    refuse_plain_http(&mut socket, &base_path).await;
                    return Err(io::ErrorKind::InvalidData.into());
                }
                acceptor
                    .accept_with(socket, |tls| tls.set_buffer_limit(Some(MAX_BUFFER_BYTES)))
                    .await
            };
            let handshake = tokio::select! {
                handshake = timeout(header_timeout, handshake) => handshake,
                _ = connection.shutdown.changed() => return,
            };
            let stream = match handshake {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return log_error(&error),
                Err(elapsed) => return log_error(&elapsed),
            };
            let service = ConnectionService::new(router, connection.peer, None);
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if is_http2 {
                serve_http2(stream, service, connection, header_timeout).await;
            } else {
                serve_http1(Box::new(http1.serve_connection(stream, service)), connection).await;
            }
        }
    }
}

/// Whether the first byte is that of an HTTP method; a TLS handshake begins with the byte 22.
async fn is_plain_http(socket: &Socket) -> bool {
    let mut first = [0];
    let peeked = socket.get_ref().peek(&mut first).await;
    matches!(peeked, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Sends a problem, and reads on for a moment: closing a connection that has unread data resets it, and
/// the client would lose the response.
async fn refuse_plain_http(socket: &mut Socket, base_path: &BasePath) {
    let problem = Problem::new(problem::TLS_REQUIRED, "Write https:// in place of http://.");
    let sending = async {
        socket.write_all(problem.to_http1(base_path).as_bytes()).await?;
        socket.shutdown().await?;
        tokio::io::copy(socket, &mut tokio::io::sink()).await
    };
    if !matches!(timeout(REFUSAL_TIMEOUT, sending).await, Ok(Ok(_))) {
        tracing::debug!("a client of plain HTTP left before it had read that the port is for TLS");
    }
}

/// Serves HTTP/1.1. The connection is boxed, because a future holds its arguments twice.
async fn serve_http1<I: Read + Write + Unpin + 'static>(
    mut http: Box<http1::Connection<I, ConnectionService>>,
    connection: Connection,
) {
    let Connection { mut shutdown, permit: _permit, .. } = connection;
    if let Err(error) = until_shutdown(&mut http, &mut shutdown).await {
        log_error(&error);
    }
}

/// Serves HTTP/1.1 until the connection is closed; once the server stops, until the open request is
/// answered.
async fn until_shutdown<I: Read + Write + Unpin + 'static>(
    http: &mut http1::Connection<I, ConnectionService>,
    shutdown: &mut watch::Receiver<()>,
) -> hyper::Result<()> {
    tokio::select! {
        biased;
        outcome = &mut *http => outcome,
        _ = shutdown.changed() => {
            Pin::new(&mut *http).graceful_shutdown();
            http.await
        }
    }
}

/// Serves HTTP/2, with an idle timeout, which hyper has only for HTTP/1.1: a client that has no open
/// request for that long is disconnected.
async fn serve_http2<I: Read + Write + Unpin + Send + 'static>(
    stream: I,
    service: ConnectionService,
    connection: Connection,
    mut idle_timeout: Duration,
) {
    let Connection { mut shutdown, permit: _permit, .. } = connection;
    let streams = Http2Streams::default();
    let mut http = http2::Builder::new(streams.clone());
    http.timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_STREAM_BUFFER_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES);
    let service = hyper::service::service_fn(move |request| {
        let response = service.call(request);
        async { response.await.map(|response| response.map(StallDetectingBody::new)) }
    });
    let mut http = Box::pin(http.serve_connection(stream, service));
    let mut last_started = 0;
    let (mut is_goaway_sent, mut is_stopping) = (false, false);
    loop {
        tokio::select! {
            biased;
            outcome = http.as_mut() => {
                if let Err(error) = outcome {
                    log_error(&error);
                }
                return;
            }
            _ = shutdown.changed(), if !is_stopping => {
                is_stopping = true;
                idle_timeout = idle_timeout.min(GOAWAY_TIMEOUT);
            }
            () = tokio::time::sleep(idle_timeout) => {
                let started = streams.started();
                if streams.open() > 0 || started > last_started {
                    last_started = started;
                    continue;
                }
                if is_goaway_sent {
                    return;
                }
            }
        }
        // A client that has sent no request waits for no response.
        if streams.started() == 0 {
            return;
        }
        is_goaway_sent = true;
        http.as_mut().graceful_shutdown();
    }
}

fn log_error(error: &dyn Display) {
    tracing::debug!(%error, "a connection failed");
}
