//! The hub: the watched streams, in memory.
//!
//! The hub follows each watched stream in the log and keeps a [`Tail`]: its newest messages, encoded once
//! for all watchers. A watcher is a cursor: it reads from the tail what follows its position. Where its
//! position is before the tail, or the stream is not followed, it reads the log until it has caught up.
//! Nothing is queued per watcher, so that a slow one costs no memory.
//!
//! Several streams are watched together by one reader: [`MergedWatcher`].
//!
//! A stream leaves memory with its last watcher; the next watcher starts from the log.

mod backoff;
mod block;
mod budget;
mod count;
mod follow;
mod lag;
mod live;
mod merge;
#[cfg(test)]
pub(crate) mod planted;
mod read;
mod tail;
mod watcher;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    budget::TailBudget,
    count::WatcherCount,
    follow::TailFollower,
    lag::{Lag, LagHandle},
    tail::Tail,
};
pub(crate) use self::{
    count::count_frame,
    live::{CatchUpFrames, TailReader},
    merge::MergedWatcher,
    tail::TailRead,
    watcher::{Start, Watcher},
};
use super::{
    guard::MemoryBudget,
    log::{Activity, ActivityListener, Bound, Log},
    supervisor::Supervisor,
};
use crate::message::StreamName;

/// How often the numbers of watchers are exchanged with other servers.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(3);
/// Numbers of other servers that are older are not shown.
const MAX_COUNT_AGE: Duration = Duration::from_secs(15);

/// A handle to the watched streams, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<HubInner>);

#[derive(Debug)]
struct HubInner {
    log: Log,
    supervisor: Supervisor,
    sizes: BufferSizes,
    tails: TailBudget,
    /// Memory for large messages, which are reserved per reader.
    memory: MemoryBudget,
    streams: Mutex<HashMap<StreamName, OpenStream>>,
    /// The watchers at other servers, by stream.
    elsewhere: Mutex<HashMap<StreamName, u64>>,
    /// Noted when the watchers of any stream have changed.
    activity: Activity,
}

/// How much of the streams is held in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferSizes {
    /// Frames of one stream, shared by its watchers. A single larger block is kept too.
    pub(crate) tail: Bound,
    /// Frames of all streams, in bytes.
    pub(crate) all_tails: usize,
    /// A page of the log that is read for one watcher.
    pub(crate) page: Bound,
}

impl BufferSizes {
    /// The default sizes, with at most `all_tails` bytes for all tails together.
    pub(crate) fn with_all_tails(all_tails: usize) -> Self {
        Self {
            tail: Bound { messages: 32 * 1024, bytes: 4 * 1024 * 1024 },
            all_tails,
            page: Bound { messages: 256, bytes: 16 * 1024 },
        }
    }
}

/// A watched stream.
#[derive(Debug)]
struct OpenStream {
    tail: watch::Sender<Tail>,
    watchers: usize,
    lag: Lag,
    /// Notified when the number of its watchers has changed, here or elsewhere.
    watchers_changed: Arc<Notify>,
    /// That number, once a reader has asked for it.
    count: Option<WatcherCount>,
    /// The task that updates the tail; aborted with the stream.
    _follow: AbortOnDropHandle<()>,
}

impl Hub {
    pub(crate) fn new(
        log: Log,
        supervisor: Supervisor,
        memory: MemoryBudget,
        sizes: BufferSizes,
    ) -> Self {
        Self(Arc::new(HubInner {
            log,
            supervisor,
            sizes,
            tails: TailBudget::new(sizes.all_tails),
            memory,
            streams: Mutex::default(),
            elsewhere: Mutex::default(),
            activity: Activity::default(),
        }))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, OpenStream>> {
        self.0.streams()
    }

    /// Size of all tails, in bytes.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.0.tails.used()
    }

    /// Number of watchers of a stream, at all servers of the store.
    pub(crate) fn watchers(&self, stream: &StreamName) -> usize {
        let here = self.streams().get(stream).map_or(0, |open| open.watchers);
        let elsewhere = self.0.elsewhere().get(stream).copied().unwrap_or_default();
        here.saturating_add(usize::try_from(elsewhere).unwrap_or(usize::MAX))
    }

    /// Number of watchers of each watched stream, at all servers of the store.
    pub(crate) fn all_watchers(&self) -> HashMap<StreamName, usize> {
        let mut watchers = HashMap::new();
        for (stream, number) in &*self.0.elsewhere() {
            watchers.insert(stream.clone(), usize::try_from(*number).unwrap_or(usize::MAX));
        }
        for (stream, open) in &*self.streams() {
            let number = watchers.entry(stream.clone()).or_default();
            *number = number.saturating_add(open.watchers);
        }
        watchers
    }

    /// Listens for changes of these numbers.
    pub(crate) fn watcher_activity(&self) -> ActivityListener {
        self.0.activity.listen()
    }

    /// Exchanges the numbers of watchers with the other servers of the store; never returns.
    pub(crate) async fn exchange_watchers(self) {
        let mut exchanged_at = Instant::now();
        loop {
            let here: Vec<(StreamName, u64)> = self
                .streams()
                .iter()
                .map(|(stream, open)| (stream.clone(), open.watchers as u64))
                .collect();
            // The error has been logged. Old numbers are kept for a while.
            if let Ok(elsewhere) = self.0.log.exchange_watchers(&here).await {
                self.set_elsewhere(elsewhere);
                exchanged_at = Instant::now();
            } else if exchanged_at.elapsed() > MAX_COUNT_AGE {
                self.set_elsewhere(HashMap::new());
            }
            sleep(EXCHANGE_INTERVAL).await;
        }
    }

    fn set_elsewhere(&self, now: HashMap<StreamName, u64>) {
        let changed: Vec<StreamName> = {
            let before = self.0.elsewhere();
            let streams = now.keys().chain(before.keys());
            streams.filter(|stream| now.get(*stream) != before.get(*stream)).cloned().collect()
        };
        if changed.is_empty() {
            return;
        }
        *self.0.elsewhere() = now;
        let streams = self.streams();
        for open in changed.iter().filter_map(|stream| streams.get(stream)) {
            open.watchers_changed.notify_one();
        }
        drop(streams);
        self.0.activity.note();
    }

    /// Number of watched streams, and of messages that the slowest watcher is behind.
    pub(crate) fn stats(&self) -> (usize, u64) {
        let mut streams = self.streams();
        let slowest = streams.values_mut().map(|open| open.lag.max()).max();
        (streams.len(), slowest.unwrap_or_default())
    }

    /// Registers a watcher.
    fn join(&self, stream: &StreamName) -> (watch::Receiver<Tail>, LagHandle) {
        let mut streams = self.streams();
        let open = streams.entry(stream.clone()).or_insert_with(|| self.open(stream));
        open.watchers += 1;
        open.watchers_changed.notify_one();
        self.0.activity.note();
        (open.tail.subscribe(), open.lag.join())
    }

    fn open(&self, stream: &StreamName) -> OpenStream {
        let HubInner { log, supervisor, sizes, .. } = &*self.0;
        let (tail, lag) = (watch::Sender::new(Tail::NotFollowed), Lag::default());
        // Watchers read the log only after this call, so that no change is missed in between.
        let starting = log.follow(stream);
        let follower = TailFollower {
            hub: Arc::downgrade(&self.0),
            log: log.clone(),
            stream: stream.clone(),
            tail: tail.clone(),
            head: lag.head(),
            size: sizes.tail,
            budget: self.0.tails.clone(),
        };
        let task = supervisor.spawn_abortable("fan-out", follower.run(starting));
        OpenStream {
            tail,
            watchers: 0,
            lag,
            watchers_changed: Arc::default(),
            count: None,
            _follow: AbortOnDropHandle::new(task),
        }
    }

    /// Removes a watcher, and the stream with its last watcher.
    fn leave(&self, stream: &StreamName) {
        let mut streams = self.streams();
        if let Some(open) = streams.get_mut(stream) {
            open.watchers = open.watchers.saturating_sub(1);
            if open.watchers > 0 {
                open.watchers_changed.notify_one();
            } else {
                drop(streams.remove(stream));
            }
        }
        self.0.activity.note();
    }
}

impl HubInner {
    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, OpenStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elsewhere(&self) -> MutexGuard<'_, HashMap<StreamName, u64>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts the oldest frames, first of the streams with the longest time since an append, because
    /// their readers most likely have the frames. Readers that do not have them read the log.
    fn evict(&self) {
        let mut tails: Vec<_> = self.streams().values().map(|open| open.tail.clone()).collect();
        tails.sort_by_cached_key(|tail| tail.borrow().last_appended());
        for tail in tails {
            tail.send_if_modified(|tail| {
                while self.tails.is_above_target() && tail.evict_oldest() {}
                // Eviction does not wake watchers.
                false
            });
            if !self.tails.is_above_target() {
                break;
            }
        }
    }
}
