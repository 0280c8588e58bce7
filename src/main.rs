//! The program: runs the server, or a subcommand (publish, watch, copy, token, completions, man).

// The printing macros panic when standard output or standard error is closed.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod command_line;
mod manual;
mod terminal;

use std::{
    io::{self, Write as _, stderr, stdout},
    process::ExitCode,
    thread,
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use tidings::server::{
    Clock, Config, CopyOptions, Failure, Listeners, Server, Shutdown, Site, Streams, Supervisor,
    Telemetry,
};
use tokio::runtime::Runtime;

use self::command_line::{CliCommand, CommandLine};

/// Connections hold buffers of 8 KiB and use little of them: with jemalloc the unused part takes no
/// memory.
#[cfg(all(unix, feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match CliCommand::from_command_line() {
        CliCommand::Serve(config) => serve(*config),
        CliCommand::Publish(publish) => terminal::publish(*publish),
        CliCommand::Watch(watch) => terminal::watch(*watch),
        CliCommand::Completions(completions) => {
            completions.print(CommandLine::command()).map(|()| ExitCode::SUCCESS)
        }
        CliCommand::Man(man) => man.print(CommandLine::command()).map(|()| ExitCode::SUCCESS),
        CliCommand::Copy(copy) => copy_store(*copy),
        CliCommand::Token(token) => token.make().and_then(|token| {
            print_line(&token).context("the token cannot be written to standard output")?;
            Ok(ExitCode::SUCCESS)
        }),
    };
    result.unwrap_or_else(|error| {
        // Standard error may be closed; the exit status reports the failure too.
        let _ = writeln!(stderr(), "tidings: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs the server until it is stopped by a signal or fails.
///
/// # Errors
/// When logging or the runtime cannot be started. Other failures are logged and give exit status 1.
fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::init(&config.log, config.log_format)?;
    let runtime = Runtime::new().context("the runtime cannot be started")?;
    let served = runtime.block_on(start_and_run(config));
    // Dropping the runtime would wait for blocking reads, which never end on a dead disk.
    runtime.shutdown_background();
    Ok(match served {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            telemetry.log_exit(&format!("the server cannot go on: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            telemetry.print_error(&format!("tidings: {error:#}"));
            ExitCode::FAILURE
        }
    })
}

/// Copies a store, and prints what was copied.
///
/// # Errors
/// When logging or the runtime cannot be started, or the copy is not complete.
fn copy_store(options: CopyOptions) -> anyhow::Result<ExitCode> {
    let _telemetry = Telemetry::for_subcommand()?;
    let runtime = Runtime::new().context("the runtime cannot be started")?;
    let copied = runtime.block_on(options.run())?;
    print_line(&copied).context("it was copied, but standard output is closed")?;
    Ok(ExitCode::SUCCESS)
}

async fn start_and_run(config: Config) -> anyhow::Result<Result<(), Failure>> {
    allow_open_files(config.limits.max_connections);
    let site = Site::find(config.site_root.as_deref())?;
    let access = config.access.rules(Clock::System)?;
    let shutdown = Shutdown::default();
    let supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn("signal handler", shutdown.on_signals().context("cannot listen for signals")?);
    let streams = Streams::open(&config, Clock::System, &supervisor).await?;
    let listeners = Listeners::bind(&config.addresses()).await?;

    let metrics = listeners.metrics_url()?.map(|url| format!("\nMetrics are at {url}"));
    let (url, base) = (listeners.url()?, config.base_path());
    announce(format!("Tidings is at {url}{}{}", base.as_str(), metrics.unwrap_or_default()));
    if let Some(address) = listeners.redirect_url()? {
        tracing::info!(address, "plain HTTP is redirected to TLS");
    }
    let server = Server { config, site, access, streams, clock: Clock::System, shutdown };
    Ok(server.run(listeners).await)
}

/// Prints the addresses of the server, from a thread of its own: a standard output that blocks (a full
/// pipe, a stopped terminal) does not delay the server, and a closed one is ignored.
fn announce(text: String) {
    // The server also runs when this thread cannot be started.
    let _ = thread::Builder::new().spawn(move || print_line(&text));
}

/// Prints a line to standard output.
fn print_line(line: &str) -> io::Result<()> {
    writeln!(stdout(), "{line}")
}

/// Raises the limit of open files (`RLIMIT_NOFILE`) as far as the system allows: every connection is
/// an open file.
fn allow_open_files(max_connections: u64) {
    /// Open files that are not connections: those of the store, the listeners and the runtime.
    const OTHER_FILES: u64 = 100;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed < max_connections.saturating_add(OTHER_FILES) => tracing::warn!(
            allowed,
            "the limit of open files is too low for --max-connections {max_connections}: connections \
             will wait; raise the limit (ulimit -Hn, LimitNOFILE of systemd)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}
