//! Logging: what is logged, in which format, and what becomes of lines that cannot be written.

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

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A filter for the log that is known to parse.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

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

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the lines of the process go through, once it logs.
static WRITER: OnceLock<Arc<LogWriter>> = OnceLock::new();

/// The log of the process, which goes to standard error: standard output says where the server is.
///
/// Failing to report is never a failure: no line that is logged blocks, panics or fails, whatever
/// standard error does. That is why nothing in this crate may use the printing macros.
pub struct Telemetry {
    writer: Arc<LogWriter>,
    format: LogFormat,
}

impl Telemetry {
    /// Begins to log as configured, panics included.
    ///
    /// # Errors
    /// When the thread that writes cannot be started.
    pub fn init(filter: &LogFilter, format: LogFormat) -> anyhow::Result<Self> {
        let writer = LogWriter::start(stderr(), move |dropped| {
            let message = "log lines were dropped: standard error did not take them";
            line(format, "WARN", message, Some(dropped))
        })
        .context("the thread that writes the log cannot be started")?;
        let subscriber = tracing_subscriber::fmt()
            // What a library says of its work is not news of ours.
            .with_env_filter(EnvFilter::new(format!("rusqlite_migration=warn,{}", filter.0)))
            .with_ansi(stderr().is_terminal())
            // It reports a line that could not be written with `eprintln!`, which panics.
            .log_internal_errors(false)
            .with_writer(Arc::clone(&writer));
        match format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().init(),
        }
        let _ = WRITER.set(Arc::clone(&writer));
        // The default hook writes to standard error itself, and so would wait for a full pipe.
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

    /// Says why the process ends, whatever is filtered.
    pub fn last_line(&self, message: &str) {
        self.writer.push_last(line(self.format, "ERROR", message, None).into_bytes());
    }

    /// Says why the server does not start, as any program does: without a time, in any format.
    pub fn last_words(&self, message: &str) {
        self.writer.push_last(format!("{message}\n").into_bytes());
    }
}

impl Drop for Telemetry {
    /// Waits a moment until what was logged is written.
    fn drop(&mut self) {
        self.writer.flush(FLUSH_TIMEOUT);
    }
}

/// How many lines were dropped since the process began, because standard error did not take them.
pub(crate) fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, |writer| writer.dropped())
}

/// A line as the subscriber would write it, for when it cannot be asked to.
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
