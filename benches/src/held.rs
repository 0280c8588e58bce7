//! Stalled clients, which make a server hold memory: they do not read an answer, or do not finish a
//! body. Plain HTTP/1.1, or HTTP/2 over TLS.

use std::{io, net::SocketAddr, ops::Range, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use reqwest::{Body, Client, ClientBuilder, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// How many requests share an HTTP/2 connection.
const STREAMS: usize = 100;
/// The receive buffer of a connection or HTTP/2 stream, in bytes: the server has to hold the rest.
const WINDOW: u32 = 4 * 1024;
/// The pause of a body that is sent byte by byte, and how long it is watched.
const DRIP_PAUSE: Duration = Duration::from_millis(500);
const DRIPPING: Duration = Duration::from_secs(20);
/// The approximate time to send many bodies at the same time.
const SENDING: Duration = Duration::from_secs(2);
/// The timeout for a very busy server.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The address of a single client, as a proxy forwards it, for every request.
pub fn shared_address(_: usize) -> String {
    "192.0.2.1".to_owned()
}

/// A different address for each of many clients.
pub fn own_address(n: usize) -> String {
    format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255)
}

/// Concurrent requests, and their connections.
pub struct Held(Protocol);

enum Protocol {
    Http1 {
        connections: Vec<TcpStream>,
        readers: JoinSet<()>,
    },
    Http2 {
        clients: Vec<Client>,
        url: String,
        requests: usize,
        responses: Vec<Response>,
        tasks: JoinSet<()>,
    },
}

impl Held {
    /// Connects, and sends a request on each connection, so that they are established and idle:
    /// over HTTP/2 if there are clients for TLS.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(
        address: SocketAddr,
        tls: Option<impl Fn() -> ClientBuilder>,
        requests: usize,
    ) -> anyhow::Result<Self> {
        let Some(client) = tls else {
            let mut connections = Vec::with_capacity(requests);
            for _ in 0..requests {
                connections.push(connect_http1(address).await?);
            }
            return Ok(Self(Protocol::Http1 { connections, readers: JoinSet::new() }));
        };
        let url = format!("https://{address}");
        let mut clients = Vec::new();
        for _ in 0..requests.div_ceil(STREAMS) {
            let client = client().http2_initial_stream_window_size(WINDOW).build()?;
            client.get(format!("{url}/health/live")).send().await?;
            clients.push(client);
        }
        let (responses, tasks) = (Vec::new(), JoinSet::new());
        Ok(Self(Protocol::Http2 { clients, url, requests, responses, tasks }))
    }

    /// Sends `body` in each request, which is one byte short of its `content-length`.
    pub async fn upload(&mut self, path: &str, body: Bytes, address: impl Fn(usize) -> String) {
        let length = body.len() + 1;
        match &mut self.0 {
            Protocol::Http1 { connections, .. } => {
                let sent = connections.iter_mut().enumerate().map(|(n, connection)| {
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         content-length: {length}\r\n\r\n",
                        address(n)
                    );
                    let body = body.clone();
                    // A server that refuses the body may close the connection.
                    timeout(TIMEOUT, async move {
                        connection.write_all(head.as_bytes()).await?;
                        connection.write_all(&body).await
                    })
                });
                join_all(sent).await;
            }
            Protocol::Http2 { clients, url, requests, tasks, .. } => {
                for n in 0..*requests {
                    let begun = stream::iter([Ok::<_, io::Error>(body.clone())]);
                    let post = clients[n / STREAMS]
                        .post(format!("{url}{path}"))
                        .header("x-forwarded-for", address(n))
                        .header("content-length", length)
                        .body(Body::wrap_stream(begun.chain(stream::pending())));
                    tasks.spawn(async move {
                        let _answer = post.send().await;
                        std::future::pending::<()>().await;
                    });
                }
                // Until the bodies have been sent.
                tokio::time::sleep(SENDING).await;
            }
        }
    }

    /// Sends bodies byte by byte, in the background, for as long as the server accepts them.
    pub async fn drip(&mut self, path: &str, length: usize, address: impl Fn(usize) -> String) {
        match &mut self.0 {
            Protocol::Http1 { connections, readers } => {
                for (n, mut connection) in connections.drain(..).enumerate() {
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         content-length: {length}\r\n\r\n",
                        address(n)
                    );
                    readers.spawn(async move {
                        let mut rest = head.as_bytes();
                        while connection.write_all(rest).await.is_ok() {
                            tokio::time::sleep(DRIP_PAUSE).await;
                            rest = b"x";
                        }
                    });
                }
            }
            Protocol::Http2 { clients, url, requests, tasks, .. } => {
                for n in 0..*requests {
                    let drops = stream::repeat(Bytes::from_static(b"x")).then(async |drop| {
                        tokio::time::sleep(DRIP_PAUSE).await;
                        Ok::<_, io::Error>(drop)
                    });
                    let post = clients[n / STREAMS]
                        .post(format!("{url}{path}"))
                        .header("x-forwarded-for", address(n))
                        .header("content-length", length)
                        .body(Body::wrap_stream(drops));
                    tasks.spawn(async move {
                        let _answer = post.send().await;
                    });
                }
            }
        }
        // Until the requests compete for memory.
        tokio::time::sleep(DRIPPING).await;
    }

    /// Sends requests, and reads only the beginning of each answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(
        &mut self,
        which: Range<usize>,
        path: impl Fn(usize) -> String,
        accept: &str,
        address: impl Fn(usize) -> String,
    ) -> anyhow::Result<()> {
        match &mut self.0 {
            Protocol::Http1 { connections, .. } => {
                let asked = which.clone().zip(&mut connections[which]).map(|(n, connection)| {
                    let head = format!(
                        "GET {} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         accept: {accept}\r\n\r\n",
                        path(n),
                        address(n)
                    );
                    async move {
                        connection.write_all(head.as_bytes()).await?;
                        let mut begun = [0; 64];
                        timeout(TIMEOUT, connection.read_exact(&mut begun)).await??;
                        anyhow::Ok(())
                    }
                });
                join_all(asked).await.into_iter().collect()
            }
            Protocol::Http2 { clients, url, responses, .. } => {
                let asked = which.map(|n| {
                    let get = clients[n / STREAMS].get(format!("{url}{}", path(n)));
                    let get = get.header("x-forwarded-for", address(n));
                    get.header("accept", accept).send()
                });
                for response in join_all(asked).await {
                    responses.push(response?);
                }
                Ok(())
            }
        }
    }

    /// Reads the rest of the answers, in the background.
    pub fn read_on(&mut self) {
        match &mut self.0 {
            Protocol::Http1 { connections, readers } => {
                for mut connection in connections.drain(..) {
                    readers.spawn(async move {
                        let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
                    });
                }
            }
            Protocol::Http2 { responses, tasks, .. } => {
                for mut response in responses.drain(..) {
                    tasks.spawn(async move { while let Ok(Some(_)) = response.chunk().await {} });
                }
            }
        }
    }
}

async fn connect_http1(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(WINDOW)?;
    let mut connection = socket.connect(address).await.context("no connection")?;
    connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        anyhow::ensure!(connection.read_buf(&mut answer).await? > 0, "no answer");
    }
    Ok(connection)
}
