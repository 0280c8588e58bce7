//! The options of the server: flags and environment variables. The docs of the option fields are the
//! manual, which `tidings --help` prints.

mod access;
mod copy;
mod database;
mod limits;
mod tls;
mod token;
mod values;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, builder::RangedU64ValueParser};

use self::values::{StoreParser, listen_address};
pub(crate) use self::{
    access::{AccessOptions, SecretOptions},
    database::DatabaseOptions,
    limits::LimitOptions,
    tls::TlsOptions,
    values::{Age, Rate, Size, Span},
};
pub use self::{copy::CopyOptions, token::TokenOptions};
use super::{
    guard::cors::Origin,
    log::Store,
    net::Addresses,
    observe::logging::{LogFilter, LogFormat},
};
use crate::base_path::BasePath;

/// The options of the server.
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
pub struct Config {
    /// The IP address, or localhost, and the port to listen on; port 0 picks a free port
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS",
          value_parser = listen_address)]
    pub listen: SocketAddr,

    /// The path below which the server is reached, for example /tidings, behind a proxy that passes
    /// it on: every address begins with it, and other paths get 404. Default: the root of the host
    #[arg(long, env = "TIDINGS_BASE_PATH", value_name = "PATH")]
    pub base_path: Option<BasePath>,

    /// The folder with the built site (style sheet, script, wasm). Default: the folder `site`
    /// beside the executable, or beside the folder of the executable
    #[arg(long, env = "TIDINGS_SITE_ROOT", value_name = "FOLDER")]
    pub site_root: Option<PathBuf>,

    /// The database file that stores the messages, created if it is missing; :memory: keeps them in
    /// memory only, until the server stops; `postgres://user@host/database` stores them in a `PostgreSQL`
    /// database, which several servers can share. Name all hosts of a cluster:
    /// `postgres://user@db1,db2/database`
    #[arg(
        long,
        env = "TIDINGS_DATA",
        hide_env_values = true,
        default_value = "tidings.db",
        value_name = "FILE or URL",
        value_parser = StoreParser
    )]
    pub data: Store,

    /// The maximum number of messages to keep per stream; the oldest are deleted first
    #[arg(long, env = "TIDINGS_KEEP_MESSAGES", default_value = "100000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_messages: u64,

    /// How long to keep a message, 1s to 10y; a stream without a new message for that long is
    /// deleted
    #[arg(long, env = "TIDINGS_KEEP_AGE", default_value = "30d", value_name = "DURATION")]
    pub keep_age: Age,

    /// The maximum number of bytes of messages to keep per stream, for example 500KB or 16MiB; at least
    /// --max-message-bytes
    #[arg(long, env = "TIDINGS_KEEP_BYTES", default_value = "16MiB", value_name = "SIZE")]
    pub keep_bytes: Size<{ u64::MAX }>,

    /// The maximum number of idempotency keys to keep per stream; the oldest are deleted first, and
    /// each after 24 hours. A retry is recognised as long as its Idempotency-Key is kept
    #[arg(long, env = "TIDINGS_KEEP_KEYS", default_value = "10000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_keys: u64,

    /// The maximum number of idempotency keys to keep of all streams together
    #[arg(long, env = "TIDINGS_KEEP_KEYS_TOTAL", default_value = "1000000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_keys_total: u64,

    /// How many values a run of the counter has, 1 to 1000000. The counter is the demonstration
    /// stream on the start page
    #[arg(long, env = "TIDINGS_COUNTER_COUNT", default_value = "20", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    pub counter_count: u64,

    /// The pause between two values of the counter, 0ms to 1h; 0ms sends them without a pause
    #[arg(long, env = "TIDINGS_COUNTER_DELAY", default_value = "1s", value_name = "DURATION")]
    pub counter_delay: Span<0>,

    /// The `retry` field of the event streams, 1ms to 1h: how long an `EventSource` waits before it
    /// reconnects. The pages of Tidings use their own back-off, 30 s at most
    #[arg(long, env = "TIDINGS_RETRY", default_value = "15s", value_name = "DURATION")]
    pub retry: Span<1>,

    /// An origin (scheme and host, for example `https://example.org`) whose pages may read the
    /// streams (CORS), or * for any. Repeat the flag for several; separate them by commas in the
    /// environment variable. Default: only the pages of this server
    #[arg(long, env = "TIDINGS_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub allow_origin: Vec<Origin>,

    /// An origin (scheme and host, for example `https://dashboard.example`) whose pages may show pages
    /// of this server in a frame, or * for any; the page of a stream with ?embed is made for that.
    /// Repeat the flag for several; separate them by commas in the environment variable. Default: no
    /// page of another origin, nor of this one
    #[arg(long, env = "TIDINGS_FRAME_ANCESTORS", value_delimiter = ',', value_name = "ORIGIN")]
    pub frame_ancestors: Vec<Origin>,

    /// The IP address and port that serve metrics for Prometheus at /metrics. They have no access
    /// control: use an address that only your own systems can reach. Default: no metrics
    #[arg(long, env = "TIDINGS_METRICS_LISTEN", value_name = "ADDRESS",
          value_parser = listen_address)]
    pub metrics_listen: Option<SocketAddr>,

    /// The log level (error, warn, info, debug, trace), or a filter such as info,tidings=debug
    #[arg(long, env = "TIDINGS_LOG", default_value = "info", value_name = "FILTER")]
    pub log: LogFilter,

    /// The format of the log, which goes to standard error
    #[arg(
        long,
        env = "TIDINGS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        ignore_case = true
    )]
    pub log_format: LogFormat,

    /// The `PostgreSQL` database.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Access control.
    #[command(flatten)]
    pub access: AccessOptions,

    /// Limits.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Encrypted connections.
    #[command(flatten)]
    pub tls: TlsOptions,
}

impl Config {
    /// The addresses to listen on, and the TLS files.
    pub fn addresses(&self) -> Addresses {
        let TlsOptions { tls_cert, tls_key, redirect_listen, .. } = &self.tls;
        Addresses {
            main: self.listen,
            tls: tls_cert.clone().zip(tls_key.clone()),
            redirect: *redirect_listen,
            metrics: self.metrics_listen,
        }
    }

    /// The path below which the server is reached.
    pub fn base_path(&self) -> BasePath {
        self.base_path.clone().unwrap_or_default()
    }

    /// The store of the messages.
    pub(super) fn store(&self) -> Store {
        self.database.apply_to(&self.data)
    }

    /// Checks options that depend on each other. `is_visible`: whether other users of the machine can
    /// read the store's URL, because it is on the command line.
    ///
    /// # Errors
    /// When they contradict each other, with the reason.
    pub fn check(&self, is_visible: bool) -> Result<(), String> {
        self.database.check(&self.data)?;
        if is_visible {
            DatabaseOptions::check_visible(&self.data, "--data")?;
        }
        let proxied = !self.limits.trusted_proxy.is_empty();
        self.access.check(self.listen, proxied)?;
        self.access.check_cookies(&self.frame_ancestors, proxied || self.tls.tls_cert.is_some())?;
        let (message, kept) = (self.limits.max_message_bytes.0, self.keep_bytes.0);
        if kept < message {
            return Err(format!(
                "--keep-bytes {} is less than --max-message-bytes {}: large messages would be lost",
                self.keep_bytes, self.limits.max_message_bytes
            ));
        }
        self.limits.check()
    }
}
