//! Change feed: a bounded queue of the changes of one stream, from an engine to one follower.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Generation, Position};
use crate::message::Message;

/// Approximate limit, in bytes, of the changes that wait for a slow follower. A single larger change
/// waits alone. Not counted in the memory budget: the follower is a task of this server, which does not
/// wait for a client.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// Above this number of queued bytes, the sending thread may wait until the follower has taken them.
const HIGH_WATER_BYTES: usize = 1024 * 1024;
/// Approximate size of a message in the queue beside its text, in bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// A change of a stream, as its followers receive it.
///
/// Each change names the sequence that it follows in its generation, so that a gap between changes
/// is detected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These messages, at least one, follow the message with the sequence `after`; 0 where they are
    /// the first of their generation.
    Appended { generation: Generation, after: u64, messages: Vec<Message> },
    /// The stream has ended with this closing text.
    Ended { generation: Generation, after: u64, end: Message },
    /// The stream was deleted.
    Deleted { generation: Generation },
}

/// A subscription to the changes of one stream: all of them from a position on, in order, until it
/// ends. The engine ends it when it may have missed changes, or when the follower is too slow.
/// Dropping it stops the subscription.
#[derive(Debug)]
pub(crate) struct Follow {
    /// The position of the stream when the follow began: everything up to it is in the log, everything
    /// after it is delivered. Exact, even where reads are stale.
    pub(crate) start: Position,
    queue: Arc<ChangeQueue>,
}

/// A follow that already queues changes, and whose start position is not known yet.
#[derive(Debug)]
pub(crate) struct StartingFollow(Arc<ChangeQueue>);

/// The engine's end of a follow. Dropping it ends the follow once the queued changes are received.
#[derive(Debug)]
pub(crate) struct ChangeSender(Weak<ChangeQueue>);

/// A queue above its high-water mark.
#[derive(Debug)]
pub(crate) struct Backlog(Arc<ChangeQueue>);

#[derive(Debug, Default)]
struct ChangeQueue {
    pending: Mutex<PendingChanges>,
    /// A change was queued, or the follow has ended.
    changed: Notify,
    /// The queue was drained, or the follower has gone.
    drained: Condvar,
}

/// Changes that the follower has not received yet.
#[derive(Debug, Default)]
struct PendingChanges {
    changes: Vec<Change>,
    bytes: usize,
    ended: bool,
}

/// Both ends of a follow.
pub(crate) fn channel() -> (ChangeSender, StartingFollow) {
    let queue = Arc::new(ChangeQueue::default());
    (ChangeSender(Arc::downgrade(&queue)), StartingFollow(queue))
}

impl StartingFollow {
    /// Sets the start position. `observed` is the position of the stream at a moment since this follow
    /// queues changes. If changes are queued, the follow starts before the first of them.
    pub(crate) fn begin_at(self, observed: Position) -> Follow {
        let start = {
            let mut pending = self.0.pending();
            match pending.changes.first() {
                None => observed,
                Some(Change::Appended { after: 0, .. } | Change::Ended { after: 0, .. }) => {
                    Position::NO_STREAM
                }
                Some(
                    Change::Appended { generation, after, .. }
                    | Change::Ended { generation, after, .. },
                ) => Position { generation: Some(*generation), seq: *after },
                Some(Change::Deleted { .. }) => {
                    pending.changes.remove(0);
                    Position::NO_STREAM
                }
            }
        };
        Follow { start, queue: self.0 }
    }
}

impl Follow {
    /// Waits for changes and returns all that are queued. None when the follow has ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            {
                let mut pending = self.queue.pending();
                if !pending.changes.is_empty() {
                    pending.bytes = 0;
                    self.queue.drained.notify_all();
                    return Some(mem::take(&mut pending.changes));
                }
                if pending.ended {
                    return None;
                }
            }
            // A change that was queued before this waits has stored a permit.
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.queue.pending().ended = true;
        self.queue.drained.notify_all();
    }
}

impl ChangeSender {
    /// Queues a change for the follower. False when the follower has gone, or when it is too slow,
    /// which ends the follow.
    pub(crate) fn send(&self, change: Change) -> bool {
        let Some(queue) = self.0.upgrade() else { return false };
        let size = change.size();
        let is_open = {
            let mut pending = queue.pending();
            let fits = pending.changes.is_empty() || pending.bytes + size <= MAX_QUEUED_BYTES;
            if fits && !pending.ended {
                pending.bytes += size;
                pending.changes.push(change);
            } else {
                pending.ended = true;
            }
            !pending.ended
        };
        queue.changed.notify_one();
        is_open
    }

    /// The queue to wait for when it is above its high-water mark, else none.
    pub(crate) fn backlog(&self) -> Option<Backlog> {
        let queue = self.0.upgrade()?;
        let is_above_high_water = queue.pending().is_above_high_water();
        is_above_high_water.then_some(Backlog(queue))
    }

    /// Whether the follower has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Drop for ChangeSender {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            queue.pending().ended = true;
            queue.changed.notify_one();
        }
    }
}

impl Backlog {
    /// Back-pressure: waits until the follower has drained the queue, at most `max_wait`. A publisher
    /// that is faster than the fan-out is slowed down; a follower that hangs does not block the store.
    pub(crate) fn wait(self, max_wait: Duration) {
        let Self(queue) = self;
        let is_above_high_water = |pending: &mut PendingChanges| pending.is_above_high_water();
        drop(queue.drained.wait_timeout_while(queue.pending(), max_wait, is_above_high_water));
    }
}

impl PendingChanges {
    fn is_above_high_water(&self) -> bool {
        self.bytes > HIGH_WATER_BYTES && !self.ended
    }
}

impl ChangeQueue {
    fn pending(&self) -> MutexGuard<'_, PendingChanges> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    /// The newest sequence of the stream after this change, 0 if it was deleted.
    pub(crate) fn head(&self) -> u64 {
        match self {
            Self::Appended { messages, after, .. } => {
                messages.last().map_or(*after, |last| last.id.seq)
            }
            Self::Ended { end, .. } => end.id.seq,
            Self::Deleted { .. } => 0,
        }
    }

    fn size(&self) -> usize {
        let message_size = |message: &Message| message.data.len() + MESSAGE_OVERHEAD_BYTES;
        match self {
            Self::Appended { messages, .. } => messages.iter().map(message_size).sum(),
            Self::Ended { end, .. } => message_size(end),
            Self::Deleted { .. } => MESSAGE_OVERHEAD_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EventId;

    const GENERATION_1: Generation = Generation::new(1);
    const GENERATION_2: Generation = Generation::new(2);

    fn at(generation: Generation, seq: u64) -> Position {
        Position { generation: Some(generation), seq }
    }

    fn message(seq: u64) -> Message {
        Message { id: EventId { millis: 1, seq }, data: seq.to_string() }
    }

    fn appended(generation: Generation, after: u64, seq: u64) -> Change {
        Change::Appended { generation, after, messages: vec![message(seq)] }
    }

    /// The start of a follow that queued `changes` before its start position was known, and its first
    /// changes.
    async fn start(changes: &[Change], observed: Position) -> (Position, Vec<Change>) {
        let (sender, starting) = channel();
        assert!(changes.iter().all(|change| sender.send(change.clone())));
        let mut follow = starting.begin_at(observed);
        drop(sender);
        (follow.start, follow.next().await.unwrap_or_default())
    }

    #[tokio::test]
    async fn queued_changes_come_after_the_start() {
        assert_eq!(start(&[], at(GENERATION_1, 7)).await, (at(GENERATION_1, 7), vec![]));
        // The position that was read may include the queued changes, or not.
        for observed in [at(GENERATION_1, 7), at(GENERATION_1, 8), at(GENERATION_1, 9)] {
            let changes = vec![appended(GENERATION_1, 7, 8), appended(GENERATION_1, 8, 9)];
            assert_eq!(start(&changes, observed).await, (at(GENERATION_1, 7), changes));
        }
        let ended = vec![Change::Ended { generation: GENERATION_1, after: 7, end: message(8) }];
        assert_eq!(start(&ended, at(GENERATION_1, 8)).await, (at(GENERATION_1, 7), ended));
    }

    #[tokio::test]
    async fn a_stream_that_was_created_or_deleted_meanwhile_has_no_start_position() {
        let created = vec![appended(GENERATION_2, 0, 8), appended(GENERATION_2, 8, 9)];
        for observed in [Position::NO_STREAM, at(GENERATION_2, 9)] {
            assert_eq!(start(&created, observed).await, (Position::NO_STREAM, created.clone()));
        }
        let deleted = [Change::Deleted { generation: GENERATION_1 }];
        for observed in [Position::NO_STREAM, at(GENERATION_1, 7)] {
            assert_eq!(start(&deleted, observed).await, (Position::NO_STREAM, vec![]));
        }
        let again = [&deleted[..], &created].concat();
        assert_eq!(start(&again, at(GENERATION_1, 7)).await, (Position::NO_STREAM, created));
    }
}
