//! Publishing and watching from a terminal: `tidings publish` and `tidings watch`.
//!
//! Both are clients of the HTTP interface, and lose nothing when the server restarts or the network
//! fails: a publisher repeats a request with its `Idempotency-Key` until it is answered, a watcher
//! resumes by its cursor. Nothing here imports the server.
//!
//! - [`options`]: the command lines, whose docs are the manual; [`config_file`]: address and token
//! - [`client`]: one request, and what its failure means; [`retry`]: repeats it, with [`backoff`]
//! - [`publish`]: a message, or lines: [`input`] reads them, [`lines`] splits them, a [`queue`] (in
//!   memory, or in the file of [`spool`]) holds what is not acknowledged, [`upload`] sends it in a
//!   [`batch`] at a time; [`child`] runs a command whose output they are
//! - [`watch`]: follows a stream: [`sse`] parses it, [`output`] prints it ([`escape`]: on a terminal), or
//!   [`exec`] runs a command for each message; [`state`] keeps the cursor
//! - [`status`]: notes and progress on standard error; [`signals`]: SIGHUP, SIGINT and SIGTERM

mod backoff;
mod batch;
mod child;
mod client;
mod config_file;
mod escape;
mod exec;
mod files;
mod input;
mod lines;
mod options;
mod output;
mod publish;
mod queue;
mod retry;
mod signals;
mod spool;
mod sse;
mod state;
mod status;
mod time;
mod upload;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Runtime;

pub(crate) use self::options::{PublishOptions, WatchOptions};
use self::{status::Status, watch::Watch};

/// The most bytes that a message can have on any server: what `--max-message-bytes` allows at most.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why a command ended without having done all it should.
#[derive(Debug)]
enum ExitError {
    /// The server refused, and would refuse again.
    Refused(String),
    /// Something on this machine failed: a file, a command.
    Failed(String),
    /// `--retry-for` is over, or a signal came. It is not known whether the server has stored it.
    GaveUp(String),
    /// The reader of standard output has closed it.
    OutputClosed,
}

impl ExitError {
    /// The exit status, as `--help` documents it.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Failed(_) => 1,
            Self::GaveUp(_) => 3,
            // What a shell reports of a program that SIGPIPE ended.
            Self::OutputClosed => 141,
        }
    }

    /// What to print, if anything.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Refused(text) | Self::Failed(text) | Self::GaveUp(text) => Some(text),
            Self::OutputClosed => None,
        }
    }
}

/// `tidings publish`
///
/// # Errors
/// When the runtime cannot be started. Other failures are printed and give their exit status.
pub(crate) fn publish(options: PublishOptions) -> anyhow::Result<ExitCode> {
    // The output of a command and a line of progress would be mixed.
    let status = Status::new(options.run.is_none());
    run(&status, publish::publish(options, &status))
}

/// `tidings watch`
///
/// # Errors
/// When the runtime cannot be started. Other failures are printed and give their exit status.
pub(crate) fn watch(options: WatchOptions) -> anyhow::Result<ExitCode> {
    let status = Status::new(true);
    run(&status, async { Watch::new(options, &status)?.run().await })
}

fn run(
    status: &Status,
    command: impl Future<Output = Result<u8, ExitError>>,
) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new().context("the runtime cannot be started")?;
    let code = runtime.block_on(command).unwrap_or_else(|error| {
        if let Some(text) = error.text() {
            status.note(text);
        }
        error.exit_code()
    });
    status.clear();
    // Not waiting for a thread that reads an input that does not end.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
