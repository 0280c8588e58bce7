//! Clients that stop in the middle: they ask and do not read, or begin to send and do not go on.

use std::{io, ops::Range, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use reqwest::{Body, Client, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::support::tls::Identity;

/// How many requests share a connection of HTTP/2.
const STREAMS: usize = 100;
/// What the system, or HTTP/2, may receive in advance: the rest is left to the server.
const WINDOW: u32 = 4 * 1024;

/// HTTP/1.1 in the clear, or HTTP/2 over TLS.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// So many requests at the same time, and the connections for them.
pub(super) enum Stalled {
    Http1(Vec<TcpStream>),
    Http2 { clients: Vec<Client>, url: String, requests: usize, held: Held },
}

/// What goes on over HTTP/2.
#[derive(Default)]
pub(super) struct Held {
    responses: Vec<Response>,
    uploads: JoinSet<()>,
}

impl Stalled {
    /// Connects, and asks for something, so that the connections are established and idle.
    pub(super) async fn connect(
        address: &str,
        identity: &Identity,
        protocol: Protocol,
        requests: usize,
    ) -> Self {
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
        match protocol {
            Protocol::Http1 => {
                Self::Http1(join_all((0..requests).map(|_| connect_http1(address))).await)
            }
            Protocol::Http2 => {
                let url = format!("https://{address}");
                let clients: Vec<_> = (0..requests.div_ceil(STREAMS))
                    .map(|_| identity.client().http2_initial_stream_window_size(WINDOW))
                    .map(|client| client.build().expect("a client"))
                    .collect();
                for client in &clients {
                    client.get(format!("{url}/health/live")).send().await.expect("an answer");
                }
                Self::Http2 { clients, url, requests, held: Held::default() }
            }
        }
    }

    /// Sends bodies, each from an address of its own, and all but their last byte, which is one more.
    pub(super) async fn upload(
        &mut self,
        path: &str,
        body: String,
        address: impl Fn(usize) -> String,
    ) {
        let (length, body) = (body.len() + 1, Bytes::from(body));
        match self {
            Self::Http1(connections) => {
                let sent = connections.iter_mut().enumerate().map(|(n, connection)| {
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {}\r\n\
                         content-length: {length}\r\n\r\n",
                        address(n)
                    );
                    let body = body.clone();
                    // A server that refuses may close the connection meanwhile.
                    timeout(Duration::from_secs(30), async move {
                        connection.write_all(head.as_bytes()).await?;
                        connection.write_all(&body).await
                    })
                });
                join_all(sent).await;
            }
            Self::Http2 { clients, url, requests, held } => {
                for n in 0..*requests {
                    let begun = stream::iter([Ok::<_, io::Error>(body.clone())]);
                    let post = clients[n / STREAMS].post(format!("{url}{path}"));
                    let post = post.header("x-forwarded-for", address(n));
                    let post = post.header("content-length", length);
                    let post = post.body(Body::wrap_stream(begun.chain(stream::pending())));
                    held.uploads.spawn(async move {
                        let answer = post.send().await;
                        std::future::pending::<()>().await;
                        drop(answer);
                    });
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }

    /// Asks, each from an address of its own, and reads no more than the beginning of the answer.
    pub(super) async fn get(
        &mut self,
        which: Range<usize>,
        path: &str,
        accept: &str,
        address: impl Fn(usize) -> String,
    ) {
        match self {
            Self::Http1(connections) => {
                let asked = which.clone().zip(&mut connections[which]).map(|(n, connection)| {
                    let head = format!(
                        "GET {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {}\r\n\
                         accept: {accept}\r\n\r\n",
                        address(n)
                    );
                    async move {
                        connection.write_all(head.as_bytes()).await.expect("a connection");
                        let mut begun = [0; 64];
                        let begun = connection.read_exact(&mut begun);
                        let begun = timeout(Duration::from_mins(1), begun).await;
                        begun.expect("an answer in time").expect("an answer");
                    }
                });
                join_all(asked).await;
            }
            Self::Http2 { clients, url, held, .. } => {
                let asked = which.map(|n| {
                    let get = clients[n / STREAMS].get(format!("{url}{path}"));
                    let get = get.header("x-forwarded-for", address(n)).header("accept", accept);
                    async { get.send().await.expect("an answer") }
                });
                held.responses.extend(join_all(asked).await);
            }
        }
    }
}

async fn connect_http1(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(WINDOW).expect("a socket");
    let mut connection =
        socket.connect(address.parse().expect("an address")).await.expect("a connection");
    connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("a server");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(connection.read_buf(&mut answer).await.expect("an answer") > 0);
    }
    connection
}
