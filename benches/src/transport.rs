//! How watchers and publishers connect: with or without TLS, over HTTP/1.1 or HTTP/2.

use std::{
    fmt,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpSocket,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, client::Resumption,
        pki_types::ServerName,
    },
};

use crate::{identity::Identity, publisher};

/// How many HTTP/2 watchers share a connection, where they do: what Tidings and browsers allow.
pub(crate) const SHARING: usize = 100;

/// The protocols of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http1,
    Http1Tls,
    /// HTTP/2 over TLS, a connection for each watcher.
    Http2,
    /// The same, a connection for [`SHARING`] watchers.
    Http2Shared,
}

impl Transport {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2, Self::Http2Shared];

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Shared)
    }

    pub(crate) fn watchers_of_a_connection(self) -> usize {
        if self == Self::Http2Shared { SHARING } else { 1 }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1 => f.write_str("HTTP/1.1 without TLS"),
            Self::Http1Tls => f.write_str("HTTP/1.1, TLS"),
            Self::Http2 => f.write_str("HTTP/2, TLS"),
            Self::Http2Shared => write!(f, "HTTP/2, TLS, {SHARING} on a connection"),
        }
    }
}

/// A connection of hyper.
pub(crate) trait AsyncConnection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncConnection for T {}

/// A connection that waits.
pub(crate) trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

/// Opens connections to one server.
pub(crate) struct Connector {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(
        address: SocketAddr,
        transport: Transport,
        identity: &Identity,
    ) -> anyhow::Result<Self> {
        if transport == Transport::Http1 {
            return Ok(Self { address, transport, tls: None });
        }
        let mut roots = RootCertStore::empty();
        roots.add(identity.der())?;
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // Every client is a new one.
        config.resumption = Resumption::disabled();
        if transport.is_http2() {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Self { address, transport, tls: Some(Arc::new(config)) })
    }

    /// Connects. `window` is the receive buffer in bytes; by default the kernel decides.
    pub(crate) async fn connect(
        &self,
        window: Option<u32>,
    ) -> anyhow::Result<Box<dyn AsyncConnection>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes)?;
        }
        let connection = socket.connect(self.address).await.context("a watcher cannot connect")?;
        Ok(match &self.tls {
            None => Box::new(connection),
            Some(config) => {
                let connector = TlsConnector::from(config.clone());
                let connected = connector.connect(server_name(), connection).await;
                Box::new(connected.context("no TLS with the server")?)
            }
        })
    }

    /// Connects a publisher, which speaks HTTP/1.1.
    pub(crate) fn connect_publisher(&self) -> anyhow::Result<Box<dyn Connection>> {
        let connection = publisher::connect(self.address)?;
        let Some(config) = &self.tls else { return Ok(Box::new(connection)) };
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols.clear();
        let tls = ClientConnection::new(Arc::new(config), server_name())?;
        Ok(Box::new(StreamOwned::new(tls, connection)))
    }
}

fn server_name() -> ServerName<'static> {
    ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST))
}
