//! Limits: concurrency limits and rate limits per client, and the memory budget.

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

/// How many seconds' worth may come at once.
const BURST: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// When to ask for a watcher's permit again, about: one may become free at any time.
const RETRY_AFTER_WATCHERS: Duration = Duration::from_secs(30);
/// When another request may be answered, about.
const RETRY_AFTER_REQUESTS: Duration = Duration::from_secs(1);
/// How often clients are forgotten that have not come for a while.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The rates that each client is held to; none where there is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Messages a second, of a token, or of an address where there are no tokens.
    pub(crate) publishes: Option<NonZeroU32>,
    /// Pages a second.
    pub(crate) reads: Option<NonZeroU32>,
    /// Attempts to sign in, a minute.
    pub(crate) sign_ins: Option<NonZeroU32>,
}

/// The limits, and how near each client is to them; a handle that is cloned around.
#[derive(Clone)]
pub(crate) struct Limits {
    publishes: Option<Arc<PublishRate>>,
    reads: Option<Arc<AddressRateLimit>>,
    sign_ins: Option<Arc<AddressRateLimit>>,
    /// Requests that are being answered; connections bound how many there are in all.
    requests: ConcurrencyLimit,
    /// Open event streams.
    pub(crate) watchers: ConcurrencyLimit,
}

impl Limits {
    /// What the rate limits remember of each client is swept under `supervisor`.
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

    /// Counts a message, unless its publisher has to wait.
    pub(crate) fn publish(&self, publisher: &Publisher) -> Result<(), Problem> {
        let Some(limit) = &self.publishes else { return Ok(()) };
        limit.acquire(publisher, NonZeroU32::MIN).map_err(|wait| {
            let detail = "Publish more slowly, or many messages at a time with ?lines, which waits \
                          by itself.";
            Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(wait)
        })
    }

    /// Waits until so many messages may be published, and counts them.
    pub(crate) async fn publish_in_turn(&self, publisher: &Publisher, messages: usize) {
        let Some(limit) = &self.publishes else { return };
        // A publisher that waits for much is overtaken by those that want little, again and again.
        let max = (limit.rate.get() / 10).max(1);
        let mut left = u32::try_from(messages).unwrap_or(u32::MAX);
        while let Some(some) = NonZeroU32::new(left.min(max)) {
            while let Err(wait) = limit.acquire(publisher, some) {
                tokio::time::sleep(wait).await;
            }
            left -= some.get();
        }
    }

    /// Counts a page that is read, or a list that costs as much as several, unless there were too many.
    pub(crate) fn read(&self, address: Address, cost: NonZeroU32) -> Result<(), Problem> {
        let Some(limit) = &self.reads else { return Ok(()) };
        limit.acquire(address, cost).map_err(|wait| {
            let detail =
                "Read more slowly, or watch the events of a stream, which come by themselves.";
            Problem::new(problem::TOO_MANY_READS, detail).retry_after(wait)
        })
    }

    /// A permit to be answered, if there is one.
    pub(crate) fn request(&self, address: Address) -> Result<Permit, Problem> {
        self.requests.acquire(Some(address)).map_err(|_| {
            let detail = "Wait for an answer before you ask for more.";
            Problem::new(problem::TOO_MANY_REQUESTS, detail).retry_after(RETRY_AFTER_REQUESTS)
        })
    }

    /// A permit to watch, if there is one.
    pub(crate) fn watch(&self, address: Address) -> Result<Permit, Problem> {
        let (kind, detail) = match self.watchers.acquire(Some(address)) {
            Ok(permit) => return Ok(permit),
            Err(Exceeded::Global) => (
                problem::SERVER_FULL,
                "As many streams are open as the server can serve. Try again later.",
            ),
            Err(Exceeded::PerClient) => (
                problem::TOO_MANY_WATCHERS,
                "As many streams are open to your address as may be. Close one, or try again later.",
            ),
        };
        Err(Problem::new(kind, detail).retry_after(RETRY_AFTER_WATCHERS))
    }

    /// Counts an attempt to sign in, unless there were too many.
    pub(crate) fn sign_in(&self, address: Address) -> Result<(), Problem> {
        let Some(limit) = &self.sign_ins else { return Ok(()) };
        limit.acquire(address, NonZeroU32::MIN).map_err(|wait| {
            Problem::new(problem::TOO_MANY_SIGN_INS, "Wait a little before the next attempt.")
                .retry_after(wait)
        })
    }
}

/// The rate at which messages are published.
struct PublishRate {
    /// Messages a second.
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

    /// Acquires `number`, which is no more than may come at once, or tells how long to wait.
    fn acquire(&self, publisher: &Publisher, number: NonZeroU32) -> Result<(), Duration> {
        match publisher {
            Publisher::Token(name) => self.tokens.acquire(name, number),
            Publisher::Address(address) => self.addresses.acquire(*address, number),
        }
    }
}

/// The quota of a rate a second.
fn per_second(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST))
}
