//! The inbox of a group: new watchers, and sockets that are ready.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use tokio::sync::Notify;

use super::LiveWatcher;

#[derive(Default)]
pub(super) struct Inbox {
    pending: Mutex<Pending>,
    changed: Notify,
    /// The watchers of the group, with those that it has not taken yet.
    watchers: AtomicUsize,
}

/// What the group has not looked at yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) arrived: Vec<LiveWatcher>,
    /// The slots whose sockets are readable, writable or closed.
    pub(super) ready: Vec<usize>,
}

/// Wakes a group, and says which socket is ready.
struct SocketWaker {
    inbox: Arc<Inbox>,
    slot: usize,
}

impl Inbox {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, watcher: LiveWatcher) {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        self.pending().arrived.push(watcher);
        self.changed.notify_one();
    }

    /// A watcher has left the group.
    pub(super) fn left(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until something is pending.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn take(&self) -> Pending {
        mem::take(&mut *self.pending())
    }

    /// A waker for the socket in this slot.
    pub(super) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Arc::new(SocketWaker { inbox: Arc::clone(self), slot }).into()
    }
}

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.pending().ready.push(self.slot);
        self.inbox.changed.notify_one();
    }
}
