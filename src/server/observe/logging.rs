//! Logging to standard error: the filter, the format, the panic hook, and a writer that never blocks.

mod writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal as _, stderr},
    panic,
    str::FromStr,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;
use tracing_subscriber::{
    filter::{EnvFilter, LevelFilter},
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
};

use self::writer::LogWriter;
use crate::server::supervisor::panic_message;

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// A valid log filter, in the syntax of [`EnvFilter`].
#[derive(Clone, Debug)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `EnvFilter` takes a single word that is no level for the name of a module: a misspelt level
        // would silence the log.
        for part in text.split(',').filter(|part| !part.contains(['=', '['])) {
            part.trim().parse::<LevelFilter>().map_err(|_| format!("{part:?} is not a level"))?;
        }
        EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

/// How long the process waits at its end for queued lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log writer of the process, once logging is set up.
static WRITER: OnceLock<Arc<LogWriter>> = OnceLock::new();

/// The log of the process, on standard error; standard output carries the URL of the server.
///
/// Logging never blocks, panics or fails, whatever standard error does. That is why nothing in this
/// crate may use the printing macros.
pub struct Telemetry {
    writer: Arc<LogWriter>,
    format: LogFormat,
}

impl Telemetry {
    /// Installs the subscriber and the panic hook.
    ///
    /// # Errors
    /// When the writer thread cannot be started.
    pub fn init(filter: &LogFilter, format: LogFormat) -> anyhow::Result<Self> {
        let writer = LogWriter::start(stderr(), move |dropped| {
            let message = "log lines were dropped: standard error did not take them";
            line(format, "WARN", message, Some(dropped))
        })
        .context("the log writer thread cannot be started")?;
        let subscriber = tracing_subscriber::fmt()
            // `rusqlite_migration` logs its own progress below that level.
            .with_env_filter(EnvFilter::new(format!("rusqlite_migration=warn,{}", filter.0)))
            .with_ansi(stderr().is_terminal())
            // It would report a line that cannot be written with `eprintln!`, which panics.
            .log_internal_errors(false)
            .with_writer(Arc::clone(&writer));
        match format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().init(),
        }
        let _ = WRITER.set(Arc::clone(&writer));
        // The default hook writes to standard error itself and would block on a full pipe.
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let captured = backtrace.status() == BacktraceStatus::Captured;
            tracing::error!(
                thread = thread::current().name(),
                location = panic.location().map(tracing::field::display),
                backtrace = captured.then(|| tracing::field::display(&backtrace)),
                "panicked: {}",
                panic_message(panic.payload())
            );
        }));
        Ok(Self { writer, format })
    }

    /// The log of a subcommand: text of the level info and above.
    ///
    /// # Errors
    /// When the writer thread cannot be started.
    pub fn for_subcommand() -> anyhow::Result<Self> {
        Self::init(&LogFilter("info".to_owned()), LogFormat::Text)
    }

    /// Logs why the process ends, as an error, whatever the filter is.
    pub fn log_exit(&self, message: &str) {
        self.writer.push_last(line(self.format, "ERROR", message, None).into_bytes());
    }

    /// Writes why the server does not start: a plain line without a time, whatever the format is.
    pub fn print_error(&self, message: &str) {
        self.writer.push_last(format!("{message}\n").into_bytes());
    }
}

impl Drop for Telemetry {
    /// Waits until the queued lines are written, at most a second.
    fn drop(&mut self) {
        self.writer.flush(FLUSH_TIMEOUT);
    }
}

/// The number of log lines that were dropped since the process started, because standard error did not
/// take them.
pub(crate) fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, |writer| writer.dropped())
}

/// Formats a line as the subscriber does, for lines that do not go through it.
fn line(format: LogFormat, level: &str, message: &str, dropped: Option<u64>) -> String {
    let mut time = String::new();
    // Formatting into a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let target = module_path!();
    match format {
        LogFormat::Text => {
            let dropped = dropped.map(|dropped| format!(" dropped={dropped}")).unwrap_or_default();
            format!("{time} {level:>5} {target}: {message}{dropped}\n")
        }
        LogFormat::Json => {
            let mut fields = json!({ "message": message });
            if let Some(dropped) = dropped {
                fields["dropped"] = dropped.into();
            }
            let line =
                json!({ "timestamp": time, "level": level, "fields": fields, "target": target });
            format!("{line}\n")
        }
    }
}
