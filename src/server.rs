//! The server: configuration, routes, streams.

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
mod lines;
pub mod listen;
mod log;
mod metrics;
mod named;
mod pages;
mod publish;
mod request;
mod router;
mod serve;
pub mod shutdown;
pub mod site;
pub mod streams;
pub mod telemetry;
mod watch;

use std::{sync::Arc, time::Duration};

use self::{
    clock::Clock, config::Config, counter::Counter, error::Problem, events::OpenStreams, hub::Hub,
    listen::Listeners, log::Log, metrics::Metrics, shutdown::Shutdown, site::Site,
    streams::Streams,
};

/// How long a server that stops still answers, so that whoever watches over it sees that it is not
/// ready and sends people elsewhere.
const NOTICE: Duration = Duration::from_secs(1);
/// How long a drain may take (design, *Drain*); whoever has not gone by then goes with the process.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);

/// What every handler has at hand; a cheap clone.
#[derive(Clone)]
struct App {
    counter: Counter,
    log: Log,
    hub: Hub,
    /// The most bytes a message may have.
    max_message_bytes: usize,
    metrics: Metrics,
    open_streams: OpenStreams,
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

/// Serves on `listeners` until `shutdown` says stop, then lets everyone go: each stream is closed
/// at a frame boundary and resumes elsewhere by its cursor. Ids are dated by `clock`, which a test
/// can stop. What goes wrong with one connection ends that connection.
pub async fn run(
    listeners: Listeners,
    config: Config,
    site: Site,
    streams: Streams,
    clock: Clock,
    shutdown: Shutdown,
) {
    let Streams { log, hub, metrics } = streams.clone();
    let app = App {
        counter: Counter::new(&config, clock),
        log: log.clone(),
        hub,
        max_message_bytes: usize::try_from(config.limits.max_message_bytes.0).unwrap_or(usize::MAX),
        metrics: metrics.clone(),
        open_streams: OpenStreams::default(),
        shutdown: shutdown.clone(),
        retry: config.retry.into(),
        site: Arc::new(site),
    };
    let open_streams = app.open_streams.clone();
    let router = router::router(app, &config.allow_origin);
    let notice_given = async || {
        shutdown.wait().await;
        tokio::time::sleep(NOTICE).await;
    };
    let Listeners { main, metrics: metrics_listener } = listeners;
    let measuring = async {
        if let Some(listener) = metrics_listener {
            let router = metrics::router(metrics, move || streams.clone().look());
            serve::serve(listener, router, notice_given()).await;
        }
    };
    let serving = serve::serve(main, router, notice_given());

    let drained = async {
        shutdown.wait().await;
        tracing::info!(open_streams = open_streams.count(), "stopping: letting readers go");
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(serving, measuring) } => {}
        () = drained => {
            tracing::warn!(open_streams = open_streams.count(), "did not wait for the last readers");
        }
    }
    log.close().await;
    tracing::info!("stopped");
}
