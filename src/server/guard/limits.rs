//! Which limits a client is held to: rate limits for publishing, reading and signing in, and concurrency
//! limits. The algorithms are in `rates` and `permits`.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::Quota;

use super::{
    access::Publisher,
    permits::{ConcurrencyLimit, Exceeded, Permit},
    rates::{AddressRateLimit, RateLimit},
};
use crate::{
    problem,
    server::{client::Address, error::Problem, supervisor::Supervisor},
};

/// The burst of a rate limit, in seconds of its rate.
const BURST: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// `Retry-After` when there is no permit for a watcher. An estimate: one may become free at any time.
const RETRY_AFTER_WATCHERS: Duration = Duration::from_secs(30);
/// `Retry-After` when there is no permit for a request. An estimate.
const RETRY_AFTER_REQUESTS: Duration = Duration::from_secs(1);
/// How often the state of idle clients is removed.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The rate limits per client; `None` means no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Messages per second, per token name, or per address without access control.
    pub(crate) publishes: Option<NonZeroU32>,
    /// Pages per second.
    pub(crate) reads: Option<NonZeroU32>,
    /// Attempts to sign in per minute.
    pub(crate) sign_ins: Option<NonZeroU32>,
}

/// The limits and the state of each client; a cheap clone.
#[derive(Clone)]
pub(crate) struct Limits {
    publishes: Option<Arc<PublishRate>>,
    reads: Option<Arc<AddressRateLimit>>,
    sign_ins: Option<Arc<AddressRateLimit>>,
    /// Requests in progress. The total is bounded by the connections.
    requests: ConcurrencyLimit,
    /// Open event streams.
    pub(crate) watchers: ConcurrencyLimit,
}

impl Limits {
    /// Spawns the task that removes the state of idle clients, under `supervisor`.
    pub(crate) fn new(
        rates: Rates,
        requests: ConcurrencyLimit,
        watchers: ConcurrencyLimit,
        supervisor: &Supervisor,
    ) -> Self {
        let Rates { publishes, reads, sign_ins } = rates;
        let limits = Self {
            publishes: publishes.map(|rate| Arc::new(PublishRate::new(rate))),
            reads: reads.map(|rate| Arc::new(AddressRateLimit::new(rate, per_second))),
            sign_ins: sign_ins.map(|rate| Arc::new(AddressRateLimit::new(rate, Quota::per_minute))),
            requests,
            watchers,
        };
        supervisor.spawn("sweep of the rate limits", limits.clone().sweep());
        limits
    }

    async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            if let Some(limit) = &self.publishes {
                limit.tokens.retain_recent();
                limit.addresses.retain_recent();
            }
            for limit in self.reads.iter().chain(&self.sign_ins) {
                limit.retain_recent();
            }
        }
    }

    /// Counts a message against the publisher's rate limit.
    ///
    /// # Errors
    /// When the limit is exceeded.
    pub(crate) fn publish(&self, publisher: &Publisher) -> Result<(), Problem> {
        let Some(limit) = &self.publishes else { return Ok(()) };
        limit.acquire(publisher, NonZeroU32::MIN).map_err(|wait| {
            let detail = "Publish more slowly, or send many messages in one request with ?lines, \
                          which waits for the limit.";
            Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(wait)
        })
    }

    /// Waits until the rate limit allows this number of messages, and counts them.
    pub(crate) async fn wait_to_publish(&self, publisher: &Publisher, messages: usize) {
        let Some(limit) = &self.publishes else { return };
        // In small portions: a publisher that waits for many would be overtaken by others all the time.
        let max = (limit.rate.get() / 10).max(1);
        let mut remaining = u32::try_from(messages).unwrap_or(u32::MAX);
        while let Some(portion) = NonZeroU32::new(remaining.min(max)) {
            while let Err(wait) = limit.acquire(publisher, portion) {
                tokio::time::sleep(wait).await;
            }
            remaining -= portion.get();
        }
    }

    /// Counts a page, or a list that costs as much as several pages, against the client's rate limit.
    ///
    /// # Errors
    /// When the limit is exceeded.
    pub(crate) fn read(&self, address: Address, cost: NonZeroU32) -> Result<(), Problem> {
        let Some(limit) = &self.reads else { return Ok(()) };
        limit.acquire(address, cost).map_err(|wait| {
            let detail = "Read more slowly, or watch the event stream, which pushes new messages.";
            Problem::new(problem::TOO_MANY_READS, detail).retry_after(wait)
        })
    }

    /// Acquires a permit for a request.
    ///
    /// # Errors
    /// When the client has as many requests in progress as it may.
    pub(crate) fn request(&self, address: Address) -> Result<Permit, Problem> {
        self.requests.acquire(Some(address)).map_err(|_| {
            let detail = "Wait for a response before you send more requests.";
            Problem::new(problem::TOO_MANY_REQUESTS, detail).retry_after(RETRY_AFTER_REQUESTS)
        })
    }

    /// Acquires a permit for an event stream.
    ///
    /// # Errors
    /// When the server or the client has as many as it may.
    pub(crate) fn watch(&self, address: Address) -> Result<Permit, Problem> {
        let (kind, detail) = match self.watchers.acquire(Some(address)) {
            Ok(permit) => return Ok(permit),
            Err(Exceeded::Global) => (
                problem::SERVER_FULL,
                "The server has reached its limit of event streams. Try again later.",
            ),
            Err(Exceeded::PerClient) => (
                problem::TOO_MANY_WATCHERS,
                "Your address has reached its limit of event streams. Close one or try again later.",
            ),
        };
        Err(Problem::new(kind, detail).retry_after(RETRY_AFTER_WATCHERS))
    }

    /// Counts an attempt to sign in against the client's rate limit.
    ///
    /// # Errors
    /// When the limit is exceeded.
    pub(crate) fn sign_in(&self, address: Address) -> Result<(), Problem> {
        let Some(limit) = &self.sign_ins else { return Ok(()) };
        limit.acquire(address, NonZeroU32::MIN).map_err(|wait| {
            Problem::new(problem::TOO_MANY_SIGN_INS, "Wait before the next attempt.")
                .retry_after(wait)
        })
    }
}

/// The rate limit of published messages.
struct PublishRate {
    /// Messages per second.
    rate: NonZeroU32,
    tokens: RateLimit<String>,
    addresses: AddressRateLimit,
}

impl PublishRate {
    fn new(rate: NonZeroU32) -> Self {
        Self {
            rate,
            tokens: RateLimit::new(per_second(rate)),
            addresses: AddressRateLimit::new(rate, per_second),
        }
    }

    /// Acquires `number`, which is at most a burst.
    ///
    /// # Errors
    /// How long to wait, when the limit is exceeded.
    fn acquire(&self, publisher: &Publisher, number: NonZeroU32) -> Result<(), Duration> {
        match publisher {
            Publisher::Token(name) => self.tokens.acquire(name, number),
            Publisher::Address(address) => self.addresses.acquire(*address, number),
        }
    }
}

/// A quota per second, with a burst of ten seconds.
fn per_second(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST))
}
