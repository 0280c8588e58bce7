//! Stale reads: whether an engine has lost its store, so that readers may lack the newest messages.

use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

/// Whether the store is out of reach; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Freshness(Option<watch::Receiver<bool>>);

/// The side of the engine.
#[derive(Debug, Default)]
pub(crate) struct FreshnessSender(watch::Sender<bool>);

impl FreshnessSender {
    /// Tells all readers whether the store is out of reach. A short interruption should not be told:
    /// the engine waits a few seconds.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.0.send_if_modified(|current| std::mem::replace(current, stale) != stale);
    }

    pub(crate) fn subscribe(&self) -> Freshness {
        Freshness(Some(self.0.subscribe()))
    }
}

impl Freshness {
    /// For an engine whose store is never out of reach.
    pub(crate) const fn always() -> Self {
        Self(None)
    }

    /// Whether the store is out of reach.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.as_ref().is_some_and(|stale| *stale.borrow())
    }

    /// Waits until it changes.
    pub(crate) async fn changed(&mut self) {
        // The sender is dropped with the log: nothing changes after that.
        let changed = match &mut self.0 {
            Some(stale) => stale.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }

    /// Polls the freshness; none if the store is never out of reach.
    pub(crate) fn poller(self) -> Option<Box<FreshnessPoller>> {
        let mut receiver = self.0?;
        let stale = *receiver.borrow_and_update();
        let changes = stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let stale = *receiver.borrow_and_update();
            Some((stale, receiver))
        });
        // The sender is dropped with the log: nothing changes after that.
        let changes = changes.chain(stream::pending()).boxed();
        Some(Box::new(FreshnessPoller { stale, changes }))
    }
}

/// Checks the freshness in a future or stream that is polled.
pub(crate) struct FreshnessPoller {
    stale: bool,
    changes: BoxStream<'static, bool>,
}

impl FreshnessPoller {
    /// Whether the store is out of reach. The task is woken when that changes.
    pub(crate) fn is_stale(&mut self, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(Some(stale)) = self.changes.poll_next_unpin(context) {
            self.stale = stale;
        }
        self.stale
    }
}
