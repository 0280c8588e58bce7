//! Where the server is reached.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::config::Config;

/// The ports that the server listens on.
pub struct Listeners {
    pub(super) main: TcpListener,
    /// For whoever collects the metrics.
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Begins to listen as configured; connections wait until they are served.
    ///
    /// # Errors
    /// When an address can not be listened on; says which, and by what flag it was given.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let main = bind(config.listen, "--listen").await?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(bind(address, "--metrics-listen").await?),
            None => None,
        };
        Ok(Self { main, metrics })
    }

    /// The beginning of every address.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.main.local_addr()?))
    }

    /// Where the metrics are, if anywhere.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn metrics_url(&self) -> io::Result<Option<String>> {
        let address = self.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(address.map(|address| format!("http://{address}/metrics")))
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}
