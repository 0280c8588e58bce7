//! Back-off with jitter: the pauses between attempts.

use std::time::Duration;

/// The longest pause before the first new attempt; it doubles with each attempt.
const MAX_FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before any attempt.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The pauses between the attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The pause before the next attempt: a quarter of the longest, and up to three quarters of it at
    /// random, so that the clients of a server that stopped come back neither at once nor together. A
    /// `Retry-After` of the server is added.
    pub(super) fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let max = (MAX_FIRST_PAUSE * (1 << self.attempts.min(5))).min(MAX_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        let pause = max / 4 + max.mul_f64(0.75 * fastrand::f64());
        pause + retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
    }

    /// The next pause is a first one again.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_short() {
        let mut backoff = Backoff::default();
        for max in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = backoff.next_pause(None).as_millis();
            assert!((max * 250..=max * 1000).contains(&pause), "{pause} ms of {max} s");
        }
        for _ in 0..100 {
            backoff.next_pause(None);
        }
        let after = backoff.next_pause(Some(Duration::from_hours(9)));
        assert!(after > MAX_RETRY_AFTER && after <= MAX_RETRY_AFTER + MAX_PAUSE);
        backoff.reset();
        assert!(backoff.next_pause(None) <= MAX_FIRST_PAUSE);
    }
}
