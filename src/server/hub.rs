//! The streams that somebody watches, in memory.
//!
//! A watched stream has a [`Tail`]: its newest messages, encoded once for all. A watcher is a
//! cursor and nothing else. It asks the tail what follows its place; where the tail does not reach
//! back so far it reads the log instead, until it has caught up. Nothing is queued for it, so that
//! it may be as slow as it likes.
//!
//! A stream leaves memory with its last watcher; whoever comes next begins in the log.

mod lag;
mod tail;
mod watcher;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

pub(super) use self::watcher::{Start, Watcher};
use self::{
    lag::{Lag, Mark},
    tail::{News, Tail},
};
use super::log::Change;
use crate::message::StreamName;

/// The watched streams; a handle that is cloned around.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub(Arc<Mutex<HashMap<StreamName, Watched>>>);

/// A stream that somebody watches.
#[derive(Debug)]
struct Watched {
    /// The channel holds the tail. Its sender is here and its receivers are the watchers, so that
    /// it knows by itself how many there are.
    tail: watch::Sender<Tail>,
    lag: Lag,
}

impl Hub {
    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the log stored: encodes it once and wakes whoever watches the stream.
    pub(super) fn take(&self, change: Change) {
        let (Change::Appended { stream, .. }
        | Change::Ended { stream, .. }
        | Change::Deleted { stream, .. }) = &change;
        // Nobody is kept waiting while it is encoded, nor the other streams while the watchers of
        // this one are woken.
        let sender = self.streams().get(stream).map(|watched| {
            watched.lag.head_is(change.head());
            watched.tail.clone()
        });
        if let Some(sender) = sender {
            let news = News::of(change);
            sender.send_modify(|tail| tail.take(news));
        }
    }

    /// How many watch a stream.
    pub(super) fn watchers(&self, stream: &StreamName) -> usize {
        self.streams().get(stream).map_or(0, |watched| watched.tail.receiver_count())
    }

    /// How many streams are watched, and how many messages the slowest watcher is behind.
    pub(super) fn survey(&self) -> (usize, u64) {
        let mut streams = self.streams();
        let slowest = streams.values_mut().map(|watched| watched.lag.greatest()).max();
        (streams.len(), slowest.unwrap_or_default())
    }

    /// Begins to watch: from now on no change is missed.
    fn join(&self, stream: &StreamName) -> (watch::Receiver<Tail>, Mark) {
        let mut streams = self.streams();
        let watched = streams.entry(stream.clone()).or_insert_with(|| Watched {
            tail: watch::Sender::new(Tail::Unknown),
            lag: Lag::default(),
        });
        (watched.tail.subscribe(), watched.lag.join())
    }

    /// Lets a stream go that nobody watches any more.
    fn leave(&self, stream: &StreamName, tail: watch::Receiver<Tail>) {
        let mut streams = self.streams();
        drop(tail);
        if streams.get(stream).is_some_and(|watched| watched.tail.receiver_count() == 0) {
            streams.remove(stream);
        }
    }
}
