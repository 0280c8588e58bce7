//! When to stop.

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

/// A value that says when to stop; everything long-lived holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// The same, for a glance.
    begun: Arc<AtomicBool>,
}

impl Shutdown {
    /// What stops at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once.
    ///
    /// # Errors
    /// When the system refuses to tell us of signals.
    pub fn on_signals(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let shutdown = self.clone();
        let mut signals = Signals::listen()?;
        Ok(async move {
            signals.next().await;
            shutdown.begin();
            // A terminal that is closed may send SIGHUP more than once; it is not a second wish.
            signals.next_but_hangup().await;
            std::process::exit(130);
        })
    }

    /// Says stop.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it is time to stop.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits until it is time to stop.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }
}

/// Whether it is time to stop, for a body that is asked often. To ask is cheap: what would wake the
/// task is set up the first time, and again only if another task asks.
pub(crate) struct Stopping {
    shutdown: Shutdown,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    task: Option<Waker>,
}

impl Stopping {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let waiting = Box::pin(shutdown.token.clone().cancelled_owned());
        Self { shutdown: shutdown.clone(), waiting, task: None }
    }

    /// Whether it is time to stop; if not yet, the task is woken then.
    pub(crate) fn has_begun(&mut self, context: &mut Context<'_>) -> bool {
        let known = self.task.as_ref().is_some_and(|task| task.will_wake(context.waker()));
        if !known {
            self.task = Some(context.waker().clone());
            return self.waiting.as_mut().poll(context).is_ready();
        }
        self.shutdown.has_begun()
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The terminal was closed. None where `nohup` has it ignored.
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
        let Some(mut hangup) = self.hangup.take() else { return self.next_but_hangup().await };
        tokio::select! {
            () = self.next_but_hangup() => {}
            _ = hangup.recv() => {}
        }
        // It goes on to be caught, and ignored.
        self.hangup = Some(hangup);
    }

    async fn next_but_hangup(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored, as Linux tells it (`man 5 proc`, `SigIgn`).
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit. Where that is not known, the signal is left as it is.
    mask.is_none_or(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next_but_hangup(&mut self) {
        self.next().await;
    }

    async fn next(&mut self) {
        // Where Ctrl+C can not be listened to, nothing else stops the server either.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
