//! Which numbers there are, and what they are called.

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
    registry::{Registry, Unit},
};

use super::{CONNECTIONS, StreamKind};
use crate::problem;

/// What tells the members of a family from each other. Whatever comes from outside must not get
/// into a label: each value costs memory, here and where it is stored.
pub(super) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// The part of the memory budget that is not reserved for requests, as a label.
const TAILS: &str = "tails";

/// The numbers.
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
    /// How many connections are open.
    pub(crate) connections: u64,
    /// How many were one too many, so far.
    pub(crate) refused_connections: u64,
    /// How many streams are watched.
    pub(crate) watched: usize,
    /// How many messages the slowest reader is behind.
    pub(crate) lag: u64,
    /// What of the memory budget is in use.
    pub(crate) memory: Vec<MemoryUsage>,
    /// How many bytes the tails of watched streams have.
    pub(crate) tail_bytes: usize,
    /// How many lines of the log were dropped, so far.
    pub(crate) dropped_log_lines: u64,
}

/// What is in use of a part of the memory budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUsage {
    /// The label of the part.
    pub(crate) part: &'static str,
    /// Bytes that are reserved.
    pub(crate) bytes: u64,
    /// How many requests had to wait, so far.
    pub(crate) waits: u64,
    /// How many were refused, so far.
    pub(crate) refusals: u64,
}

/// Makes histograms of durations.
#[derive(Clone, Debug)]
pub(super) struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ])
    }
}

impl Default for MetricSet {
    fn default() -> Self {
        let set = Self {
            watchers: Family::default(),
            delivered: Counter::default(),
            delivered_bytes: Counter::default(),
            resumes: Counter::default(),
            resets: Family::default(),
            replays: Counter::default(),
            refusals: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(Durations),
            watched: Gauge::default(),
            lag: Gauge::default(),
            connections: Gauge::default(),
            memory_bytes: Family::default(),
            memory_waits: Family::default(),
            memory_refusals: Family::default(),
            dropped_log_lines: Counter::default(),
        };
        // What never happened is 0, and not unknown.
        for kind in StreamKind::ALL {
            drop(set.watchers.get_or_create(&[("kind", kind.label().into())]));
        }
        for reason in ["unknown-cursor", "trimmed", "deleted", "expired"] {
            drop(set.resets.get_or_create(&[("reason", reason.into())]));
        }
        for slug in problem::ALL.iter().map(|kind| kind.slug).chain([CONNECTIONS]) {
            drop(set.refusals.get_or_create(&[("reason", slug.into())]));
        }
        set
    }
}

impl MetricSet {
    /// Gives them their names. The library adds `_total`, the unit, and the full stop of the help.
    /// `engine` names those of the log.
    pub(super) fn register(&self, engine: impl FnOnce(&mut Registry)) -> Registry {
        let mut all = Registry::default();
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(begun.as_secs_f64());
        let help = "When the server was started, since the Unix epoch";
        all.register_with_unit("process_start_time", help, Unit::Seconds, start);

        let all_of_ours = all.sub_registry_with_prefix("tidings");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all_of_ours.register("build", "What is running", version);
        self.register_reading(all_of_ours);
        all_of_ours.register(
            "idempotent_replays",
            "Messages that had been stored before, under the same key",
            self.replays.clone(),
        );
        engine(all_of_ours);
        self.register_requests(all_of_ours);
        all
    }

    fn register_reading(&self, to: &mut Registry) {
        to.register("watchers", "Event streams that are open", self.watchers.clone());
        to.register(
            "watched_streams",
            "Stored streams that somebody watches",
            self.watched.clone(),
        );
        to.register(
            "delivered_messages",
            "Messages given to readers, each time for each reader",
            self.delivered.clone(),
        );
        let help = "Bytes of events given to readers, before any encryption";
        to.register_with_unit("delivered", help, Unit::Bytes, self.delivered_bytes.clone());
        to.register(
            "slowest_reader_lag_messages",
            "How many messages the slowest reader is behind",
            self.lag.clone(),
        );
        to.register("resumes", "Readers that came with a cursor", self.resumes.clone());
        to.register(
            "resets",
            "Readers that were told to begin anew, or to sign in again",
            self.resets.clone(),
        );
    }

    fn register_requests(&self, to: &mut Registry) {
        to.register("requests", "Requests that were answered", self.requests.clone());
        to.register("connections", "Connections that are open", self.connections.clone());
        let help = "How long an answer took to begin; without uploads of lines";
        to.register_with_unit("request_duration", help, Unit::Seconds, self.durations.clone());
        to.register(
            "refusals",
            "What was refused: the problem, or connections beyond the limit",
            self.refusals.clone(),
        );
        let help = "What is in use of the memory budget: by request bodies, by answers that are not \
                    streams, by the newest messages of watched streams";
        to.register_with_unit("memory", help, Unit::Bytes, self.memory_bytes.clone());
        to.register(
            "memory_waits",
            "Requests that had to wait for memory",
            self.memory_waits.clone(),
        );
        to.register(
            "memory_refusals",
            "Requests for which there was no memory",
            self.memory_refusals.clone(),
        );
        to.register(
            "dropped_log_lines",
            "Lines of the log that standard error did not take",
            self.dropped_log_lines.clone(),
        );
    }

    /// Takes over what was looked up.
    pub(super) fn apply(&self, sample: Sample) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.watched.set(number(sample.watched as u64));
        self.lag.set(number(sample.lag));
        self.connections.set(number(sample.connections));
        for MemoryUsage { part, bytes, waits, refusals } in sample.memory {
            let part = [("part", part.into())];
            self.memory_bytes.get_or_create(&part).set(number(bytes));
            for (family, count) in [(&self.memory_waits, waits), (&self.memory_refusals, refusals)]
            {
                family.get_or_create(&part).inner().store(count, Ordering::Relaxed);
            }
        }
        let tails = [("part", TAILS.into())];
        self.memory_bytes.get_or_create(&tails).set(number(sample.tail_bytes as u64));
        let refused = self.refusals.get_or_create(&[("reason", CONNECTIONS.into())]);
        self.dropped_log_lines.inner().store(sample.dropped_log_lines, Ordering::Relaxed);
        refused.inner().store(sample.refused_connections, Ordering::Relaxed);
    }
}
