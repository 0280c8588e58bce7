//! The server: startup, the accept loops, and graceful shutdown.

mod api;
mod chunked_body;
mod client;
mod clock;
mod config;
mod error;
mod fan_out;
mod guard;
mod hub;
mod log;
mod mount;
mod net;
mod observe;
mod openapi;
mod pages;
mod router;
mod shutdown;
#[cfg(test)]
mod simulation;
mod site;
mod sse;
mod state;
mod stream_list;
mod stream_path;
mod streams;
mod supervisor;

pub use self::{
    clock::Clock,
    config::{Config, CopyOptions, TokenOptions},
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

/// How long a draining server still accepts connections, so that a load balancer sees that it is
/// not ready and sends clients to another server.
const UNREADY_GRACE: Duration = Duration::from_secs(1);
/// How long a drain may take (design, *Drain*); connections that are still open after that are
/// closed when the process ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(9);
/// How long the store may take to close after the last write. Acknowledged messages are on disk
/// before that.
const CLOSE_LIMIT: Duration = Duration::from_secs(7);

/// The maximum number of connections to the metrics listener.
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
    /// Dates the runs of the counter; a test can control it.
    pub clock: Clock,
    /// Starts the drain.
    pub shutdown: Shutdown,
}

impl Server {
    /// Serves on `listeners` until the shutdown begins, then drains: each event stream is closed at
    /// a frame boundary, and its reader resumes on another server by its cursor. An error on one
    /// connection closes only that connection.
    ///
    /// # Errors
    /// When a supervised task or thread fails (see [`Supervisor`]), or when the store does not close
    /// within 7 s.
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
            base_path: config.base_path(),
        };
        let app = App::new(&self);
        let watchers = app.watchers();
        let unready_grace_elapsed = async || {
            shutdown.wait().await;
            sleep(UNREADY_GRACE).await;
        };

        let Listeners { main, tls, redirect, metrics } = listeners;
        let serve_redirect = async {
            if let Some((listener, port)) = redirect {
                let (router, options) = (redirect::router(port), options(&connections));
                accept::serve(listener, None, router, options, unready_grace_elapsed()).await;
            }
        };
        let serve_metrics = async {
            if let Some(listener) = metrics {
                let (streams, open) = (streams.clone(), connections.clone());
                let sample = move || streams.clone().sample(open.clone());
                let router = metrics::router(self.streams.metrics.clone(), sample);
                // A limit of its own: metrics must be readable when the server is full.
                let limit = ConcurrencyLimit::new(METRICS_CONNECTIONS, METRICS_CONNECTIONS);
                let options = options(&Connections::new(limit, trusted.clone()));
                accept::serve(listener, None, router, options, unready_grace_elapsed()).await;
            }
        };
        let router = router::router(&app, config, &trusted);
        let serve_main = accept::serve(
            main,
            tls.clone(),
            router,
            options(&connections),
            unready_grace_elapsed(),
        );
        let reload_certificate = async {
            match tls {
                Some(tls) => tls.reload_on_change().await,
                None => std::future::pending().await,
            }
        };

        let drain_timeout = async {
            shutdown.wait().await;
            tracing::info!(
                open_streams = watchers.in_use(),
                connections = connections.open(),
                refused_connections = connections.refused(),
                "draining: closing event streams"
            );
            sleep(DRAIN_LIMIT).await;
        };
        let serve_all = async {
            tokio::try_join!(
                supervised("accept loop", serve_main),
                supervised("accept loop of the redirect", serve_redirect),
                supervised("accept loop of the metrics", serve_metrics),
            )
        };
        tokio::select! {
            served = serve_all => drop(served?),
            failed = supervised("certificate reloader", reload_certificate) => match failed? {},
            failure = supervisor.wait_for_failure() => return Err(failure),
            () = drain_timeout => {
                let open_streams = watchers.in_use();
                tracing::warn!(open_streams, "drain timed out with event streams still open");
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
