//! Where the server is reached.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::tls::Tls;

/// Where to listen, and the certificate to listen with.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For all of the server.
    pub main: SocketAddr,
    /// The files with the certificate and its key, as PEM; none for plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// For plain HTTP that is redirected to TLS.
    pub redirect: Option<SocketAddr>,
    /// For the metrics.
    pub metrics: Option<SocketAddr>,
}

/// The ports that the server listens on.
pub struct Listeners {
    pub(crate) main: TcpListener,
    /// How connections to `main` are encrypted, if they are.
    pub(crate) tls: Option<Tls>,
    /// Plain HTTP, for those who are to be sent on to `main`, and the port of that.
    pub(crate) redirect: Option<(TcpListener, u16)>,
    /// For whoever collects the metrics.
    pub(crate) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Begins to listen; connections wait until they are served.
    ///
    /// # Errors
    /// When the certificate or its key can not be used, or an address not be listened on; says
    /// which, and by what flag it was given.
    pub async fn bind(addresses: &Addresses) -> anyhow::Result<Self> {
        let tls = match &addresses.tls {
            Some((certificate, key)) => Some(Tls::load(certificate, key)?),
            None => None,
        };
        let main = bind(addresses.main, "--listen").await?;
        let redirect = match addresses.redirect {
            Some(address) => {
                Some((bind(address, "--redirect-listen").await?, main.local_addr()?.port()))
            }
            None => None,
        };
        let metrics = match addresses.metrics {
            Some(address) => Some(bind(address, "--metrics-listen").await?),
            None => None,
        };
        Ok(Self { main, tls, redirect, metrics })
    }

    /// The beginning of every address.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.main.local_addr()?))
    }

    /// Where plain HTTP is sent on to TLS, if it is.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn redirect_url(&self) -> io::Result<Option<String>> {
        let Some((listener, _)) = &self.redirect else { return Ok(None) };
        Ok(Some(format!("http://{}", listener.local_addr()?)))
    }

    /// Where the metrics are, if anywhere.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn metrics_url(&self) -> io::Result<Option<String>> {
        let Some(listener) = &self.metrics else { return Ok(None) };
        Ok(Some(format!("http://{}/metrics", listener.local_addr()?)))
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}
