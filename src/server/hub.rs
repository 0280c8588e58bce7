//! The streams that somebody watches, in memory.
//!
//! A watched stream is followed, and has a [`Tail`]: its newest messages, encoded once for all. A
//! watcher is a cursor and nothing else. It asks the tail what follows its place; where the tail does
//! not reach back so far, or is not known, it reads the log instead, until it has caught up. Nothing is
//! queued for it, so that it may be as slow as it likes.
//!
//! A stream leaves memory with its last watcher; whoever comes next begins in the log.

mod backoff;
mod block;
mod budget;
mod follow;
mod lag;
#[cfg(test)]
pub(crate) mod planted;
mod tail;
mod watcher;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::watcher::{Start, Watcher};
use self::{
    budget::TailBudget,
    follow::TailKeeper,
    lag::{Lag, LagHandle},
    tail::Tail,
};
use super::{
    guard::MemoryBudget,
    log::{Bound, Log},
    supervisor::Supervisor,
};
use crate::message::StreamName;

/// The watched streams; a handle that is cloned around.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    supervisor: Supervisor,
    sizes: Sizes,
    tails: TailBudget,
    /// For what is too large to be left to the number of readers.
    memory: MemoryBudget,
    streams: Mutex<HashMap<StreamName, OpenStream>>,
}

/// How much is held in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of the frames of a stream, for all its watchers; one block that is larger is kept too.
    pub(crate) tail: Bound,
    /// Of the frames of all streams, in bytes.
    pub(crate) all_tails: usize,
    /// Of the log, for one watcher.
    pub(crate) page: Bound,
}

impl Sizes {
    /// Those of a server whose tails may take so many bytes together.
    pub(crate) fn with_all_tails(all_tails: usize) -> Self {
        Self {
            tail: Bound { messages: 16 * 1024, bytes: 2 * 1024 * 1024 },
            all_tails,
            page: Bound { messages: 256, bytes: 16 * 1024 },
        }
    }
}

/// A stream that somebody watches.
#[derive(Debug)]
struct OpenStream {
    /// The channel holds the tail. Its receivers are the watchers, so that it knows by itself how many
    /// there are.
    tail: watch::Sender<Tail>,
    lag: Lag,
    /// The task that keeps the tail; it goes with the stream.
    _follow: AbortOnDropHandle<()>,
}

impl Hub {
    pub(crate) fn new(
        log: Log,
        supervisor: Supervisor,
        memory: MemoryBudget,
        sizes: Sizes,
    ) -> Self {
        let (tails, streams) = (TailBudget::new(sizes.all_tails), Mutex::default());
        Self(Arc::new(Shared { log, supervisor, sizes, tails, memory, streams }))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, OpenStream>> {
        self.0.streams()
    }

    /// How many bytes all tails take.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.0.tails.used()
    }

    /// How many watch a stream.
    pub(crate) fn watchers(&self, stream: &StreamName) -> usize {
        self.streams().get(stream).map_or(0, |open| open.tail.receiver_count())
    }

    /// How many streams are watched, and how many messages the slowest watcher is behind.
    pub(crate) fn survey(&self) -> (usize, u64) {
        let mut streams = self.streams();
        let slowest = streams.values_mut().map(|open| open.lag.max()).max();
        (streams.len(), slowest.unwrap_or_default())
    }

    /// Begins to watch.
    fn join(&self, stream: &StreamName) -> (watch::Receiver<Tail>, LagHandle) {
        let mut streams = self.streams();
        let open = streams.entry(stream.clone()).or_insert_with(|| self.open(stream));
        (open.tail.subscribe(), open.lag.join())
    }

    fn open(&self, stream: &StreamName) -> OpenStream {
        let Shared { log, supervisor, sizes, .. } = &*self.0;
        let (tail, lag) = (watch::Sender::new(Tail::Unknown), Lag::default());
        // Watchers read the log only after this call: what is appended in between is told.
        let starting = log.follow(stream);
        let keeper = TailKeeper {
            hub: Arc::downgrade(&self.0),
            log: log.clone(),
            stream: stream.clone(),
            tail: tail.clone(),
            head: lag.head(),
            size: sizes.tail,
            budget: self.0.tails.clone(),
        };
        let task = supervisor.spawn_abortable("fan-out", keeper.keep(starting));
        OpenStream { tail, lag, _follow: AbortOnDropHandle::new(task) }
    }

    /// Lets a stream go that nobody watches any more.
    fn leave(&self, stream: &StreamName, tail: watch::Receiver<Tail>) {
        let mut streams = self.streams();
        drop(tail);
        if streams.get(stream).is_some_and(|open| open.tail.receiver_count() == 0) {
            streams.remove(stream);
        }
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, OpenStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts the oldest frames, of those streams first to which nothing was appended for the longest
    /// time: their readers most likely have them. Readers that do not go on from the log.
    fn evict(&self) {
        let mut tails: Vec<_> = self.streams().values().map(|open| open.tail.clone()).collect();
        tails.sort_by_cached_key(|tail| tail.borrow().last_appended());
        for tail in tails {
            tail.send_if_modified(|tail| {
                while self.tails.is_tight() && tail.evict_oldest() {}
                // There is nothing new for which a watcher would have to wake.
                false
            });
            if !self.tails.is_tight() {
                break;
            }
        }
    }
}
