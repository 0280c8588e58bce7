//! The minimum transfer rate: a slow client loses its reserved memory while other requests wait for some.
//!
//! Without contention it may be as slow as the other limits allow. The rate is relative to the bytes that
//! are reserved: a client that holds much memory for little traffic is too slow, even if it sends or
//! reads steadily.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The time in which as many bytes must be transferred as are reserved, while others wait for memory.
pub(crate) const MAX_HOLD: Duration = Duration::from_secs(15);

/// The number of requests that wait for memory of other clients, not for their own share.
#[derive(Debug, Default)]
pub(super) struct Contention {
    contenders: AtomicUsize,
    entered: Notify,
}

/// Counts one request that waits, or that would have to but cannot.
pub(super) struct Contender<'contention>(&'contention Contention);

/// The progress of a transfer with a reservation.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Window>);

/// The bytes that were transferred since a point in time.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    bytes: usize,
}

impl Contention {
    pub(super) fn enter(&self) -> Contender<'_> {
        self.contenders.fetch_add(1, Ordering::SeqCst);
        self.entered.notify_waiters();
        Contender(self)
    }

    /// Waits until there is a request that waits, or that would have to.
    async fn wait(&self) {
        // Registered before the check, so that no notification is missed.
        let entered = self.entered.notified();
        if self.contenders.load(Ordering::SeqCst) == 0 {
            entered.await;
        }
    }
}

impl Drop for Contender<'_> {
    fn drop(&mut self) {
        self.0.contenders.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self(Mutex::new(Window { since: Instant::now(), bytes: 0 }))
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `bytes` were transferred. A new window begins when `reserved` bytes were.
    pub(super) fn advance(&self, bytes: usize, reserved: usize) {
        let mut window = self.window();
        window.bytes += bytes;
        if window.bytes >= reserved {
            *window = Window { since: Instant::now(), bytes: 0 };
        }
    }

    /// Waits until the transfer was too slow for [`MAX_HOLD`] and others wait for memory.
    pub(super) async fn overdue(&self, contention: &Contention) {
        loop {
            let since = self.window().since;
            sleep_until(since + MAX_HOLD).await;
            contention.wait().await;
            if self.window().since == since {
                return;
            }
        }
    }
}
