//! The numbers of a running server, as Prometheus reads them.
//!
//! To count costs an atomic or two, so that it can be done for every message to every reader. What
//! would have to be looked up (what is stored, who is behind) is looked up when somebody asks.

mod listener;
mod numbers;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};

use self::numbers::{Labels, Numbers};
pub(super) use self::{listener::router, numbers::Now};

/// The reason of a refusal that no request hears of: there are as many connections as may be.
pub(super) const CONNECTIONS: &str = "connections";

/// All numbers of one server; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Arc<(Numbers, Registry)>);

/// Which of the two kinds of streams is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// One that is stored.
    Stored,
    /// A run of the counter.
    Counter,
}

impl Watched {
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
    pub(super) fn new(engine: impl FnOnce(&mut Registry)) -> Self {
        let numbers = Numbers::default();
        let registry = numbers.register(engine);
        Self(Arc::new((numbers, registry)))
    }

    fn numbers(&self) -> &Numbers {
        &self.0.0
    }

    /// An event stream was opened.
    pub(super) fn opened(&self, watched: Watched) {
        self.numbers().watchers.get_or_create(&[("kind", watched.label().into())]).inc();
    }

    /// An event stream was closed.
    pub(super) fn closed(&self, watched: Watched) {
        self.numbers().watchers.get_or_create(&[("kind", watched.label().into())]).dec();
    }

    /// A reader was given something.
    pub(super) fn delivered(&self, messages: u64, bytes: u64) {
        self.numbers().delivered.inc_by(messages);
        self.numbers().delivered_bytes.inc_by(bytes);
    }

    /// A reader came with a cursor.
    pub(super) fn resumed(&self) {
        self.numbers().resumes.inc();
    }

    /// A reader had to begin anew, or to go.
    pub(super) fn reset(&self, reason: &'static str) {
        self.numbers().resets.get_or_create(&[("reason", reason.into())]).inc();
    }

    /// Someone published again what had been published under the same key.
    pub(super) fn replayed(&self) {
        self.numbers().replays.inc();
    }

    /// Something was refused: the slug of the problem, or [`CONNECTIONS`].
    pub(super) fn refused(&self, reason: &'static str) {
        self.numbers().refusals.get_or_create(&[("reason", reason.into())]).inc();
    }

    /// A request was answered; how long that took, unless it took as long as whoever asked wanted.
    pub(super) fn answered(
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
            self.numbers().durations.get_or_create(&of).observe(took.as_secs_f64());
        }
        let [route, method] = of;
        let labels = [route, method, ("status", class.into())];
        self.numbers().requests.get_or_create(&labels).inc();
    }

    /// Everything, in the text format of `OpenMetrics`, with what was just looked up.
    fn exposition(&self, now: Now) -> Result<String, fmt::Error> {
        let (numbers, registry) = &*self.0;
        numbers.set(now);
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, registry)?;
        Ok(text)
    }
}
