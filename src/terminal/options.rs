//! The command lines of `tidings publish` and `tidings watch`. The docs of the fields are the manual.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use tidings::message::{EventId, ParseEventIdError, ParseStreamNameError, StreamName};

/// What the exit status of `tidings publish` means.
const PUBLISH_STATUS: &str = "\
Exit status: 0 all of it is stored; 1 the server refused it, or something on this machine failed; 2 \
the command line is wrong; 3 given up, and it is not known whether all of it is stored; 4 all lines \
are stored, but some are not as they were read (cut, because they were too long, or with replacement \
characters, because they were not UTF-8). With --lines 129, 130 or 143: stopped by SIGHUP (on Linux), \
SIGINT or SIGTERM, and all that had been read is stored; a second signal gives up (3). With --run it \
is that of the command, 128 and the number of the signal if one ended it; what went wrong with \
publishing is printed.

Environment: TIDINGS_TOKEN is the token, if the server needs one. The command of --run does not get it.";

/// What the exit status of `tidings watch` means.
const WATCH_STATUS: &str = "\
Exit status: 0 the stream has ended; 1 the server refused, or something on this machine failed; 2 the \
command line is wrong; 3 given up (--retry-for); 129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM; \
141 the reader of the output has closed it. With --state or --exec a signal (SIGHUP on Linux) waits for \
the command, and the position is kept; a second one ends it at once.

Environment: TIDINGS_TOKEN is the token, if the server needs one. The command of --exec does not get it.";

/// Where the server is, and how long to try.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// The address of the server, with its base path if it has one. Default: that of the
    /// configuration file, or `http://localhost:3000`
    #[arg(long, env = "TIDINGS_URL", hide_env_values = true, value_name = "URL")]
    pub(super) url: Option<String>,

    /// The file that holds the token; it is read again for each request. Default: the environment
    /// variable `TIDINGS_TOKEN`, or what the configuration file has for its url
    #[arg(long, env = "TIDINGS_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// The configuration file, with url, and token or token-file, in TOML. Default:
    /// tidings/config.toml in `XDG_CONFIG_HOME` or ~/.config, if it exists
    #[arg(long, env = "TIDINGS_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// How long to try when the server cannot be reached or does not accept, for example 10m. Each request
    /// and each lost connection has this time. Default: for ever
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) retry_for: Option<Duration>,
}

/// Publish a message to a stream, or lines as they come
///
/// It tries until the server has stored them, through restarts and lost connections, and each is stored
/// once. Without TEXT the standard input is the message (without its last line end).
#[derive(Args, Clone, Debug)]
#[command(after_help = PUBLISH_STATUS)]
pub(crate) struct PublishOptions {
    /// The name of the stream; the first message creates it
    #[arg(value_name = "NAME", value_parser = stream_name)]
    pub(super) stream: StreamName,

    /// The message
    #[arg(conflicts_with_all = ["lines", "run"], allow_negative_numbers = true)]
    pub(super) text: Option<String>,

    /// Publish each line of the standard input as a message, as soon as it is there. LF, CRLF and CR end
    /// a line, and blank lines are left out. While the server does not accept, up to 4 MiB are kept in
    /// memory, then it stops reading until there is room
    #[arg(long)]
    pub(super) lines: bool,

    /// Run a command with the shell, show its output here, and publish the lines of its output and its
    /// errors, in order. When it ends, so does the stream, with its exit status as closing text. While
    /// the server does not accept, the command waits once 4 MiB (or --spool-limit) are not stored yet.
    /// A signal is passed on to the command
    #[arg(long, value_name = "COMMAND", conflicts_with = "lines")]
    pub(super) run: Option<String>,

    /// Keep lines that are not stored yet in this file and not in memory: they survive the end of this
    /// process, and are published first when it is started again. Each is stored once, if that is while
    /// the server remembers what was under way: for a day, or for as many requests as its --keep-keys
    /// says. A file is for one stream of one server; FILE.lock keeps a second process from it
    #[arg(long, value_name = "FILE")]
    pub(super) spool: Option<PathBuf>,

    /// The maximum size of that file, for example 1GiB. Only a longer line exceeds it, or what was read
    /// just before a signal
    #[arg(long, default_value = "256MiB", value_name = "SIZE", requires = "spool",
          value_parser = bytesize::ByteSize::from_str)]
    pub(super) spool_limit: bytesize::ByteSize,

    /// The server.
    #[command(flatten)]
    pub(super) server: ServerOptions,
}

/// Print the messages of a stream as they arrive, until the stream ends
///
/// After a lost connection it continues where it was, so that no message is missing or repeated. If the
/// server no longer has what comes next, standard error says so. On a terminal, control characters,
/// escape sequences other than colours, and characters that change the order of a text are left out of
/// the messages.
#[derive(Args, Clone, Debug)]
#[command(after_help = WATCH_STATUS)]
pub(crate) struct WatchOptions {
    /// The name of the stream
    #[arg(value_name = "NAME", value_parser = stream_name)]
    pub(super) stream: StreamName,

    /// Where to begin: earliest (all messages that the server has), latest (only new ones), or after the
    /// message with this id
    #[arg(long, default_value = "earliest", value_name = "ID")]
    pub(super) from: StartPosition,

    /// Print a JSON object a line, with id, at and data; that of the stream's end has "end": true too
    #[arg(long)]
    pub(super) json: bool,

    /// Print when each message was published, in UTC, before its text
    #[arg(long, conflicts_with = "json")]
    pub(super) times: bool,

    /// Keep the position in the stream in this file: when this is started again, it continues there, and
    /// ignores --from. The file is written after the messages, so that after a crash the last
    /// ones may be repeated, but none is missing. It is for one stream of one server, and one output;
    /// FILE.lock keeps a second process from it
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,

    /// Append to this file, and not to the standard output. With --state, which it needs, a crash neither
    /// repeats nor loses a message: what is in the file behind the kept position is removed and written
    /// again. (Messages are repeated only where the server no longer knows the last one, which
    /// standard error says.) Nothing else may write to it
    #[arg(long, value_name = "FILE", requires = "state")]
    pub(super) output: Option<PathBuf>,

    /// Run a command with the shell for each message, one after another, and print nothing. The message
    /// is its standard input; it also has `TIDINGS_ID`, `TIDINGS_AT` and (if it is not larger than 64
    /// KiB) `TIDINGS_MESSAGE`
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["json", "times", "output"])]
    pub(super) exec: Option<String>,

    /// What to do when that command fails. Standard error says so with both. With stop and
    /// --state, the same message comes first at the next start
    #[arg(long, value_name = "WHAT", default_value = "continue", requires = "exec")]
    pub(super) exec_fail: ExecFailure,

    /// The server.
    #[command(flatten)]
    pub(super) server: ServerOptions,
}

/// What to do when the command of `--exec` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExecFailure {
    /// Go on with the next message
    Continue,
    /// End, with exit status 1
    Stop,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPosition {
    Earliest,
    Latest,
    /// After the message with this id.
    After(EventId),
}

impl FromStr for StartPosition {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            id => id.parse().map(Self::After).map_err(|ParseEventIdError| {
                "must be earliest, latest, or the id of a message, like 1763891234567-42"
            }),
        }
    }
}

fn stream_name(text: &str) -> Result<StreamName, &'static str> {
    text.parse().map_err(|ParseStreamNameError| {
        "must be 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, and begin with a letter or digit"
    })
}
