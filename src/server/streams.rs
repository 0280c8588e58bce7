//! The streams: the log that keeps them, and those of them that are watched.

use tokio::sync::mpsc;

use super::{
    clock::Clock,
    config::Config,
    hub::Hub,
    log::{Change, Limits, Log, Observer, Stored},
    metrics::{Metrics, Now},
    serve::Connections,
    supervisor::Supervisor,
    telemetry,
};

/// How many changes may wait for the fan-out.
const WAITING: usize = 64;

/// Log and hub together; what one stores, the other is told.
#[derive(Clone, Debug)]
pub struct Streams {
    pub(super) log: Log,
    pub(super) hub: Hub,
    /// What is counted of them, and of the server that serves them.
    pub(super) metrics: Metrics,
    /// What keeps both at work.
    pub(super) supervisor: Supervisor,
}

/// Hears what the log does.
struct Ear {
    changes: mpsc::Sender<Change>,
    metrics: Metrics,
}

impl Observer for Ear {
    /// Who publishes faster than the watchers can be woken waits for them.
    fn changed(&mut self, change: Change) {
        drop(self.changes.blocking_send(change));
    }

    fn stored(&mut self, stored: Stored) {
        self.metrics.stored(stored);
    }
}

impl Streams {
    /// Opens the store that the configuration names. Ids are dated by `clock`; what has to go on
    /// for ever runs under `supervisor`.
    ///
    /// # Errors
    /// When the store can not be opened; says why.
    pub async fn open(
        config: &Config,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let limits = Limits {
            messages: config.keep_messages,
            age: config.keep_age.0,
            bytes: config.keep_bytes.0,
            streams: config.limits.max_streams,
            keys: config.keep_keys,
            all_keys: config.keep_keys_total,
        };
        let (hub, metrics) = (Hub::default(), Metrics::new());
        let (sender, mut changes) = mpsc::channel(WAITING);
        // A task wakes tasks more cheaply than a thread does.
        let fan_out = hub.clone();
        supervisor.spawn("fan-out", async move {
            while let Some(change) = changes.recv().await {
                fan_out.take(change);
            }
        });
        let ear = Ear { changes: sender, metrics: metrics.clone() };
        let log = Log::open(config.data.clone(), limits, clock, ear, supervisor).await?;
        Ok(Self { log, hub, metrics, supervisor: supervisor.clone() })
    }

    /// What is not counted but looked up.
    pub(super) async fn look(self, connections: Connections) -> Now {
        let (watched, lag) = self.hub.survey();
        Now {
            // Why not is in the log.
            holdings: self.log.holdings().await.ok(),
            trouble: self.log.trouble().is_some(),
            damaged: self.log.damaged().is_some(),
            connections: connections.open(),
            refused_connections: connections.refused(),
            watched,
            lag,
            dropped_log_lines: telemetry::dropped_lines(),
        }
    }
}
