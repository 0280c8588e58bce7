//! When to stop.

use std::io;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A value that says when to stop; everything long-lived holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Stops at the first SIGINT or SIGTERM; a second one ends the process at once.
    ///
    /// # Errors
    /// When the system refuses to tell us of signals.
    pub fn on_signal() -> io::Result<Self> {
        let shutdown = Self::default();
        let begun = shutdown.clone();
        let mut signals = Signals::listen()?;
        tokio::spawn(async move {
            signals.next().await;
            begun.begin();
            signals.next().await;
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Says stop.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it is time to stop.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is time to stop.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// The same, for a body that holds it.
    pub(super) fn wait_owned(self) -> WaitForCancellationFutureOwned {
        self.0.cancelled_owned()
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Where Ctrl+C can not be listened to, nothing else stops the server either.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
