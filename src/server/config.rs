//! What can be set, and how: the field docs are the manual (`tidings --help`).

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use axum::http::{HeaderValue, uri::Authority};
use clap::{Parser, ValueEnum, builder::RangedU64ValueParser};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// A live message page: the server speaks, the browsers listen.
///
/// Every flag has an environment variable; the flag wins. Durations are written as people write
/// them: 50ms, 15s, 2m.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// The address and port to listen on; port 0 takes any free one
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The folder with the built site; by default the folder `site` beside the executable, or
    /// beside the folder that holds it
    #[arg(long, env = "TIDINGS_SITE_ROOT", value_name = "FOLDER")]
    pub site_root: Option<PathBuf>,

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
