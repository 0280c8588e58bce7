//! When to stop.

use tokio_util::sync::CancellationToken;

/// A value that says when to stop; everything long-lived holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Stops at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub fn on_signal() -> Result<Self, ctrlc::Error> {
        let shutdown = Self::default();
        let begun = shutdown.clone();
        ctrlc::set_handler(move || {
            if begun.has_begun() {
                std::process::exit(130);
            }
            begun.begin();
        })?;
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

    pub(super) async fn wait_owned(self) {
        self.0.cancelled_owned().await;
    }
}
