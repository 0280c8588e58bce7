//! TLS.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::Age;

/// Connections that nobody reads on their way.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// The file with the certificate and those that lead to it, as PEM; read again when it changes
    #[arg(long, env = "TIDINGS_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The file with the certificate's private key, as PEM; read again when it changes
    #[arg(long, env = "TIDINGS_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// An address and port for plain HTTP that sends everyone on to TLS
    #[arg(long, env = "TIDINGS_REDIRECT_LISTEN", value_name = "ADDRESS", requires = "tls_cert",
          value_parser = super::values::listen_address)]
    pub redirect_listen: Option<SocketAddr>,

    /// For how long browsers are told to come with TLS only, 1s to 10y (strict-transport-security);
    /// by default they are not
    #[arg(long, env = "TIDINGS_HSTS", value_name = "DURATION", requires = "tls_cert")]
    pub hsts: Option<Age>,
}
