//! Clients that make a server hold memory for them: they ask and do not read, or begin to send and do
//! not go on. HTTP/1.1 in the clear, or HTTP/2 over TLS.

use std::{fs, io, net::SocketAddr, ops::Range, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use reqwest::{Body, Certificate, Client, ClientBuilder, Response};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// How many requests share a connection of HTTP/2.
const STREAMS: usize = 100;
/// What the system, or HTTP/2, may receive in advance: the rest is left to the server.
const WINDOW: u32 = 4 * 1024;
/// How long a body that drips pauses, and for how long it is watched.
const DRIP_PAUSE: Duration = Duration::from_millis(500);
const DRIPPING: Duration = Duration::from_secs(20);
/// How long a server may take that is very busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A certificate of our own making, and the files that hold it and its key.
pub(crate) struct Identity {
    certificate: Certificate,
    folder: TempDir,
}

impl Identity {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("certificate.pem"), made.cert.pem())?;
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self { certificate: Certificate::from_pem(made.cert.pem().as_bytes())?, folder })
    }

    /// The flags of a server that has it.
    pub(crate) fn flags(&self) -> [String; 2] {
        let file = |name| self.folder.path().join(name).display().to_string();
        [
            format!("--tls-cert={}", file("certificate.pem")),
            format!("--tls-key={}", file("key.pem")),
        ]
    }

    /// A client that believes it.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder().no_proxy().tls_certs_only([self.certificate.clone()])
    }
}

/// The addresses that clients have, as a proxy tells them: one for all, or one for each.
#[derive(Clone, Copy)]
pub(crate) enum Addresses {
    One,
    Many,
}

impl Addresses {
    fn get(self, n: usize) -> String {
        match self {
            Self::One => "192.0.2.1".to_owned(),
            Self::Many => format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
        }
    }
}

/// So many requests at the same time, and the connections for them.
pub(crate) enum Held {
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
    /// Connects, and asks for something, so that the connections are established and idle. With an
    /// identity the server speaks HTTP/2.
    pub(crate) async fn connect(
        address: SocketAddr,
        identity: Option<&Identity>,
        requests: usize,
    ) -> anyhow::Result<Self> {
        let Some(identity) = identity else {
            let mut connections = Vec::with_capacity(requests);
            for _ in 0..requests {
                connections.push(connect_http1(address).await?);
            }
            return Ok(Self::Http1 { connections, readers: JoinSet::new() });
        };
        let url = format!("https://{address}");
        let mut clients = Vec::new();
        for _ in 0..requests.div_ceil(STREAMS) {
            let client = identity.client().http2_initial_stream_window_size(WINDOW).build()?;
            client.get(format!("{url}/health/live")).send().await?;
            clients.push(client);
        }
        let (responses, tasks) = (Vec::new(), JoinSet::new());
        Ok(Self::Http2 { clients, url, requests, responses, tasks })
    }

    /// Sends bodies up to their last byte.
    pub(crate) async fn upload(&mut self, path: &str, length: usize, addresses: Addresses) {
        let body = Bytes::from(vec![b'x'; length - 1]);
        match self {
            Self::Http1 { connections, .. } => {
                let sent = connections.iter_mut().enumerate().map(|(n, connection)| {
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         content-length: {length}\r\n\r\n",
                        addresses.get(n)
                    );
                    let body = body.clone();
                    // A server that refuses may close the connection meanwhile.
                    timeout(PATIENCE, async move {
                        connection.write_all(head.as_bytes()).await?;
                        connection.write_all(&body).await
                    })
                });
                join_all(sent).await;
            }
            Self::Http2 { clients, url, requests, tasks, .. } => {
                for n in 0..*requests {
                    let begun = stream::iter([Ok::<_, io::Error>(body.clone())]);
                    let post = clients[n / STREAMS]
                        .post(format!("{url}{path}"))
                        .header("x-forwarded-for", addresses.get(n))
                        .header("content-length", length)
                        .body(Body::wrap_stream(begun.chain(stream::pending())));
                    tasks.spawn(async move {
                        let _answer = post.send().await;
                        std::future::pending::<()>().await;
                    });
                }
            }
        }
    }

    /// Sends bodies byte by byte, in the background, for as long as they are taken.
    pub(crate) async fn drip(&mut self, path: &str, length: usize, addresses: Addresses) {
        match self {
            Self::Http1 { connections, readers } => {
                for (n, mut connection) in connections.drain(..).enumerate() {
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         content-length: {length}\r\n\r\n",
                        addresses.get(n)
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
            Self::Http2 { clients, url, requests, tasks, .. } => {
                for n in 0..*requests {
                    let drops = stream::repeat(Bytes::from_static(b"x")).then(async |drop| {
                        tokio::time::sleep(DRIP_PAUSE).await;
                        Ok::<_, io::Error>(drop)
                    });
                    let post = clients[n / STREAMS]
                        .post(format!("{url}{path}"))
                        .header("x-forwarded-for", addresses.get(n))
                        .header("content-length", length)
                        .body(Body::wrap_stream(drops));
                    tasks.spawn(async move {
                        let _answer = post.send().await;
                    });
                }
            }
        }
        // Until they have begun to wait for each other.
        tokio::time::sleep(DRIPPING).await;
    }

    /// Asks, and reads no more than the beginning of the answer.
    pub(crate) async fn get(
        &mut self,
        which: Range<usize>,
        path: impl Fn(usize) -> String,
        accept: &str,
        addresses: Addresses,
    ) -> anyhow::Result<()> {
        match self {
            Self::Http1 { connections, .. } => {
                let asked = which.clone().zip(&mut connections[which]).map(|(n, connection)| {
                    let head = format!(
                        "GET {} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {}\r\n\
                         accept: {accept}\r\n\r\n",
                        path(n),
                        addresses.get(n)
                    );
                    async move {
                        connection.write_all(head.as_bytes()).await?;
                        let mut begun = [0; 64];
                        timeout(PATIENCE, connection.read_exact(&mut begun)).await??;
                        anyhow::Ok(())
                    }
                });
                join_all(asked).await.into_iter().collect()
            }
            Self::Http2 { clients, url, responses, .. } => {
                let asked = which.map(|n| {
                    let get = clients[n / STREAMS].get(format!("{url}{}", path(n)));
                    let get = get.header("x-forwarded-for", addresses.get(n));
                    get.header("accept", accept).send()
                });
                for response in join_all(asked).await {
                    responses.push(response?);
                }
                Ok(())
            }
        }
    }

    /// Reads on, in the background.
    pub(crate) fn read_on(&mut self) {
        match self {
            Self::Http1 { connections, readers } => {
                for mut connection in connections.drain(..) {
                    readers.spawn(async move {
                        let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
                    });
                }
            }
            Self::Http2 { responses, tasks, .. } => {
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
