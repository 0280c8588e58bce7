//! The numbers of a running server, as Prometheus reads them.
//!
//! To count costs an atomic or two, so that it can be done for every message to every reader. What
//! would have to be looked up (what is stored, who is behind) is looked up when somebody asks.

mod listener;
mod set;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};

use self::set::{Labels, MetricSet};
pub(crate) use self::{
    listener::router,
    set::{MemoryUsage, Sample},
};

/// The reason of a refusal that no request hears of: there are as many connections as may be.
pub(crate) const CONNECTIONS: &str = "connections";

/// All numbers of one server; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<(MetricSet, Registry)>);

/// Which of the two kinds of streams is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// One that is stored.
    Stored,
    /// A run of the counter.
    Counter,
}

impl StreamKind {
    const ALL: [Self; 2] = [Self::Stored, Self::Counter];

    fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Counter => "counter",
        }
    }
}

impl Metrics {
    /// All of them; `engine` names those of the log.
    pub(crate) fn new(engine: impl FnOnce(&mut Registry)) -> Self {
        let set = MetricSet::default();
        let registry = set.register(engine);
        Self(Arc::new((set, registry)))
    }

    fn set(&self) -> &MetricSet {
        &self.0.0
    }

    /// An event stream was opened.
    pub(crate) fn opened(&self, watched: StreamKind) {
        self.set().watchers.get_or_create(&[("kind", watched.label().into())]).inc();
    }

    /// An event stream was closed.
    pub(crate) fn closed(&self, watched: StreamKind) {
        self.set().watchers.get_or_create(&[("kind", watched.label().into())]).dec();
    }

    /// A reader was given something.
    pub(crate) fn delivered(&self, messages: u64, bytes: u64) {
        self.set().delivered.inc_by(messages);
        self.set().delivered_bytes.inc_by(bytes);
    }

    /// A reader came with a cursor.
    pub(crate) fn resumed(&self) {
        self.set().resumes.inc();
    }

    /// A reader had to begin anew, or to go.
    pub(crate) fn reset(&self, reason: &'static str) {
        self.set().resets.get_or_create(&[("reason", reason.into())]).inc();
    }

    /// Someone published again what had been published under the same key.
    pub(crate) fn replayed(&self) {
        self.set().replays.inc();
    }

    /// Something was refused: the slug of the problem, or [`CONNECTIONS`].
    pub(crate) fn refused(&self, reason: &'static str) {
        self.set().refusals.get_or_create(&[("reason", reason.into())]).inc();
    }

    /// A request was answered; how long that took, unless it took as long as whoever asked wanted.
    pub(crate) fn answered(
        &self,
        route: &str,
        method: &'static str,
        status: u16,
        took: Option<Duration>,
    ) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let of: Labels<2> = [("route", route.to_owned().into()), ("method", method.into())];
        if let Some(took) = took {
            self.set().durations.get_or_create(&of).observe(took.as_secs_f64());
        }
        let [route, method] = of;
        let labels = [route, method, ("status", class.into())];
        self.set().requests.get_or_create(&labels).inc();
    }

    /// Everything, in the text format of `OpenMetrics`, with what was just looked up.
    fn exposition(&self, sample: Sample) -> Result<String, fmt::Error> {
        let (set, registry) = &*self.0;
        set.apply(sample);
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, registry)?;
        Ok(text)
    }
}
