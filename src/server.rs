//! The server: configuration, routes, streams.

pub mod access;
mod client;
pub mod clock;
pub mod config;
mod counter;
mod data;
mod delete;
mod end;
mod error;
mod events;
mod frame;
mod headers;
mod health;
mod history;
mod hub;
mod limits;
mod lines;
mod log;
mod named;
mod pages;
mod publish;
mod router;
mod serve;
pub mod shutdown;
pub mod site;
pub mod streams;
pub mod telemetry;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;

use self::{
    access::Access, clock::Clock, config::Config, counter::Counter, error::Problem, hub::Hub,
    limits::Limits, log::Log, shutdown::Shutdown, site::Site, streams::Streams,
};

/// How long a server that stops still answers, so that whoever watches over it sees that it is not
/// ready and sends people elsewhere.
const NOTICE: Duration = Duration::from_secs(1);
/// How long a drain may take (design, *Drain*); whoever has not gone by then goes with the process.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);

/// What every handler has at hand; a cheap clone.
#[derive(Clone)]
struct App {
    access: Access,
    counter: Counter,
    log: Log,
    hub: Hub,
    /// The most bytes a message may have.
    max_message_bytes: usize,
    limits: Limits,
    shutdown: Shutdown,
    /// The pause after which a cut reader comes back, told to each stream as `retry`.
    retry: Duration,
    site: Arc<Site>,
}

impl App {
    /// A server that stops takes nothing more.
    fn takes_messages(&self) -> Result<(), Problem> {
        if self.shutdown.has_begun() { Err(Problem::draining()) } else { Ok(()) }
    }
}

/// Serves on `listener` until `shutdown` says stop, then lets everyone go: each stream is closed
/// at a frame boundary and resumes elsewhere by its cursor. Ids are dated by `clock`, which a test
/// can stop. What goes wrong with one connection ends that connection.
pub async fn run(
    listener: TcpListener,
    config: Config,
    site: Site,
    access: Access,
    streams: Streams,
    clock: Clock,
    shutdown: Shutdown,
) {
    let Streams { log, hub } = streams;
    let limits = Limits::new(&config.limits);
    let seats = limits.seats.clone();
    let app = App {
        access,
        counter: Counter::new(&config, clock),
        log: log.clone(),
        hub,
        max_message_bytes: usize::try_from(config.limits.max_message_bytes.0).unwrap_or(usize::MAX),
        limits,
        shutdown: shutdown.clone(),
        retry: config.retry.into(),
        site: Arc::new(site),
    };
    let router = router::router(app, &config.allow_origin);
    let notice_given = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.wait().await;
            tokio::time::sleep(NOTICE).await;
        }
    };
    let serving = serve::serve(listener, router, notice_given);

    let drained = async {
        shutdown.wait().await;
        tracing::info!(open_streams = seats.count(), "stopping: letting readers go");
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        () = serving => {}
        () = drained => {
            tracing::warn!(open_streams = seats.count(), "did not wait for the last readers");
        }
    }
    log.close().await;
    tracing::info!("stopped");
}
