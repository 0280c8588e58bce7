//! Serves HTTP/1.1 or HTTP/2 on a connection, after the TLS handshake if there is one.

use std::{convert::Infallible, fmt::Display, io, pin::Pin, time::Duration};

use axum::{Router, body::Body};
use futures::{FutureExt as _, future::Map};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{HOST, HeaderValue},
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{io::AsyncWriteExt as _, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    http2_streams::{Http2Streams, StallDetectingBody},
    socket::Socket,
};
use crate::{
    base_path::BasePath,
    problem,
    server::{chunked_body::ChunkedBody, client::Peer, error::Problem, guard::Permit},
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
        let service = ConnectionService::new(router, connection.peer);
        let http = Box::pin(self.http1.serve_connection(TokioIo::new(socket), service));
        serve_http1(http, connection)
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
            let service = ConnectionService::new(router, connection.peer);
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if is_http2 {
                serve_http2(stream, service, connection, header_timeout).await;
            } else {
                serve_http1(Box::pin(http1.serve_connection(stream, service)), connection).await;
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
    mut http: Pin<Box<http1::Connection<I, ConnectionService>>>,
    connection: Connection,
) {
    let Connection { mut shutdown, permit: _permit, .. } = connection;
    let outcome = tokio::select! {
        biased;
        outcome = http.as_mut() => outcome,
        _ = shutdown.changed() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = outcome {
        log_error(&error);
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

/// The hyper service of one connection: passes its requests to the router.
struct ConnectionService {
    service: TowerToHyperService<Router>,
    peer: Peer,
}

impl ConnectionService {
    fn new(router: Router, peer: Peer) -> Self {
        Self { service: TowerToHyperService::new(router), peer }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ChunkedBody>;
    type Error = Infallible;
    type Future = Map<RouterFuture, fn(HttpResult<Body>) -> HttpResult<ChunkedBody>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // HTTP/2 names the host in the URI, as HTTP/1.1 to a proxy does; the handlers read the `Host`
        // header (RFC 9112, section 3.2.2).
        let uri = request.uri();
        let authority = uri.authority().map(|host| HeaderValue::from_str(host.as_str()));
        if let Some(Ok(authority)) = authority {
            request.headers_mut().insert(HOST, authority);
        }
        let in_chunks: fn(HttpResult<Body>) -> HttpResult<ChunkedBody> =
            |result| result.map(ChunkedBody::from_response);
        self.service.call(request).map(in_chunks)
    }
}

type RouterFuture = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

type HttpResult<B> = Result<Response<B>, Infallible>;
