//! The streams: the log that keeps them, and those of them that are watched.

use super::{
    clock::Clock,
    config::Config,
    guard::MemoryBudget,
    hub::{Hub, Sizes},
    log::{Log, RetentionLimits},
    net::Connections,
    observe::{Metrics, Sample, logging},
    supervisor::Supervisor,
};

/// Log and hub together; the one follows what the other stores.
#[derive(Clone, Debug)]
pub struct Streams {
    pub(crate) log: Log,
    pub(crate) hub: Hub,
    /// What bounds the memory that they, and those who use them, take.
    pub(crate) memory: MemoryBudget,
    /// What is counted of them, and of the server that serves them.
    pub(crate) metrics: Metrics,
    /// What keeps both at work.
    pub(crate) supervisor: Supervisor,
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
        let limits = RetentionLimits {
            messages: config.keep_messages,
            age: config.keep_age.0,
            bytes: config.keep_bytes.0,
            streams: config.limits.max_streams,
            keys: config.keep_keys,
            all_keys: config.keep_keys_total,
        };
        let max_message_bytes = config.limits.max_message_bytes.0;
        let memory = MemoryBudget::new(config.limits.memory_budget(), max_message_bytes);
        let log = Log::open(config.data.clone(), limits, clock, supervisor).await?;
        let sizes = Sizes::with_all_tails(memory.tails());
        let hub = Hub::new(log.clone(), supervisor.clone(), memory.clone(), sizes);
        let metrics = Metrics::new(|registry| log.register_metrics(registry));
        Ok(Self { log, hub, memory, metrics, supervisor: supervisor.clone() })
    }

    /// The metrics that are not counted but read.
    pub(crate) async fn sample(self, connections: Connections) -> Sample {
        self.log.refresh_metrics().await;
        let (watched, lag) = self.hub.survey();
        Sample {
            connections: connections.open(),
            refused_connections: connections.refused(),
            watched,
            lag,
            memory: self.memory.usage(),
            tail_bytes: self.hub.tail_bytes(),
            dropped_log_lines: logging::dropped_lines(),
        }
    }
}
