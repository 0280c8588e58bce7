//! Limits per client: concurrency limits and rate limits.

mod permits;

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};

pub(super) use self::permits::{ConcurrencyLimit, Exceeded, Permit};
use super::{
    access::Publisher,
    client::Address,
    config::{LimitOptions, Rate},
    error::Problem,
};
use crate::problem;

/// How many seconds' worth of messages may come at once.
const BURST: u32 = 10;
/// When to ask for a watcher's permit again, about: one may become free at any time.
const RETRY_AFTER_WATCHERS: Duration = Duration::from_secs(30);
/// When another request may be answered, about.
const RETRY_AFTER_REQUESTS: Duration = Duration::from_secs(1);
/// How often clients are forgotten that have not come for a while.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The limits, and how near each client is to them; a handle that is cloned around.
#[derive(Clone)]
pub(super) struct Limits {
    publishes: Option<Arc<RateLimit<Publisher>>>,
    sign_ins: Option<Arc<RateLimit<Address>>>,
    /// Requests that are being answered; connections bound how many there are in all.
    requests: ConcurrencyLimit,
    /// Open event streams.
    pub(super) watchers: ConcurrencyLimit,
}

impl Limits {
    /// To be called inside a runtime.
    pub(super) fn new(options: &LimitOptions) -> Self {
        let publishes = |rate: NonZeroU32| {
            let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1));
            Quota::per_second(rate).allow_burst(burst)
        };
        Self {
            publishes: rate_limit(options.publish_rate, publishes),
            sign_ins: rate_limit(options.sign_in_rate, Quota::per_minute),
            requests: ConcurrencyLimit::new(u64::MAX, options.max_requests_per_address),
            watchers: ConcurrencyLimit::new(options.max_watchers, options.max_watchers_per_address),
        }
    }

    /// Counts a message, unless its publisher has to wait.
    pub(super) fn publish(&self, publisher: &Publisher) -> Result<(), Problem> {
        let Some(limit) = &self.publishes else { return Ok(()) };
        limit.acquire(publisher, NonZeroU32::MIN).map_err(|wait| {
            let detail = "Publish more slowly, or many messages at a time with ?lines, which waits \
                          by itself.";
            Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(wait)
        })
    }

    /// Waits until so many messages may be published, or as many of them as a second allows; tells
    /// how many.
    pub(super) async fn publish_some(&self, publisher: &Publisher, wanted: usize) -> usize {
        let asked = NonZeroU32::new(u32::try_from(wanted).unwrap_or(u32::MAX));
        let (Some(limit), Some(asked)) = (&self.publishes, asked) else { return wanted };
        let many = asked.min(limit.rate);
        if limit.acquire(publisher, many).is_ok() {
            return many.get() as usize;
        }
        // A publisher that waits for much is overtaken by those that want little, again and again.
        let some = NonZeroU32::new(limit.rate.get() / 10).unwrap_or(NonZeroU32::MIN).min(asked);
        while let Err(wait) = limit.acquire(publisher, some) {
            tokio::time::sleep(wait).await;
        }
        some.get() as usize
    }

    /// A permit to be answered, if there is one.
    pub(super) fn request(&self, address: Address) -> Result<Permit, Problem> {
        self.requests.acquire(Some(address)).map_err(|_| {
            let detail = "Wait for an answer before you ask for more.";
            Problem::new(problem::TOO_MANY_REQUESTS, detail).retry_after(RETRY_AFTER_REQUESTS)
        })
    }

    /// A permit to watch, if there is one.
    pub(super) fn watch(&self, address: Address) -> Result<Permit, Problem> {
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
    pub(super) fn sign_in(&self, address: Address) -> Result<(), Problem> {
        let Some(limit) = &self.sign_ins else { return Ok(()) };
        limit.acquire(&address, NonZeroU32::MIN).map_err(|wait| {
            Problem::new(problem::TOO_MANY_SIGN_INS, "Wait a little before the next attempt.")
                .retry_after(wait)
        })
    }
}

/// A rate limit per key.
struct RateLimit<Key: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<Key>,
    rate: NonZeroU32,
}

fn rate_limit<Key: Clone + Eq + Hash + Send + Sync + 'static>(
    rate: Rate,
    quota: impl FnOnce(NonZeroU32) -> Quota,
) -> Option<Arc<RateLimit<Key>>> {
    let rate = rate.0?;
    let limiter = DefaultKeyedRateLimiter::keyed(quota(rate));
    let limit = Arc::new(RateLimit { limiter, rate });
    let forgetful = Arc::downgrade(&limit);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let Some(limit) = forgetful.upgrade() else { return };
            limit.limiter.retain_recent();
        }
    });
    Some(limit)
}

impl<Key: Clone + Eq + Hash> RateLimit<Key> {
    /// Acquires `number`, which is no more than may come at once, or tells how long to wait.
    fn acquire(&self, key: &Key, number: NonZeroU32) -> Result<(), Duration> {
        match self.limiter.check_key_n(key, number) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(DefaultClock::default().now())),
            Err(_more_than_the_burst) => Err(SWEEP_INTERVAL),
        }
    }
}
