//! The set of metrics, with their names, help texts and labels.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Metric, Registry, Unit},
};

use super::{REASON_CONNECTIONS, StreamKind};
use crate::{message::ResetReason, problem};

/// The labels of a series. Label values must not come from a request: each value is a series, which
/// takes memory here and in Prometheus.
pub(super) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// The label of the part of the memory budget that is not reserved for requests.
const PART_TAILS: &str = "tails";

/// The metrics of a server, but for those of the log engine.
#[derive(Debug)]
pub(super) struct MetricSet {
    pub(super) watchers: Family<Labels<1>, Gauge>,
    pub(super) delivered: Counter,
    pub(super) delivered_bytes: Counter,
    pub(super) resumes: Counter,
    pub(super) resets: Family<Labels<1>, Counter>,
    pub(super) replays: Counter,
    pub(super) refusals: Family<Labels<1>, Counter>,
    pub(super) requests: Family<Labels<3>, Counter>,
    pub(super) durations: Family<Labels<2>, Histogram, Durations>,
    watched: Gauge,
    lag: Gauge,
    connections: Gauge,
    memory_bytes: Family<Labels<1>, Gauge>,
    memory_waits: Family<Labels<1>, Counter>,
    memory_refusals: Family<Labels<1>, Counter>,
    dropped_log_lines: Counter,
}

/// The values that are read at the time of a scrape.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The number of open connections.
    pub(crate) connections: u64,
    /// The number of connections closed at once because a limit was exceeded, so far.
    pub(crate) refused_connections: u64,
    /// The number of stored streams that have a watcher.
    pub(crate) watched: usize,
    /// The number of messages that the slowest reader is behind.
    pub(crate) lag: u64,
    /// The use of each part of the memory budget.
    pub(crate) memory: Vec<MemoryUsage>,
    /// The bytes in the tails of watched streams.
    pub(crate) tail_bytes: usize,
    /// The number of log lines dropped so far.
    pub(crate) dropped_log_lines: u64,
}

/// The use of a part of the memory budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUsage {
    /// The label of the part.
    pub(crate) part: &'static str,
    /// The reserved bytes.
    pub(crate) bytes: u64,
    /// The number of requests that had to wait, so far.
    pub(crate) waits: u64,
    /// The number of requests that were refused, so far.
    pub(crate) refusals: u64,
}

/// Creates histograms of durations, with buckets in seconds.
#[derive(Clone, Debug)]
pub(super) struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ])
    }
}

impl MetricSet {
    /// The metrics, and the registry that exposes them; `engine` registers those of the log engine.
    /// The library adds the unit and `_total` to names, and the full stop to help texts.
    pub(super) fn register(engine: impl FnOnce(&mut Registry)) -> (Self, Registry) {
        let mut all = Registry::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(now.as_secs_f64());
        let help = "When the server was started, in seconds since the Unix epoch";
        all.register_with_unit("process_start_time", help, Unit::Seconds, start);

        let registry = all.sub_registry_with_prefix("tidings");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the server", version);
        let durations = Family::new_with_constructor(Durations);
        let help = "Time to the response; without uploads of lines";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        let delivered_bytes = Counter::default();
        let help = "Bytes of events delivered to readers, before TLS";
        registry.register_with_unit("delivered", help, Unit::Bytes, delivered_bytes.clone());
        let memory_bytes = Family::default();
        let help = "Memory budget in use: by request bodies, by responses that are not event \
                    streams, by event streams, by the tails of watched streams";
        registry.register_with_unit("memory", help, Unit::Bytes, memory_bytes.clone());
        let set = Self {
            watchers: new(registry, "watchers", "Open event streams"),
            delivered: new(
                registry,
                "delivered_messages",
                "Messages delivered to readers, counted for each reader",
            ),
            delivered_bytes,
            resumes: new(registry, "resumes", "Readers that connected with a cursor"),
            resets: new(
                registry,
                "resets",
                "Reset events sent to readers, which start over or sign in again",
            ),
            replays: new(
                registry,
                "idempotent_replays",
                "Messages that were not stored again, because their idempotency key was known",
            ),
            refusals: new(
                registry,
                "refusals",
                "Refused requests by problem, and connections over the limit",
            ),
            requests: new(registry, "requests", "Answered requests"),
            durations,
            watched: new(registry, "watched_streams", "Stored streams with a watcher"),
            lag: new(
                registry,
                "slowest_reader_lag_messages",
                "Messages that the slowest reader is behind",
            ),
            connections: new(registry, "connections", "Open connections"),
            memory_bytes,
            memory_waits: new(registry, "memory_waits", "Requests that had to wait for memory"),
            memory_refusals: new(
                registry,
                "memory_refusals",
                "Requests refused for lack of memory",
            ),
            dropped_log_lines: new(
                registry,
                "dropped_log_lines",
                "Log lines that standard error did not take",
            ),
        };
        engine(registry);
        set.expose_zeros();
        (set, all)
    }

    /// A series is exposed as 0 before its first event.
    fn expose_zeros(&self) {
        for kind in StreamKind::ALL {
            drop(self.watchers.get_or_create(&[("kind", kind.label().into())]));
        }
        for reason in ResetReason::ALL {
            drop(self.resets.get_or_create(&[("reason", reason.as_str().into())]));
        }
        for slug in problem::ALL.iter().map(|kind| kind.slug).chain([REASON_CONNECTIONS]) {
            drop(self.refusals.get_or_create(&[("reason", slug.into())]));
        }
    }

    /// Sets the values of a scrape.
    pub(super) fn apply(&self, sample: Sample) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.watched.set(gauge(sample.watched as u64));
        self.lag.set(gauge(sample.lag));
        self.connections.set(gauge(sample.connections));
        for MemoryUsage { part, bytes, waits, refusals } in sample.memory {
            let part = [("part", part.into())];
            self.memory_bytes.get_or_create(&part).set(gauge(bytes));
            for (family, count) in [(&self.memory_waits, waits), (&self.memory_refusals, refusals)]
            {
                family.get_or_create(&part).inner().store(count, Ordering::Relaxed);
            }
        }
        let tails = [("part", PART_TAILS.into())];
        self.memory_bytes.get_or_create(&tails).set(gauge(sample.tail_bytes as u64));
        let refused = self.refusals.get_or_create(&[("reason", REASON_CONNECTIONS.into())]);
        self.dropped_log_lines.inner().store(sample.dropped_log_lines, Ordering::Relaxed);
        refused.inner().store(sample.refused_connections, Ordering::Relaxed);
    }
}

/// A new metric, registered by its name.
fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
