//! Fan-out of stored changes to the followers of each stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::server::log::{
    Activity, ActivityListener, StreamName,
    follow::{self, Change, ChangeSender, StartingFollow},
};

/// Back-pressure: how long the writer, and publishers with it, waits for followers that do not keep up.
/// Without this, all watchers would fall behind and read the log, which is slower still.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The followers of each stream, which the writer notifies of stored changes; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers {
    senders: Arc<Mutex<SenderMap>>,
    /// Noted after each transaction.
    activity: Activity,
}

#[derive(Debug, Default)]
struct SenderMap {
    /// Closed senders are removed only when the map is full, so that leaving costs no search.
    by_stream: HashMap<StreamName, Vec<ChangeSender>>,
    /// Set when the store closes: no follow begins any more.
    closed: bool,
}

impl Followers {
    fn senders(&self) -> MutexGuard<'_, SenderMap> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for changes of any stream.
    pub(super) fn activity(&self) -> ActivityListener {
        self.activity.listen()
    }

    /// Starts to queue the changes of a stream. None once the store is closed.
    pub(super) fn add(&self, stream: &StreamName) -> Option<StartingFollow> {
        let mut senders = self.senders();
        if senders.closed {
            return None;
        }
        if senders.by_stream.len() == senders.by_stream.capacity() {
            senders.by_stream.retain(|_, senders| senders.iter().any(|sender| !sender.is_closed()));
        }
        let (sender, starting) = follow::channel();
        let stream_senders = senders.by_stream.entry(stream.clone()).or_default();
        stream_senders.retain(|sender| !sender.is_closed());
        stream_senders.push(sender);
        Some(starting)
    }

    /// Sends stored changes in order, then waits at most [`MAX_WAIT`] for slow followers.
    pub(super) fn notify(&self, changes: Vec<(StreamName, Change)>) {
        self.activity.note();
        let mut backlogs = Vec::new();
        let mut senders = self.senders();
        for (stream, change) in changes {
            let Some(stream_senders) = senders.by_stream.get_mut(&stream) else { continue };
            // Usually there is one follower, which then gets the change without a copy.
            let Some(last) = stream_senders.pop() else { continue };
            stream_senders.retain(|sender| sender.send(change.clone()));
            if last.send(change) {
                stream_senders.push(last);
            }
            backlogs.extend(stream_senders.iter().filter_map(ChangeSender::backlog));
            if stream_senders.is_empty() {
                senders.by_stream.remove(&stream);
            }
        }
        drop(senders);
        let deadline = Instant::now() + MAX_WAIT;
        for backlog in backlogs {
            backlog.wait(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Ends every follow: changes may have been stored that cannot be delivered.
    pub(super) fn interrupt(&self) {
        self.activity.note();
        self.senders().by_stream.clear();
    }

    /// Ends every follow, and refuses new ones.
    pub(super) fn close(&self) {
        let mut senders = self.senders();
        senders.closed = true;
        senders.by_stream.clear();
    }
}
