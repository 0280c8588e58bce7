//! Graceful shutdown: signal handlers, and a cancellation token that long-lived tasks hold.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Tells long-lived tasks to stop; a cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// The same state, to be read without a lock.
    begun: Arc<AtomicBool>,
}

impl Shutdown {
    /// A future that begins the shutdown at the first SIGINT, SIGTERM or SIGHUP. A second SIGINT or
    /// SIGTERM ends the process at once, with status 130.
    ///
    /// # Errors
    /// When a signal handler cannot be registered.
    pub fn on_signals(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let shutdown = self.clone();
        let mut signals = Signals::listen()?;
        Ok(async move {
            signals.next().await;
            shutdown.begin();
            // Closing a terminal may send SIGHUP several times: only the first one counts.
            signals.next_except_hangup().await;
            std::process::exit(130);
        })
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits until the shutdown begins.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }
}

/// Checks for the shutdown in a future or stream that is polled often. A check is one atomic read: the
/// waker is registered on the first one, and again only when the task changes.
pub(crate) struct ShutdownPoller {
    shutdown: Shutdown,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    waker: Option<Waker>,
}

impl ShutdownPoller {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let cancelled = Box::pin(shutdown.token.clone().cancelled_owned());
        Self { shutdown: shutdown.clone(), cancelled, waker: None }
    }

    /// Whether the shutdown has begun. If not, the task is woken when it begins.
    pub(crate) fn has_begun(&mut self, context: &mut Context<'_>) -> bool {
        let is_registered =
            self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !is_registered {
            self.waker = Some(context.waker().clone());
            return self.cancelled.as_mut().poll(context).is_ready();
        }
        self.shutdown.has_begun()
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// SIGHUP, the terminal was closed. `None` if the process ignores it (`nohup`).
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) {
        let Some(mut hangup) = self.hangup.take() else { return self.next_except_hangup().await };
        tokio::select! {
            () = self.next_except_hangup() => {}
            _ = hangup.recv() => {}
        }
        // Kept, so that further SIGHUPs do not end the process.
        self.hangup = Some(hangup);
    }

    async fn next_except_hangup(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored, from `SigIgn` of Linux (`man 5 proc`).
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit. If the mask is unknown, SIGHUP is not handled.
    mask.is_none_or(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next_except_hangup(&mut self) {
        self.next().await;
    }

    async fn next(&mut self) {
        // Without a handler for Ctrl+C, no signal begins the shutdown.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
