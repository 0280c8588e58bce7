//! The listening sockets: TCP listeners for HTTP, TLS, the redirect and the metrics.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::tls::Tls;

/// The addresses to listen on, and the certificate for TLS.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For everything but the redirect and the metrics.
    pub main: SocketAddr,
    /// The files with the certificate and its key, as PEM; `None` for plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// For plain HTTP that is redirected to TLS.
    pub redirect: Option<SocketAddr>,
    /// For the metrics.
    pub metrics: Option<SocketAddr>,
}

/// The bound listeners.
pub struct Listeners {
    pub(crate) main: TcpListener,
    /// TLS for the connections to `main`; `None` for plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// Plain HTTP that is redirected to `main`, and the port of `main`.
    pub(crate) redirect: Option<(TcpListener, u16)>,
    /// For the metrics.
    pub(crate) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Loads the certificate and binds the listeners; connections wait until they are served.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used, or an address cannot be listened on; the error
    /// names it and its flag.
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

    /// The base URL of the server, without a trailing slash.
    ///
    /// # Errors
    /// When the system does not return the local address.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.main.local_addr()?))
    }

    /// The base URL of the redirect to TLS, if there is one.
    ///
    /// # Errors
    /// When the system does not return the local address.
    pub fn redirect_url(&self) -> io::Result<Option<String>> {
        let Some((listener, _)) = &self.redirect else { return Ok(None) };
        Ok(Some(format!("http://{}", listener.local_addr()?)))
    }

    /// The URL of the metrics, if they are served.
    ///
    /// # Errors
    /// When the system does not return the local address.
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
