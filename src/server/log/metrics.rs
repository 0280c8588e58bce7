//! Prometheus metrics of the engine.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Counters and histograms, updated at each commit, and gauges, updated at each scrape.
#[derive(Clone, Debug)]
pub(crate) struct EngineMetrics {
    published: Counter,
    commit_durations: Histogram,
    commit_sizes: Histogram,
    streams: Gauge,
    messages: Gauge,
    bytes: Gauge,
    unwritable: Gauge,
    damaged: Gauge,
}

/// How much the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStats {
    pub(crate) streams: u64,
    pub(crate) messages: u64,
    /// Size of the store in bytes, including unused space and the write-ahead log.
    pub(crate) bytes: u64,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            published: Counter::default(),
            commit_durations: Histogram::new([
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                10.0,
            ]),
            commit_sizes: Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]),
            streams: Gauge::default(),
            messages: Gauge::default(),
            bytes: Gauge::default(),
            unwritable: Gauge::default(),
            damaged: Gauge::default(),
        }
    }
}

impl EngineMetrics {
    /// Registers the metrics. The library adds `_total`, the unit, and the full stop of the help text.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut gauge = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("streams", "Streams in the store", &self.streams);
        gauge("stored_messages", "Messages in the store", &self.messages);
        gauge("store_trouble", "Whether the store cannot be written: 0 or 1", &self.unwritable);
        let help = "Whether the file of the store is known to be damaged: 0 or 1";
        gauge("store_damaged", help, &self.damaged);
        let help = "Size of the store on disk, with its write-ahead log";
        registry.register_with_unit("store", help, Unit::Bytes, self.bytes.clone());
        let help = "Messages that were stored";
        registry.register("published_messages", help, self.published.clone());
        let help = "Duration of a transaction that stores messages";
        let durations = self.commit_durations.clone();
        registry.register_with_unit("commit_duration", help, Unit::Seconds, durations);
        let help = "Messages per transaction";
        registry.register("commit_messages", help, self.commit_sizes.clone());
    }

    /// Records a committed transaction: its number of messages, and how long it took.
    pub(crate) fn committed(&self, messages: usize, took: Duration) {
        self.published.inc_by(messages as u64);
        self.commit_durations.observe(took.as_secs_f64());
        self.commit_sizes.observe(u32::try_from(messages).unwrap_or(u32::MAX).into());
    }

    /// Sets the gauges. Without `stats`, those of the last scrape stay.
    pub(crate) fn set(&self, stats: Option<LogStats>, unwritable: bool, damaged: bool) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(stats) = stats {
            self.streams.set(number(stats.streams));
            self.messages.set(number(stats.messages));
            self.bytes.set(number(stats.bytes));
        }
        self.unwritable.set(unwritable.into());
        self.damaged.set(damaged.into());
    }
}
