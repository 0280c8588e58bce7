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
    shutdown::Shutdown,
    site::Site,
    streams::Streams,
    telemetry,
};
use tokio::net::TcpListener;

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
    let site = Site::find(config.site_root.as_deref())?;
    let access = Access::new(&config.access, Clock::System)?;
    let streams = Streams::open(&config, Clock::System).await?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", config.listen)
    })?;
    let shutdown = Shutdown::on_signal().context("cannot listen to signals")?;

    say(&format!("Tidings is at http://{}", listener.local_addr()?));
    server::run(listener, config, site, access, streams, Clock::System, shutdown).await;
    Ok(())
}

/// Says a line on standard output, where nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}
