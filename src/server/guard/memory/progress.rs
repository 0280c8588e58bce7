//! The least rate: a client that is slow gives up its memory as soon as others wait for some.
//!
//! Until then it may be as slow as the other limits let it. The rate is not a number of bytes but in
//! proportion to what is held: a client that holds much for little traffic is in the way, however
//! steadily it drips.

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

/// In what time as many bytes have to move as are reserved, while others wait for memory.
pub(crate) const MAX_HOLD: Duration = Duration::from_secs(15);

/// How many requests wait for what others hold, beyond their own shares.
#[derive(Debug, Default)]
pub(super) struct Contention {
    contenders: AtomicUsize,
    grown: Notify,
}

/// A request while it waits, or finds that it cannot.
pub(super) struct Contender<'contention>(&'contention Contention);

/// What has moved of what is reserved.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Window>);

/// What has moved since when.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    bytes: usize,
}

impl Contention {
    pub(super) fn begin(&self) -> Contender<'_> {
        self.contenders.fetch_add(1, Ordering::SeqCst);
        self.grown.notify_waiters();
        Contender(self)
    }

    /// Waits until a request waits, or comes that would have to.
    async fn begun(&self) {
        // Before the look, so that none is missed that comes and goes meanwhile.
        let grown = self.grown.notified();
        if self.contenders.load(Ordering::SeqCst) == 0 {
            grown.await;
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

    /// So many bytes have moved, where so many are reserved.
    pub(super) fn advance(&self, bytes: usize, reserved: usize) {
        let mut window = self.window();
        window.bytes += bytes;
        if window.bytes >= reserved {
            *window = Window { since: Instant::now(), bytes: 0 };
        }
    }

    /// Waits until too little has moved, and others wait.
    pub(super) async fn overdue(&self, contention: &Contention) {
        loop {
            let since = self.window().since;
            sleep_until(since + MAX_HOLD).await;
            contention.begun().await;
            if self.window().since == since {
                return;
            }
        }
    }
}
