//! The Tidings server.

// The printing macros panic where standard output or error is gone.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{
    io::{self, Write as _, stderr, stdout},
    process::ExitCode,
    thread,
};

use anyhow::Context as _;
use tidings::server::{
    Clock, Config, Failure, Listeners, Server, Shutdown, Site, Streams, Supervisor, Task, Telemetry,
};
use tokio::runtime::Runtime;

/// Connections hold buffers of 8 KiB of which they use little: here only what is used takes memory.
#[cfg(all(unix, feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let done = match Task::from_command_line() {
        Task::Serve(config) => serve(*config),
        Task::Token(token) => token.make().and_then(|token| {
            say(&token).context("the token cannot be written to standard output")?;
            Ok(ExitCode::SUCCESS)
        }),
    };
    done.unwrap_or_else(|error| {
        // Standard error may be gone; the exit status tells the rest.
        let _ = writeln!(stderr(), "tidings: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs the server until it is told to stop, or cannot go on.
fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::init(&config.log, config.log_format)?;
    let runtime = Runtime::new().context("the runtime cannot be started")?;
    let served = runtime.block_on(start_and_run(config));
    // Not by dropping it, which would wait for a read that a dead disk never answers.
    runtime.shutdown_background();
    Ok(match served {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            telemetry.last_line(&format!("the server cannot go on: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            telemetry.last_words(&format!("tidings: {error:#}"));
            ExitCode::FAILURE
        }
    })
}

async fn start_and_run(config: Config) -> anyhow::Result<Result<(), Failure>> {
    allow_open_files(config.limits.max_connections);
    let site = Site::find(config.site_root.as_deref())?;
    let access = config.access.rules(Clock::System)?;
    let shutdown = Shutdown::default();
    let supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn("signal handler", shutdown.on_signals().context("cannot listen to signals")?);
    let streams = Streams::open(&config, Clock::System, &supervisor).await?;
    let listeners = Listeners::bind(&config.addresses()).await?;

    let metrics = listeners.metrics_url()?.map(|url| format!("\nMetrics are at {url}"));
    announce(format!("Tidings is at {}{}", listeners.url()?, metrics.unwrap_or_default()));
    if let Some(address) = listeners.redirect_url()? {
        tracing::info!(address, "plain HTTP is sent on to TLS");
    }
    let server = Server { config, site, access, streams, clock: Clock::System, shutdown };
    Ok(server.run(listeners).await)
}

/// Says where the server is, from a thread of its own: a standard output that takes nothing, a full
/// pipe or a stopped terminal, does not hold up the server, and one that is gone does no harm.
fn announce(text: String) {
    // Without a thread to spare the server still serves.
    let _ = thread::Builder::new().spawn(move || say(&text));
}

/// Says a line on standard output.
fn say(line: &str) -> io::Result<()> {
    writeln!(stdout(), "{line}")
}

/// Every connection is an open file: takes as many as the system gives.
fn allow_open_files(connections: u64) {
    /// What is open besides: the store's files, the listeners, the runtime's own.
    const OTHER_FILES: u64 = 100;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed < connections.saturating_add(OTHER_FILES) => tracing::warn!(
            allowed,
            "fewer files may be open than --max-connections {connections} needs: connections will \
             wait; raise the limit (ulimit -Hn, LimitNOFILE of systemd)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "how many files may be open can not be raised"),
    }
}
