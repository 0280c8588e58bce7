//! The shared state of all streams: the log, the hub, the live list, the memory budget and the metrics.

use super::{
    clock::Clock,
    config::Config,
    guard::MemoryBudget,
    hub::{BufferSizes, Hub},
    log::{Log, RetentionLimits},
    net::Connections,
    observe::{Metrics, Sample, logging},
    stream_list::StreamList,
    supervisor::Supervisor,
};

/// The log, the hub that follows it for watched streams, and the list of them; a cheap clone.
#[derive(Clone, Debug)]
pub struct Streams {
    pub(crate) log: Log,
    pub(crate) hub: Hub,
    pub(crate) list: StreamList,
    /// The memory budget of the hub and of requests.
    pub(crate) memory: MemoryBudget,
    /// The metrics of the log and of the server.
    pub(crate) metrics: Metrics,
    /// The supervisor of the background tasks and threads.
    pub(crate) supervisor: Supervisor,
}

impl Streams {
    /// Opens the store of the configuration. `clock` dates the ids; background tasks and threads run
    /// under `supervisor`.
    ///
    /// # Errors
    /// When the store cannot be opened. The error has the reason.
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
        let log = Log::open(config.store(), limits, clock, supervisor).await?;
        let sizes = BufferSizes::with_all_tails(memory.tails());
        let hub = Hub::new(log.clone(), supervisor.clone(), memory.clone(), sizes);
        if log.is_shared() {
            supervisor.spawn("exchange of watchers", hub.clone().exchange_watchers());
        }
        let list = StreamList::new(log.clone(), hub.clone(), supervisor.clone());
        let metrics = Metrics::new(|registry| log.register_metrics(registry));
        Ok(Self { log, hub, list, memory, metrics, supervisor: supervisor.clone() })
    }

    /// Reads the current values of the gauges.
    pub(crate) async fn sample(self, connections: Connections) -> Sample {
        self.log.refresh_metrics().await;
        let (watched, lag) = self.hub.stats();
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
