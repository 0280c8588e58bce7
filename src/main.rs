//! The Tidings server.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use anyhow::Context;
use tidings::server::{
    self,
    access::Access,
    clock::Clock,
    config::{Config, Task},
    listen::Listeners,
    shutdown::Shutdown,
    site::Site,
    streams::Streams,
    telemetry,
};

/// Connections hold buffers of 8 KiB of which they use little: here only what is used takes memory.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Task::from_command_line() {
        Task::Serve(config) => serve(*config).await,
        Task::Token(token) => token.make().map(|token| say(&token)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config);
    allow_open_files(config.limits.max_connections);
    let site = Site::find(config.site_root.as_deref())?;
    let access = Access::new(&config.access, Clock::System)?;
    let streams = Streams::open(&config, Clock::System).await?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = Shutdown::on_signal().context("cannot listen to signals")?;

    say(&format!("Tidings is at {}", listeners.url()?));
    if let Some(url) = listeners.metrics_url()? {
        say(&format!("Metrics are at {url}"));
    }
    if let Some(address) = listeners.redirect_url()? {
        tracing::info!(address, "plain HTTP is sent on to TLS");
    }
    server::run(listeners, config, site, access, streams, Clock::System, shutdown).await;
    Ok(())
}

/// Says a line on standard output, where nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// Every connection is an open file: takes as many as the system gives.
fn allow_open_files(connections: u64) {
    /// What is open besides: the store's files, the listeners, the runtime's own.
    const OTHERS: u64 = 100;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed < connections.saturating_add(OTHERS) => tracing::warn!(
            allowed,
            "fewer files may be open than --max-connections {connections} needs: connections will \
             wait; raise the limit (ulimit -Hn, LimitNOFILE of systemd)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "how many files may be open can not be raised"),
    }
}
