//! Limits: that one who asks for too much does not take what is everyone's.

mod seats;

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};

pub(super) use self::seats::{Full, Seat, Seats};
use super::{
    access::Publisher,
    client::Address,
    config::{LimitOptions, Rate},
    error::Problem,
};
use crate::problem;

/// How many seconds' worth of messages may come at once.
const BURST: u32 = 10;
/// When to ask for a seat again, about: one may become free at any time.
const AGAIN: Duration = Duration::from_secs(30);
/// When another request may be answered, about.
const SHORTLY: Duration = Duration::from_secs(1);
/// How often those are forgotten who have not come for a while.
const SWEEP: Duration = Duration::from_mins(1);

/// The limits, and who is how near to them; a handle that is cloned around.
#[derive(Clone)]
pub(super) struct Limits {
    publishes: Option<Arc<Rated<Publisher>>>,
    sign_ins: Option<Arc<Rated<Address>>>,
    /// The seats of requests that are being answered; connections bound how many there are in all.
    requests: Seats,
    /// The seats of those who watch.
    pub(super) watchers: Seats,
}

impl Limits {
    /// To be called inside a runtime.
    pub(super) fn new(options: &LimitOptions) -> Self {
        let publishes = |rate: NonZeroU32| {
            let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1));
            Quota::per_second(rate).allow_burst(burst)
        };
        Self {
            publishes: rated(options.publish_rate, publishes),
            sign_ins: rated(options.sign_in_rate, Quota::per_minute),
            requests: Seats::new(u64::MAX, options.max_requests_per_address),
            watchers: Seats::new(options.max_watchers, options.max_watchers_per_address),
        }
    }

    /// Counts a message, unless its publisher has to wait.
    pub(super) fn publish(&self, publisher: &Publisher) -> Result<(), Problem> {
        let Some(rated) = &self.publishes else { return Ok(()) };
        rated.take(publisher, NonZeroU32::MIN).map_err(|wait| {
            let detail = "Publish more slowly, or many messages at a time with ?lines, which waits \
                          by itself.";
            Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(wait)
        })
    }

    /// Waits until so many messages may be published, or as many of them as a second allows; tells
    /// how many.
    pub(super) async fn publish_some(&self, publisher: &Publisher, wanted: usize) -> usize {
        let asked = NonZeroU32::new(u32::try_from(wanted).unwrap_or(u32::MAX));
        let (Some(rated), Some(asked)) = (&self.publishes, asked) else { return wanted };
        let many = asked.min(rated.rate);
        if rated.take(publisher, many).is_ok() {
            return many.get() as usize;
        }
        // Whoever waits for much is overtaken by those who want little, again and again.
        let some = NonZeroU32::new(rated.rate.get() / 10).unwrap_or(NonZeroU32::MIN).min(asked);
        while let Err(wait) = rated.take(publisher, some) {
            tokio::time::sleep(wait).await;
        }
        some.get() as usize
    }

    /// A seat to be answered, if there is one.
    pub(super) fn request(&self, address: Address) -> Result<Seat, Problem> {
        self.requests.take(Some(address)).map_err(|_| {
            let detail = "Wait for an answer before you ask for more.";
            Problem::new(problem::TOO_MANY_REQUESTS, detail).retry_after(SHORTLY)
        })
    }

    /// A seat to watch from, if there is one.
    pub(super) fn watch(&self, address: Address) -> Result<Seat, Problem> {
        let (kind, detail) = match self.watchers.take(Some(address)) {
            Ok(seat) => return Ok(seat),
            Err(Full::ForAll) => (
                problem::SERVER_FULL,
                "As many streams are open as the server can serve. Try again later.",
            ),
            Err(Full::ForAddress) => (
                problem::TOO_MANY_WATCHERS,
                "As many streams are open to your address as may be. Close one, or try again later.",
            ),
        };
        Err(Problem::new(kind, detail).retry_after(AGAIN))
    }

    /// Counts an attempt to sign in, unless there were too many.
    pub(super) fn sign_in(&self, address: Address) -> Result<(), Problem> {
        let Some(rated) = &self.sign_ins else { return Ok(()) };
        rated.take(&address, NonZeroU32::MIN).map_err(|wait| {
            Problem::new(problem::TOO_MANY_SIGN_INS, "Wait a little before the next attempt.")
                .retry_after(wait)
        })
    }
}

/// So much in some time, for each who comes.
struct Rated<Key: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<Key>,
    rate: NonZeroU32,
}

fn rated<Key: Clone + Eq + Hash + Send + Sync + 'static>(
    rate: Rate,
    quota: impl FnOnce(NonZeroU32) -> Quota,
) -> Option<Arc<Rated<Key>>> {
    let rate = rate.0?;
    let limiter = DefaultKeyedRateLimiter::keyed(quota(rate));
    let rated = Arc::new(Rated { limiter, rate });
    let forgetful = Arc::downgrade(&rated);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(rated) = forgetful.upgrade() else { return };
            rated.limiter.retain_recent();
        }
    });
    Some(rated)
}

impl<Key: Clone + Eq + Hash> Rated<Key> {
    /// Takes `number`, which is no more than may come at once, or tells how long to wait.
    fn take(&self, key: &Key, number: NonZeroU32) -> Result<(), Duration> {
        match self.limiter.check_key_n(key, number) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(DefaultClock::default().now())),
            Err(_more_than_the_burst) => Err(SWEEP),
        }
    }
}
