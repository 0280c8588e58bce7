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

    /// How long to wait now.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = Self::MIN * 2_u32.pow(self.attempts.min(10).into());
        self.attempts = self.attempts.saturating_add(1);
        jittered(pause.min(Self::MAX))
    }

    /// The longest pause, as after many attempts.
    pub(super) fn max_pause() -> Duration {
        jittered(Self::MAX)
    }

    /// It has gone well: the next pause is a short one.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Between half of a pause and the whole, so that clients that failed together do not try again
/// together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}
