//! The Tidings server.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use anyhow::Context;
use tidings::server::{
    self, clock::Clock, config::Config, listen::Listeners, shutdown::Shutdown, site::Site,
    streams::Streams, telemetry,
};

/// Connections hold buffers of 8 KiB of which they use little: here only what is used takes memory.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Config::from_command_line()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config);
    let site = Site::find(config.site_root.as_deref())?;
    let streams = Streams::open(&config, Clock::System).await?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = Shutdown::on_signal().context("cannot listen to signals")?;

    // Nobody may be listening to that either.
    let _ = writeln!(stdout(), "Tidings is at {}", listeners.url()?);
    if let Some(url) = listeners.metrics_url()? {
        let _ = writeln!(stdout(), "Metrics are at {url}");
    }
    server::run(listeners, config, site, streams, Clock::System, shutdown).await;
    Ok(())
}
