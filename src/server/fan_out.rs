//! Fan-out: writes the messages of a stream to the sockets of its watchers.
//!
//! A connection over plain HTTP/1.1 leaves hyper when its response is an event stream. A task of its own
//! sends what the reader lacks ([`catch_up`]). Once that is done, all that is left is a socket and a
//! cursor, and both go to a [`group`]: one task that writes each message, encoded once, to the sockets
//! of many watchers. A watcher that falls out of the tail of its stream, is paced, or ends goes back to a
//! task of its own.

mod catch_up;
mod chunk;
mod connection;
mod deferred;
mod group;
mod inbox;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use tokio::sync::watch;

use self::{catch_up::CatchUp, group::Group, inbox::Inbox};
pub(crate) use self::{
    connection::Connection,
    deferred::{DeferredStream, EventStream},
};
use super::{
    hub::{CatchUpFrames, TailReader, Watcher},
    log::Freshness,
    sse::{EventBody, EventStreams, Subscription},
    supervisor::Supervisor,
};
use crate::message::StreamName;

/// A reader that takes no byte for this long is disconnected (design, *Slow reader*); it resumes by its
/// cursor.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// A stream gets another group when each has this many watchers, up to one for each processor.
const GROUP_SIZE: usize = 64;

/// The groups of the watched streams; a cheap clone.
#[derive(Clone)]
pub(crate) struct FanOut(Arc<Inner>);

struct Inner {
    events: EventStreams,
    freshness: Freshness,
    supervisor: Supervisor,
    max_groups: usize,
    groups: Mutex<HashMap<StreamName, Vec<GroupHandle>>>,
}

struct GroupHandle {
    inbox: Arc<Inbox>,
    tail: TailReader,
}

/// A watcher that has caught up, with its connection.
struct LiveWatcher {
    connection: Connection,
    cursor: Box<Watcher>,
    subscription: Subscription,
    /// None if the reader does not want to know the number of watchers.
    count: Option<Count>,
}

/// The number of watchers, for one reader.
struct Count {
    number: watch::Receiver<usize>,
    /// The last one that the reader was told; 0 before that.
    told: usize,
}

impl FanOut {
    pub(crate) fn new(events: EventStreams, freshness: Freshness, supervisor: Supervisor) -> Self {
        let max_groups = available_parallelism().map_or(1, usize::from);
        let groups = Mutex::default();
        Self(Arc::new(Inner { events, freshness, supervisor, max_groups, groups }))
    }

    fn events(&self) -> &EventStreams {
        &self.0.events
    }

    fn freshness(&self) -> &Freshness {
        &self.0.freshness
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<StreamName, Vec<GroupHandle>>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, subscription: Subscription, cursor: Box<Watcher>) -> EventBody<CatchUpFrames> {
        let frames = CatchUpFrames::new(cursor);
        EventBody::new(self.events(), self.freshness().clone(), subscription, frames)
    }

    /// Gives a watcher that has caught up to a group.
    fn add(&self, watcher: LiveWatcher) {
        let mut streams = self.groups();
        let groups = streams.entry(watcher.cursor.stream().clone()).or_default();
        // Those of before everybody had left the stream end soon.
        let current = groups.iter().filter(|group| group.tail.is_of(&watcher.cursor));
        let number = current.clone().count();
        let smallest = current.min_by_key(|group| group.inbox.len());
        let inbox = match smallest {
            Some(group) if group.inbox.len() < GROUP_SIZE || number >= self.0.max_groups => {
                Arc::clone(&group.inbox)
            }
            _ => {
                let (inbox, tail) = (Arc::<Inbox>::default(), watcher.cursor.tail_reader());
                let group = Group::new(self.clone(), Arc::clone(&inbox), &watcher.cursor);
                self.0.supervisor.spawn_abortable("writes to the watchers", group.run());
                groups.push(GroupHandle { inbox: Arc::clone(&inbox), tail });
                inbox
            }
        };
        inbox.add(watcher);
    }

    /// Removes a group that has no watchers; false if one has just arrived.
    fn remove(&self, stream: &StreamName, inbox: &Arc<Inbox>) -> bool {
        let mut streams = self.groups();
        if inbox.len() > 0 {
            return false;
        }
        if let Some(groups) = streams.get_mut(stream) {
            groups.retain(|group| !Arc::ptr_eq(&group.inbox, inbox));
            if groups.is_empty() {
                streams.remove(stream);
            }
        }
        true
    }

    /// Gives a watcher a task of its own. `paced`: the bytes that it has just been sent, for which a
    /// browser is given time.
    fn catch_up(&self, watcher: LiveWatcher, paced: usize) {
        let LiveWatcher { connection, cursor, subscription, count } = watcher;
        let mut body = self.body(subscription, cursor);
        if paced > 0 {
            body.record_sent(paced);
        }
        let fan_out = self.clone();
        tokio::spawn(CatchUp { fan_out, connection, body, count }.run_after_rest());
    }
}
