//! Where the server is reached.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{config::Config, tls::Tls};

/// The ports that the server listens on.
pub struct Listeners {
    pub(super) main: TcpListener,
    /// How connections to `main` are encrypted, if they are.
    pub(super) tls: Option<Tls>,
    /// Plain HTTP, for those who are to be sent on to `main`, and the port of that.
    pub(super) redirect: Option<(TcpListener, u16)>,
    /// For whoever collects the metrics.
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Begins to listen as configured; connections wait until they are served.
    ///
    /// # Errors
    /// When the certificate or its key can not be used, or an address not be listened on; says
    /// which, and by what flag it was given.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let tls = match (&config.tls.tls_cert, &config.tls.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::load(certificate, key)?),
            _ => None,
        };
        let main = bind(config.listen, "--listen").await?;
        let redirect = match config.tls.redirect_listen {
            Some(address) => {
                Some((bind(address, "--redirect-listen").await?, main.local_addr()?.port()))
            }
            None => None,
        };
        let metrics = match config.metrics_listen {
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
