//! The server: configuration, routes, streams.

pub mod access;
mod answer;
mod body;
mod client;
pub mod clock;
pub mod config;
mod counter;
mod cursor;
mod data;
mod delete;
mod encoding;
mod end;
mod error;
mod events;
mod frame;
mod headers;
mod health;
mod history;
mod host;
mod hub;
mod limits;
mod lines;
pub mod listen;
mod log;
mod metrics;
mod named;
mod pages;
mod publish;
mod query;
mod request;
mod reserved_body;
mod router;
mod serve;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod site;
pub mod streams;
pub mod supervisor;
pub mod telemetry;
mod tls;
mod unread;
mod watch;

use std::{ops::Deref, sync::Arc, time::Duration};

use self::{
    access::Access,
    client::Trusted,
    clock::Clock,
    config::{Config, LimitOptions},
    counter::Counter,
    error::Problem,
    events::EventStreams,
    hub::Hub,
    limits::{ConcurrencyLimit, Limits, MemoryBudget},
    listen::Listeners,
    log::Log,
    metrics::Metrics,
    serve::{Connections, Terms},
    shutdown::Shutdown,
    site::Site,
    streams::Streams,
    supervisor::{Failure, supervised},
};

/// How long a server that stops still answers, so that whoever watches over it sees that it is not
/// ready and sends people elsewhere.
const NOTICE: Duration = Duration::from_secs(1);
/// How long a drain may take (design, *Drain*); whoever has not gone by then goes with the process.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);
/// How long the store may take to close once nothing is written any more. What was acknowledged is
/// on disk by then.
const CLOSE_LIMIT: Duration = Duration::from_secs(7);

/// How many connections there may be to the metrics.
const METRICS_CONNECTIONS: u64 = 64;

/// What every handler has at hand. One counter for all of it: each layer of the router clones it for each
/// request.
#[derive(Clone)]
struct App(Arc<AppState>);

/// What is behind an [`App`].
struct AppState {
    access: Access,
    /// How long the body of a request may take.
    body_timeout: Duration,
    counter: Counter,
    events: EventStreams,
    log: Log,
    hub: Hub,
    /// The most bytes a message may have.
    max_message_bytes: usize,
    limits: Limits,
    memory: MemoryBudget,
    metrics: Metrics,
    shutdown: Shutdown,
    site: Arc<Site>,
}

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl App {
    fn new(
        config: &Config,
        site: Site,
        access: Access,
        streams: &Streams,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> Self {
        let Streams { log, hub, memory, metrics, .. } = streams.clone();
        let limits = &config.limits;
        let events = EventStreams {
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            retry: config.retry.into(),
        };
        Self(Arc::new(AppState {
            access,
            body_timeout: limits.body_timeout.into(),
            counter: Counter::new(config, clock),
            events,
            log,
            hub,
            limits: Limits::new(limits, &streams.supervisor),
            max_message_bytes: usize::try_from(limits.max_message_bytes.0).unwrap_or(usize::MAX),
            memory,
            metrics,
            shutdown: shutdown.clone(),
            site: Arc::new(site),
        }))
    }

    /// A server that stops takes nothing more.
    fn takes_messages(&self) -> Result<(), Problem> {
        if self.shutdown.has_begun() { Err(Problem::draining()) } else { Ok(()) }
    }
}

/// Serves on `listeners` until `shutdown` says stop, then lets everyone go: each stream is closed
/// at a frame boundary and resumes elsewhere by its cursor. Ids are dated by `clock`, which a test
/// can stop. What goes wrong with one connection ends that connection.
///
/// # Errors
/// When something ends that everything depends on; see [`supervisor`].
pub async fn run(
    listeners: Listeners,
    config: Config,
    site: Site,
    access: Access,
    streams: Streams,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let supervisor = streams.supervisor.clone();
    let trusted = Trusted::new(&config.limits.trusted_proxy);
    let connections = connections(&config.limits, &trusted);
    let header_timeout = config.limits.header_timeout.into();
    let terms = |connections: Connections| Terms { connections, header_timeout };
    let app = App::new(&config, site, access, &streams, clock, &shutdown);
    let (log, watchers) = (app.log.clone(), app.limits.watchers.clone());
    let notice_given = async || {
        shutdown.wait().await;
        tokio::time::sleep(NOTICE).await;
    };

    let Listeners { main, tls, redirect, metrics } = listeners;
    let redirecting = async {
        if let Some((listener, port)) = redirect {
            let (router, terms) = (serve::redirect(port), terms(connections.clone()));
            serve::serve(listener, None, router, terms, notice_given()).await;
        }
    };
    let measuring = async {
        if let Some(listener) = metrics {
            let open = connections.clone();
            let metrics = streams.metrics.clone();
            let router = metrics::router(metrics, move || streams.clone().look(open.clone()));
            // Whoever fills the server must not hide that it is full.
            let limit = ConcurrencyLimit::new(METRICS_CONNECTIONS, METRICS_CONNECTIONS);
            let terms = terms(Connections::new(limit, trusted.clone()));
            serve::serve(listener, None, router, terms, notice_given()).await;
        }
    };
    let router = router::router(app, &config, trusted.clone());
    let serving =
        serve::serve(main, tls.clone(), router, terms(connections.clone()), notice_given());
    let following_files = async {
        match tls {
            Some(tls) => tls.follow_files().await,
            None => std::future::pending().await,
        }
    };

    let drained = async {
        shutdown.wait().await;
        tracing::info!(
            open_streams = watchers.in_use(),
            connections = connections.open(),
            refused_connections = connections.refused(),
            "stopping: letting readers go"
        );
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    let served = async {
        tokio::try_join!(
            supervised("accept loop", serving),
            supervised("accept loop of the redirect", redirecting),
            supervised("accept loop of the metrics", measuring),
        )
    };
    tokio::select! {
        served = served => drop(served?),
        failed = supervised("certificate follower", following_files) => match failed? {},
        failure = supervisor.failed() => return Err(failure),
        () = drained => {
            tracing::warn!(open_streams = watchers.in_use(), "did not wait for the last readers");
        }
    }
    if tokio::time::timeout(CLOSE_LIMIT, log.close()).await.is_err() {
        return Err(Failure::did_not_stop("store-writer"));
    }
    supervisor.failure().map_or(Ok(()), Err)?;
    tracing::info!("stopped");
    Ok(())
}

/// The connections that there may be, as configured.
fn connections(limits: &LimitOptions, trusted: &Trusted) -> Connections {
    let limit = ConcurrencyLimit::new(limits.max_connections, limits.max_connections_per_address);
    Connections::new(limit, trusted.clone())
}
