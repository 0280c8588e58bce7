//! What is spoken on a connection: HTTP/1.1 or HTTP/2, and before it TLS.

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
    problem,
    server::{chunked_body::ChunkedBody, client::Peer, error::Problem, guard::Permit},
};

/// What a connection may hold of what it reads or writes: it bounds the head of a request, and what
/// a reader that has stalled costs.
const BUFFER: usize = 16 * 1024;
/// What each stream of HTTP/2 may hold of its answer before it takes no more chunks. Its last chunk is a
/// copy of one byte, so that hardly more is held of an answer whose body, with its permits, is gone.
const STREAM_BUFFER: usize = 1024;
/// What the head of a request may have with HTTP/2; the same.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// What may arrive on a stream of HTTP/2, and on all of a connection, before somebody reads it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// How many requests may be open on a connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// How often the other side of HTTP/2 is asked whether it is still there, and how long it may take
/// to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a server that stops waits for the other side of HTTP/2 to leave, once it has all that it
/// asked for.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a client that speaks plain HTTP to the port for TLS may take to hear so.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection that was taken in.
pub(super) struct Connection {
    pub(super) peer: Peer,
    /// Changes when the server stops; when all are gone, so are the connections.
    pub(super) ending: watch::Receiver<()>,
    pub(super) permit: Permit,
}

/// How HTTP is spoken here.
pub(super) struct Http {
    one: http1::Builder,
    header_timeout: Duration,
}

impl Http {
    pub(super) fn new(header_timeout: Duration) -> Self {
        let mut one = http1::Builder::new();
        one.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(BUFFER);
        // A frame is small: copied into one piece it costs less than as a list of pieces.
        one.writev(false);
        Self { one, header_timeout }
    }

    /// Serves a connection without TLS.
    pub(super) fn plain(
        &self,
        socket: Socket,
        router: Router,
        connection: Connection,
    ) -> impl Future<Output = ()> + use<> {
        let requests = Requests::new(router, connection.peer);
        let http = Box::pin(self.one.serve_connection(TokioIo::new(socket), requests));
        serve_http1(http, connection)
    }

    /// Serves a connection that begins with a TLS handshake.
    pub(super) fn encrypted(
        &self,
        acceptor: TlsAcceptor,
        socket: Socket,
        router: Router,
        mut connection: Connection,
    ) -> impl Future<Output = ()> + use<> {
        let (http1, header_timeout) = (self.one.clone(), self.header_timeout);
        async move {
            let handshake = async {
                let mut socket = socket;
                if is_plain_http(&socket).await {
                    refuse_plain_http(&mut socket).await;
                    return Err(io::ErrorKind::InvalidData.into());
                }
                acceptor.accept_with(socket, |tls| tls.set_buffer_limit(Some(BUFFER))).await
            };
            let handshake = tokio::select! {
                handshake = timeout(header_timeout, handshake) => handshake,
                _ = connection.ending.changed() => return,
            };
            let stream = match handshake {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return broken(&error),
                Err(late) => return broken(&late),
            };
            let requests = Requests::new(router, connection.peer);
            let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if agreed {
                serve_http2(stream, requests, connection, header_timeout).await;
            } else {
                serve_http1(Box::pin(http1.serve_connection(stream, requests)), connection).await;
            }
        }
    }
}

/// Whether the client begins with a method of HTTP: a TLS handshake begins with the byte 22.
async fn is_plain_http(socket: &Socket) -> bool {
    let mut first = [0];
    let peeked = socket.get_ref().peek(&mut first).await;
    matches!(peeked, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Says what is wrong, and reads on for a moment: a connection that is closed with something unread
/// takes the answer with it.
async fn refuse_plain_http(socket: &mut Socket) {
    let problem = Problem::new(problem::TLS_REQUIRED, "Write https:// in place of http://.");
    let said = async {
        socket.write_all(problem.to_http1().as_bytes()).await?;
        socket.shutdown().await?;
        tokio::io::copy(socket, &mut tokio::io::sink()).await
    };
    if !matches!(timeout(GOODBYE, said).await, Ok(Ok(_))) {
        tracing::debug!("a client of plain HTTP went before it was told to use TLS");
    }
}

/// HTTP/1.1. The connection is boxed, because a future holds its arguments twice.
async fn serve_http1<I: Read + Write + Unpin + 'static>(
    mut http: Pin<Box<http1::Connection<I, Requests>>>,
    connection: Connection,
) {
    let Connection { mut ending, permit: _permit, .. } = connection;
    let outcome = tokio::select! {
        biased;
        outcome = http.as_mut() => outcome,
        _ = ending.changed() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = outcome {
        broken(&error);
    }
}

/// HTTP/2. What HTTP/1.1 has by itself is done here: a client that asks for nothing for some time
/// is let go.
async fn serve_http2<I: Read + Write + Unpin + Send + 'static>(
    stream: I,
    requests: Requests,
    connection: Connection,
    mut patience: Duration,
) {
    let Connection { mut ending, permit: _permit, .. } = connection;
    let streams = Http2Streams::default();
    let mut http = http2::Builder::new(streams.clone());
    http.timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(MAX_HEAD_BYTES);
    let service = hyper::service::service_fn(move |request| {
        let answer = requests.call(request);
        async { answer.await.map(|response| response.map(StallDetectingBody::new)) }
    });
    let mut http = Box::pin(http.serve_connection(stream, service));
    let mut begun_before = 0;
    let (mut leaving, mut stopping) = (false, false);
    loop {
        tokio::select! {
            biased;
            outcome = http.as_mut() => {
                if let Err(error) = outcome {
                    broken(&error);
                }
                return;
            }
            _ = ending.changed(), if !stopping => {
                stopping = true;
                patience = patience.min(GOAWAY_TIMEOUT);
            }
            () = tokio::time::sleep(patience) => {
                let begun = streams.begun();
                if streams.open() > 0 || begun > begun_before {
                    begun_before = begun;
                    continue;
                }
                if leaving {
                    return;
                }
            }
        }
        // Who has not asked for anything yet has nothing to wait for.
        if streams.begun() == 0 {
            return;
        }
        leaving = true;
        http.as_mut().graceful_shutdown();
    }
}

fn broken(error: &dyn Display) {
    tracing::debug!(%error, "a connection broke off");
}

/// Answers the requests of one connection.
struct Requests {
    service: TowerToHyperService<Router>,
    peer: Peer,
}

impl Requests {
    fn new(router: Router, peer: Peer) -> Self {
        Self { service: TowerToHyperService::new(router), peer }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ChunkedBody>;
    type Error = Infallible;
    type Future = Map<RouterFuture, fn(HttpResult<Body>) -> HttpResult<ChunkedBody>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // HTTP/2 says there whom it wants, and so does HTTP/1.1 to a proxy; the header is what we
        // look at (RFC 9112, section 3.2.2).
        let authority = request.uri().authority().map(|one| HeaderValue::from_str(one.as_str()));
        if let Some(Ok(authority)) = authority {
            request.headers_mut().insert(HOST, authority);
        }
        let in_chunks: fn(HttpResult<Body>) -> HttpResult<ChunkedBody> =
            |answer| answer.map(ChunkedBody::of);
        self.service.call(request).map(in_chunks)
    }
}

type RouterFuture = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

type HttpResult<B> = Result<Response<B>, Infallible>;
