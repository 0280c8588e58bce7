//! The server: configuration, routes, streams.

mod api;
mod chunked_body;
mod client;
mod clock;
mod config;
mod error;
mod guard;
mod hub;
mod log;
mod net;
mod observe;
mod pages;
mod router;
mod shutdown;
#[cfg(test)]
mod simulation;
mod site;
mod sse;
mod state;
mod stream_path;
mod streams;
mod supervisor;

pub use self::{
    clock::Clock,
    config::{Config, Task},
    guard::Access,
    net::Listeners,
    observe::Telemetry,
    shutdown::Shutdown,
    site::Site,
    streams::Streams,
    supervisor::{Failure, Supervisor},
};

use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::{
    client::TrustedProxies,
    guard::ConcurrencyLimit,
    net::{ConnectionOptions, Connections, accept, redirect},
    observe::metrics,
    state::App,
    supervisor::supervised,
};

/// How long a server that stops still accepts connections, so that a load balancer sees that it is
/// not ready and sends clients elsewhere.
const UNREADY_GRACE: Duration = Duration::from_secs(1);
/// How long a drain may take (design, *Drain*); clients that are still connected by then are cut
/// off when the process ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);
/// How long the store may take to close once nothing is written any more. What was acknowledged is
/// on disk by then.
const CLOSE_LIMIT: Duration = Duration::from_secs(7);

/// How many connections there may be to the metrics.
const METRICS_CONNECTIONS: u64 = 64;

/// A server that is ready to serve.
pub struct Server {
    /// The options.
    pub config: Config,
    /// The built site.
    pub site: Site,
    /// The access rules.
    pub access: Access,
    /// The log and the hub.
    pub streams: Streams,
    /// Dates the runs of the counter; a test can stop it.
    pub clock: Clock,
    /// When to drain and stop.
    pub shutdown: Shutdown,
}

impl Server {
    /// Serves on `listeners` until the shutdown begins, then drains: each event stream is closed at
    /// a frame boundary, and its reader resumes elsewhere by its cursor. What goes wrong with one
    /// connection ends that connection.
    ///
    /// # Errors
    /// When a task or thread ends that everything depends on; see [`Supervisor`].
    pub async fn run(self, listeners: Listeners) -> Result<(), Failure> {
        let Self { ref config, ref streams, ref shutdown, .. } = self;
        let supervisor = &streams.supervisor;
        let trusted = TrustedProxies::new(&config.limits.trusted_proxy);
        let limits = &config.limits;
        let limit =
            ConcurrencyLimit::new(limits.max_connections, limits.max_connections_per_address);
        let connections = Connections::new(limit, trusted.clone());
        let options = |connections: &Connections| ConnectionOptions {
            connections: connections.clone(),
            header_timeout: limits.header_timeout.into(),
        };
        let app = App::new(&self);
        let watchers = app.watchers();
        let unready_grace_over = async || {
            shutdown.wait().await;
            sleep(UNREADY_GRACE).await;
        };

        let Listeners { main, tls, redirect, metrics } = listeners;
        let redirecting = async {
            if let Some((listener, port)) = redirect {
                let (router, options) = (redirect::router(port), options(&connections));
                accept::serve(listener, None, router, options, unready_grace_over()).await;
            }
        };
        let measuring = async {
            if let Some(listener) = metrics {
                let (streams, open) = (streams.clone(), connections.clone());
                let sample = move || streams.clone().sample(open.clone());
                let router = metrics::router(self.streams.metrics.clone(), sample);
                // A limit of its own: a server that is full must still show that it is.
                let limit = ConcurrencyLimit::new(METRICS_CONNECTIONS, METRICS_CONNECTIONS);
                let options = options(&Connections::new(limit, trusted.clone()));
                accept::serve(listener, None, router, options, unready_grace_over()).await;
            }
        };
        let router = router::router(app, config, trusted.clone());
        let serving =
            accept::serve(main, tls.clone(), router, options(&connections), unready_grace_over());
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
            sleep(DRAIN_LIMIT).await;
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
                let open_streams = watchers.in_use();
                tracing::warn!(open_streams, "did not wait for the last readers");
            }
        }
        if timeout(CLOSE_LIMIT, streams.log.close()).await.is_err() {
            return Err(Failure::did_not_stop("store-writer"));
        }
        supervisor.failure().map_or(Ok(()), Err)?;
        tracing::info!("stopped");
        Ok(())
    }
}
