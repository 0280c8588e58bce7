//! What can be set, and how: the field docs are the manual (`tidings --help`).

mod access;
mod limits;
mod tls;
mod token;
mod values;

use std::{
    io::{Write as _, stderr},
    net::SocketAddr,
    path::PathBuf,
};

use clap::{
    Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    builder::{RangedU64ValueParser, Resettable},
};

use self::values::listen_address;
pub(crate) use self::{
    access::{AccessOptions, SecretOptions},
    limits::LimitOptions,
    tls::TlsOptions,
    token::TokenOptions,
    values::{Age, Rate, Size, Span},
};
use super::{
    guard::cors::Origin,
    log::Store,
    net::Addresses,
    observe::logging::{LogFilter, LogFormat},
};

/// How to serve.
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
pub struct Config {
    /// The address, or localhost, and the port to listen on; port 0 takes any free one
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS",
          value_parser = listen_address)]
    pub listen: SocketAddr,

    /// The folder with the built site; by default the folder `site` beside the executable, or
    /// beside the folder that holds it
    #[arg(long, env = "TIDINGS_SITE_ROOT", value_name = "FOLDER")]
    pub site_root: Option<PathBuf>,

    /// The file that keeps the messages, made anew if there is none; :memory: keeps them in memory,
    /// as long as the server runs
    #[arg(long, env = "TIDINGS_DATA", default_value = "tidings.db", value_name = "FILE")]
    pub data: Store,

    /// How many messages of a stream are kept; older ones go
    #[arg(long, env = "TIDINGS_KEEP_MESSAGES", default_value = "100000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_messages: u64,

    /// How long a message is kept, 1s to 10y; a stream that was silent for so long is forgotten
    #[arg(long, env = "TIDINGS_KEEP_AGE", default_value = "30d", value_name = "DURATION")]
    pub keep_age: Age,

    /// How many bytes of messages are kept of a stream, like 500KB or 16MiB; no less than one
    /// message may have
    #[arg(long, env = "TIDINGS_KEEP_BYTES", default_value = "16MiB", value_name = "SIZE")]
    pub keep_bytes: Size<{ u64::MAX }>,

    /// How many idempotency keys of a stream are remembered, for a day at the most; older ones go
    #[arg(long, env = "TIDINGS_KEEP_KEYS", default_value = "10000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_keys: u64,

    /// How many idempotency keys are remembered of all streams together
    #[arg(long, env = "TIDINGS_KEEP_KEYS_TOTAL", default_value = "1000000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep_keys_total: u64,

    /// How many values a run of the counter has, 1 to 1000000
    #[arg(long, env = "TIDINGS_COUNTER_COUNT", default_value = "20", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    pub counter_count: u64,

    /// The pause between two values of the counter, at most 1h; 0ms is as fast as can be
    #[arg(long, env = "TIDINGS_COUNTER_DELAY", default_value = "1s", value_name = "DURATION")]
    pub counter_delay: Span<0>,

    /// The `retry` of the stream, 1ms to 1h: how long an `EventSource` waits before it takes up a
    /// broken stream. Our own page decides by itself, within 30 s
    #[arg(long, env = "TIDINGS_RETRY", default_value = "15s", value_name = "DURATION")]
    pub retry: Span<1>,

    /// An origin whose pages may listen, scheme and host, or * for any; may be given several
    /// times, in the environment separated by commas. By default only our own pages may
    #[arg(long, env = "TIDINGS_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub allow_origin: Vec<Origin>,

    /// The address and port that answer Prometheus at /metrics; by default nobody is told. It has no
    /// protection of its own: keep it where only your own can reach it
    #[arg(long, env = "TIDINGS_METRICS_LISTEN", value_name = "ADDRESS",
          value_parser = listen_address)]
    pub metrics_listen: Option<SocketAddr>,

    /// What to log: error, warn, info, debug, trace, or a filter such as info,tidings=debug
    #[arg(long, env = "TIDINGS_LOG", default_value = "info", value_name = "FILTER")]
    pub log: LogFilter,

    /// How to log, on standard error
    #[arg(
        long,
        env = "TIDINGS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        ignore_case = true
    )]
    pub log_format: LogFormat,

    /// Who may do what.
    #[command(flatten)]
    pub access: AccessOptions,

    /// What is refused beyond.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Connections that nobody reads on their way.
    #[command(flatten)]
    pub tls: TlsOptions,
}

/// A live message page: the server speaks, the browsers listen.
///
/// Every flag has an environment variable; the flag wins. Durations are written as people write
/// them: 50ms, 15s, 2m.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    task: Option<Other>,
    #[command(flatten)]
    config: Config,
}

#[derive(Debug, Subcommand)]
enum Other {
    Token(TokenOptions),
}

/// What the program is asked to do.
#[derive(Debug)]
pub enum Task {
    /// To serve.
    Serve(Box<Config>),
    /// To make a token.
    Token(TokenOptions),
}

impl Task {
    /// Reads the command line and the environment; says what is wrong with them, and ends the
    /// process, if anything is.
    pub fn from_command_line() -> Self {
        let matches = CommandLine::command()
            .mut_args(ignore_empty_variable)
            .mut_subcommands(|command| command.mut_args(ignore_empty_variable))
            .get_matches();
        let CommandLine { task, config } =
            CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let Some(Other::Token(token)) = task {
            return Self::Token(token);
        }
        if let Err(wrong) = config.check() {
            // Standard error may be gone; the exit status tells the rest.
            let _ = writeln!(stderr(), "tidings: {wrong}");
            // As for any other mistake in the command line.
            std::process::exit(2);
        }
        Self::Serve(Box::new(config))
    }
}

/// An empty environment variable, as compose files give it, counts as unset. One for a secret does
/// not: a server must not be open because its secret has got lost.
fn ignore_empty_variable(arg: Arg) -> Arg {
    let variable = arg.get_env().and_then(std::env::var_os);
    let is_secret = arg.get_id().as_str().contains("secret");
    let ignored = variable.is_some_and(|value| value.is_empty()) && !is_secret;
    if ignored { arg.env(Resettable::Reset) } else { arg }
}

impl Config {
    /// Where to listen.
    pub fn addresses(&self) -> Addresses {
        let TlsOptions { tls_cert, tls_key, redirect_listen, .. } = &self.tls;
        Addresses {
            main: self.listen,
            tls: tls_cert.clone().zip(tls_key.clone()),
            redirect: *redirect_listen,
            metrics: self.metrics_listen,
        }
    }

    /// What no value alone can tell.
    fn check(&self) -> Result<(), String> {
        self.access.check(self.listen, !self.limits.trusted_proxy.is_empty())?;
        let (message, kept) = (self.limits.max_message_bytes.0, self.keep_bytes.0);
        if kept < message {
            return Err(format!(
                "--keep-bytes {} is less than --max-message-bytes {}: a message would not be kept",
                self.keep_bytes, self.limits.max_message_bytes
            ));
        }
        self.limits.check()
    }
}
