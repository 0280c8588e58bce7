//! The followers of each stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::server::log::{
    StreamName,
    follow::{self, Change, ChangeSender, Starting},
};

/// How long the writer waits for followers that do not keep up. (Publishers wait for it. Without it,
/// watchers would fall behind all together and read the log, which makes them slower still.)
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The followers of each stream, which the writer tells what it has stored; a handle that is cloned
/// around.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<Mutex<Feeds>>);

#[derive(Debug, Default)]
struct Feeds {
    /// Those that have gone are left until there are too many of them: to go must not cost a search.
    by_stream: HashMap<StreamName, Vec<ChangeSender>>,
    /// Nothing is told any more.
    closed: bool,
}

impl Followers {
    fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a stream, from now on. None once the store is closed.
    pub(super) fn add(&self, stream: &StreamName) -> Option<Starting> {
        let mut feeds = self.feeds();
        if feeds.closed {
            return None;
        }
        if feeds.by_stream.len() == feeds.by_stream.capacity() {
            feeds.by_stream.retain(|_, feeds| feeds.iter().any(|feed| !feed.is_closed()));
        }
        let (feed, starting) = follow::channel();
        let of_stream = feeds.by_stream.entry(stream.clone()).or_default();
        of_stream.retain(|feed| !feed.is_closed());
        of_stream.push(feed);
        Some(starting)
    }

    /// Tells what was stored, in its order, and waits a little for followers that do not keep up.
    pub(super) fn tell(&self, changes: Vec<(StreamName, Change)>) {
        let mut backlogs = Vec::new();
        let mut feeds = self.feeds();
        for (stream, change) in changes {
            let Some(of_stream) = feeds.by_stream.get_mut(&stream) else { continue };
            // Nearly always there is one.
            let Some(last) = of_stream.pop() else { continue };
            of_stream.retain(|feed| feed.tell(change.clone()));
            if last.tell(change) {
                of_stream.push(last);
            }
            backlogs.extend(of_stream.iter().filter_map(ChangeSender::backlog));
            if of_stream.is_empty() {
                feeds.by_stream.remove(&stream);
            }
        }
        drop(feeds);
        let patient_until = Instant::now() + MAX_WAIT;
        for backlog in backlogs {
            backlog.wait(patient_until.saturating_duration_since(Instant::now()));
        }
    }

    /// Ends every follow: something may have happened that cannot be told.
    pub(super) fn interrupt(&self) {
        self.feeds().by_stream.clear();
    }

    /// Ends every follow, and begins no other.
    pub(super) fn close(&self) {
        let mut feeds = self.feeds();
        feeds.closed = true;
        feeds.by_stream.clear();
    }
}
