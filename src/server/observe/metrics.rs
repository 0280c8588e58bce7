//! Prometheus metrics.
//!
//! Counting costs one or two atomic operations, cheap enough for every message to every reader. Values
//! that need a query (stored messages, the lag of readers) are read at the time of a scrape.

mod listener;
mod set;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};

use self::set::{Labels, MetricSet};
pub(crate) use self::{
    listener::router,
    set::{MemoryUsage, Sample},
};
use crate::message::ResetReason;

/// The reason of a refusal without a request: a connection over the limit, closed at once.
pub(crate) const REASON_CONNECTIONS: &str = "connections";

/// The metrics of one server; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<(MetricSet, Registry)>);

/// The kind of an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// A stored stream.
    Stored,
    /// A run of the counter.
    Counter,
    /// The list of the streams.
    List,
}

impl StreamKind {
    const ALL: [Self; 3] = [Self::Stored, Self::Counter, Self::List];

    fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Counter => "counter",
            Self::List => "list",
        }
    }
}

impl Metrics {
    /// Registers all metrics; `engine` registers those of the log engine.
    pub(crate) fn new(engine: impl FnOnce(&mut Registry)) -> Self {
        Self(Arc::new(MetricSet::register(engine)))
    }

    fn set(&self) -> &MetricSet {
        &self.0.0
    }

    /// An event stream was opened.
    pub(crate) fn opened(&self, kind: StreamKind) {
        self.set().watchers.get_or_create(&[("kind", kind.label().into())]).inc();
    }

    /// An event stream was closed.
    pub(crate) fn closed(&self, kind: StreamKind) {
        self.set().watchers.get_or_create(&[("kind", kind.label().into())]).dec();
    }

    /// Messages were delivered to a reader.
    pub(crate) fn delivered(&self, messages: u64, bytes: u64) {
        self.set().delivered.inc_by(messages);
        self.set().delivered_bytes.inc_by(bytes);
    }

    /// A reader connected with a cursor.
    pub(crate) fn resumed(&self) {
        self.set().resumes.inc();
    }

    /// A reader was sent a `reset` event.
    pub(crate) fn reset(&self, reason: ResetReason) {
        self.set().resets.get_or_create(&[("reason", reason.as_str().into())]).inc();
    }

    /// A message was published again with its idempotency key, and not stored again.
    pub(crate) fn replayed(&self) {
        self.set().replays.inc();
    }

    /// A request or a connection was refused: the slug of the problem, or [`REASON_CONNECTIONS`].
    pub(crate) fn refused(&self, reason: &'static str) {
        self.set().refusals.get_or_create(&[("reason", reason.into())]).inc();
    }

    /// A request was answered. `duration` is the time to the response; `None` for an upload, whose
    /// client decides how long it takes.
    pub(crate) fn answered(
        &self,
        route: &str,
        method: &'static str,
        status: u16,
        duration: Option<Duration>,
    ) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels: Labels<2> = [("route", route.to_owned().into()), ("method", method.into())];
        if let Some(duration) = duration {
            self.set().durations.get_or_create(&labels).observe(duration.as_secs_f64());
        }
        let [route, method] = labels;
        let labels = [route, method, ("status", class.into())];
        self.set().requests.get_or_create(&labels).inc();
    }

    /// All metrics in the `OpenMetrics` text format, with the values of `sample`.
    fn exposition(&self, sample: Sample) -> Result<String, fmt::Error> {
        let (set, registry) = &*self.0;
        set.apply(sample);
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, registry)?;
        Ok(text)
    }
}
