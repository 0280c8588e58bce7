//! TLS options: certificate, redirect from plain HTTP, HSTS.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::Age;

/// Encrypted connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// The file with the certificate and its intermediate certificates, as PEM; it is reloaded when it
    /// changes. Turns TLS on
    #[arg(long, env = "TIDINGS_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The file with the private key of the certificate, as PEM; it is reloaded when it changes
    #[arg(long, env = "TIDINGS_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// An IP address and port for plain HTTP, where each request is redirected to https
    #[arg(long, env = "TIDINGS_REDIRECT_LISTEN", value_name = "ADDRESS", requires = "tls_cert",
          value_parser = super::values::listen_address)]
    pub redirect_listen: Option<SocketAddr>,

    /// For how long browsers must use only https for this host, 1s to 10y (the
    /// strict-transport-security header). Default: the header is not sent
    #[arg(long, env = "TIDINGS_HSTS", value_name = "DURATION", requires = "tls_cert")]
    pub hsts: Option<Age>,
}
