//! Exponential back-off with jitter.

use std::time::Duration;

/// The pauses between attempts: each about twice as long as the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u8,
}

impl Backoff {
    const MIN: Duration = Duration::from_millis(20);
    /// The longest pause.
    pub(super) const MAX: Duration = Duration::from_secs(2);

    /// Returns the next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = Self::MIN * 2_u32.pow(self.attempts.min(10).into());
        self.attempts = self.attempts.saturating_add(1);
        jittered(pause.min(Self::MAX))
    }

    /// Returns the longest pause, with jitter.
    pub(super) fn max_pause() -> Duration {
        jittered(Self::MAX)
    }

    /// After a success: the next pause is the shortest.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Jitter: between half of the pause and the whole, so that clients that failed at the same time do not
/// retry at the same time.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}
