//! Activity signal: something has been stored, in whatever stream.

use std::{future::pending, sync::Arc};

use tokio::sync::watch;

/// The sending end, for an engine; a cheap clone. To note costs next to nothing without listeners.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<watch::Sender<()>>);

/// Listens for activity. Any amount of it that has not been seen counts as one.
#[derive(Debug)]
pub(crate) struct ActivityListener(watch::Receiver<()>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl Activity {
    /// Notes that something has changed.
    pub(crate) fn note(&self) {
        self.0.send_replace(());
    }

    /// A listener to what is noted from now on.
    pub(crate) fn listen(&self) -> ActivityListener {
        ActivityListener(self.0.subscribe())
    }
}

impl ActivityListener {
    /// Waits for activity that [`take`](Self::take) has not returned. Where the sending end has gone there
    /// is none any more.
    pub(crate) async fn wait(&mut self) {
        if self.0.has_changed().unwrap_or_default() {
            return;
        }
        match self.0.changed().await {
            Ok(()) => self.0.mark_changed(),
            Err(_) => pending().await,
        }
    }

    /// Whether there was activity since the last call.
    pub(crate) fn take(&mut self) -> bool {
        let has_changed = self.0.has_changed().unwrap_or_default();
        self.0.mark_unchanged();
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn activity_is_seen_once() {
        let activity = Activity::default();
        activity.note();
        let mut listener = activity.listen();
        assert!(!listener.take(), "it was before");
        assert_eq!(listener.wait().now_or_never(), None);
        activity.note();
        activity.note();
        listener.wait().await;
        listener.wait().await;
        assert!(listener.take());
        assert!(!listener.take());
        drop(activity);
        assert_eq!(listener.wait().now_or_never(), None);
    }
}
