//! What can be set, and how: the field docs are the manual (`tidings --help`).

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use axum::http::{HeaderValue, uri::Authority};
use clap::{CommandFactory as _, Parser, ValueEnum, builder::RangedU64ValueParser};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::log::Store;

/// A live message page: the server speaks, the browsers listen.
///
/// Every flag has an environment variable; the flag wins. Durations are written as people write
/// them: 50ms, 15s, 2m.
#[derive(Clone, Debug, Parser)]
#[command(version, args_override_self = true)]
pub struct Config {
    /// The address and port to listen on; port 0 takes any free one
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS")]
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

    /// How many streams there may be; who publishes to one more is refused
    #[arg(long, env = "TIDINGS_MAX_STREAMS", default_value = "1000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_streams: u64,

    /// How many bytes a message may have, at most 16MiB
    #[arg(long, env = "TIDINGS_MAX_MESSAGE_BYTES", default_value = "64KiB", value_name = "SIZE")]
    pub max_message_bytes: Size<LARGEST_MESSAGE>,

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

    /// What to log: error, warn, info, debug, trace, or a filter such as info,tidings=debug
    #[arg(long, env = "TIDINGS_LOG", default_value = "info", value_name = "FILTER")]
    pub log: LogFilter,

    /// How to log, on standard error
    #[arg(long, env = "TIDINGS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The most bytes a message may be allowed to have: it is held in memory several times over.
const LARGEST_MESSAGE: u64 = 16 * 1024 * 1024;

impl Config {
    /// Reads the command line and the environment; says what is wrong with them, and ends the
    /// process, if anything is.
    pub fn from_command_line() -> Self {
        let config = Self::parse();
        if let Err(wrong) = config.check() {
            Self::command().error(clap::error::ErrorKind::ValueValidation, wrong).exit();
        }
        config
    }

    /// What no value alone can tell.
    fn check(&self) -> Result<(), String> {
        let (message, kept) = (self.max_message_bytes.0, self.keep_bytes.0);
        if kept < message {
            return Err(format!(
                "--keep-bytes {} is less than --max-message-bytes {}: a message would not be kept",
                self.keep_bytes, self.max_message_bytes
            ));
        }
        Ok(())
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A duration of at least `MIN` milliseconds and at most an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const MIN: u64>(Duration);

impl<const MIN: u64> From<Span<MIN>> for Duration {
    fn from(span: Span<MIN>) -> Self {
        span.0
    }
}

impl<const MIN: u64> FromStr for Span<MIN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 50ms, 15s or 2m"))?;
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err("must be whole milliseconds".to_owned());
        }
        if duration < Duration::from_millis(MIN) || duration > Duration::from_hours(1) {
            return Err(format!("must be {MIN}ms to 1h"));
        }
        Ok(Self(duration))
    }
}

/// An age of at least a second and at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub(super) Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let age = humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 12h, 30d or 1y"))?;
        if age < Duration::from_secs(1) || age > Duration::from_hours(24 * 3660) {
            return Err("must be 1s to 10y".to_owned());
        }
        Ok(Self(age))
    }
}

/// A number of bytes, at least one and at most `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<const MOST: u64>(pub(super) u64);

impl<const MOST: u64> fmt::Display for Size<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MOST: u64> FromStr for Size<MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = |_| "must be a number of bytes, like 65536, 500KB or 16MiB".to_owned();
        match text.parse::<bytesize::ByteSize>().map_err(how)?.as_u64() {
            bytes if (1..=MOST).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(format!("must be 1 to {}", Self(MOST))),
        }
    }
}

impl FromStr for Store {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("must be a file, or :memory:"),
            ":memory:" => Ok(Self::Memory),
            file => Ok(Self::File(file.into())),
        }
    }
}

/// An origin that may listen, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`
    Any,
    /// Scheme, host and port, as browsers send them.
    One(HeaderValue),
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "must be * or an origin as browsers send it: http:// or https://, a host \
                           in lower case, and a port unless it is the usual one; no path";
        if text == "*" {
            return Ok(Self::Any);
        }
        let (host, usual_port) = match text.split_once("://") {
            Some(("https", host)) => (host, ":443"),
            Some(("http", host)) => (host, ":80"),
            _ => return Err(HOW),
        };
        let never_sent = host.ends_with(usual_port)
            || host.contains(|c: char| c == '@' || c.is_ascii_uppercase())
            || host.parse::<Authority>().is_err();
        if never_sent {
            return Err(HOW);
        }
        HeaderValue::from_str(text).map(Self::One).map_err(|_| HOW)
    }
}

/// A filter for the log that is known to parse.
#[derive(Clone, Debug)]
pub struct LogFilter(pub(super) String);

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A word alone would be taken for the name of a module, and a level with a slip of the
        // finger silence the log.
        for part in text.split(',').filter(|part| !part.contains(['=', '['])) {
            part.trim().parse::<LevelFilter>().map_err(|_| format!("{part:?} is not a level"))?;
        }
        EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}
