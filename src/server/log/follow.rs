//! Following one stream: a bounded queue of changes, from an engine to one follower.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Generation, Position};
use crate::message::Message;

/// How many bytes of changes may wait for a follower that is slow, about. A single change that is
/// larger waits alone. It is no part of the memory budget: it is taken as fast as a processor can, not
/// as a client likes.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// From how many on a thread that tells them may wait until they have been taken.
const HIGH_WATER: usize = 1024 * 1024;
/// What a message takes in the queue beside its text, about.
const PER_MESSAGE: usize = 64;

/// A change of a stream, as its followers are told of it.
///
/// Each one names the sequence that it comes after, in its own generation: changes that do not join
/// up show that something was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These messages, one at least, follow the message with the sequence `after`; 0 where they are
    /// the first of their generation.
    Appended { generation: Generation, after: u64, messages: Vec<Message> },
    /// The stream has ended with this.
    Ended { generation: Generation, after: u64, end: Message },
    /// The stream is gone.
    Deleted { generation: Generation },
}

/// The changes of one stream from a place on, all of them and in order, until it ends. An engine
/// ends it when it has lost sight of the stream, and when the follower takes the changes more
/// slowly than they come. To drop it is to stop following.
#[derive(Debug)]
pub(crate) struct Follow {
    /// Where the stream was when the follow began: what is up to there is in the log, what comes
    /// after it is told. Exact, whatever a read may show.
    pub(crate) start: Position,
    queue: Arc<Queue>,
}

/// A follow that has begun to collect changes, and does not know yet where the stream was.
#[derive(Debug)]
pub(crate) struct Starting(Arc<Queue>);

/// The engine's end of a follow. To drop it ends the follow, once what was told has been taken.
#[derive(Debug)]
pub(crate) struct ChangeSender(Weak<Queue>);

/// Much that was told and not taken yet.
#[derive(Debug)]
pub(crate) struct Backlog(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    untaken: Mutex<Unread>,
    /// Something was told, or the follow has ended.
    told: Notify,
    /// What waited was taken, or the follower has gone.
    taken: Condvar,
}

/// What was told and not taken yet.
#[derive(Debug, Default)]
struct Unread {
    changes: Vec<Change>,
    bytes: usize,
    ended: bool,
}

/// Both ends of a follow.
pub(crate) fn channel() -> (ChangeSender, Starting) {
    let queue = Arc::new(Queue::default());
    (ChangeSender(Arc::downgrade(&queue)), Starting(queue))
}

impl Starting {
    /// The stream was here at a moment since the feed has been told. If it was told something
    /// meanwhile, the follow starts before that: what is told is not to be read.
    pub(crate) fn at(self, seen: Position) -> Follow {
        let start = {
            let mut untaken = self.0.untaken();
            match untaken.changes.first() {
                None => seen,
                Some(Change::Appended { after: 0, .. } | Change::Ended { after: 0, .. }) => {
                    Position::NOWHERE
                }
                Some(
                    Change::Appended { generation, after, .. }
                    | Change::Ended { generation, after, .. },
                ) => Position { generation: Some(*generation), seq: *after },
                Some(Change::Deleted { .. }) => {
                    untaken.changes.remove(0);
                    Position::NOWHERE
                }
            }
        };
        Follow { start, queue: self.0 }
    }
}

impl Follow {
    /// All changes since the last call, as soon as there is one. None when the follow has ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            {
                let mut untaken = self.queue.untaken();
                if !untaken.changes.is_empty() {
                    untaken.bytes = 0;
                    self.queue.taken.notify_all();
                    return Some(mem::take(&mut untaken.changes));
                }
                if untaken.ended {
                    return None;
                }
            }
            // What is told before this waits leaves a permit.
            self.queue.told.notified().await;
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.queue.untaken().ended = true;
        self.queue.taken.notify_all();
    }
}

impl ChangeSender {
    /// Tells the follower. False when there is none any more, or when it is too slow, which ends
    /// the follow: then the feed is of no use.
    pub(crate) fn tell(&self, change: Change) -> bool {
        let Some(queue) = self.0.upgrade() else { return false };
        let size = change.size();
        let goes_on = {
            let mut untaken = queue.untaken();
            let fits = untaken.changes.is_empty() || untaken.bytes + size <= MAX_QUEUED_BYTES;
            if fits && !untaken.ended {
                untaken.bytes += size;
                untaken.changes.push(change);
            } else {
                untaken.ended = true;
            }
            !untaken.ended
        };
        queue.told.notify_one();
        goes_on
    }

    /// What a thread that tells much should wait for; none if there is little to take.
    pub(crate) fn backlog(&self) -> Option<Backlog> {
        let queue = self.0.upgrade()?;
        let is_high = queue.untaken().is_high();
        is_high.then_some(Backlog(queue))
    }

    /// Whether the follower has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Drop for ChangeSender {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            queue.untaken().ended = true;
            queue.told.notify_one();
        }
    }
}

impl Backlog {
    /// Waits until the follower has taken it, but not for long: a publisher that is faster than the
    /// fan-out is slowed down, and a follower that hangs does not stop the store.
    pub(crate) fn wait(self, longest: Duration) {
        let Self(queue) = self;
        let is_high = |untaken: &mut Unread| untaken.is_high();
        drop(queue.taken.wait_timeout_while(queue.untaken(), longest, is_high));
    }
}

impl Unread {
    fn is_high(&self) -> bool {
        self.bytes > HIGH_WATER && !self.ended
    }
}

impl Queue {
    fn untaken(&self) -> MutexGuard<'_, Unread> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    /// The sequence of what the stream holds last now, 0 if it is gone.
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
        let of = |message: &Message| message.data.len() + PER_MESSAGE;
        match self {
            Self::Appended { messages, .. } => messages.iter().map(of).sum(),
            Self::Ended { end, .. } => of(end),
            Self::Deleted { .. } => PER_MESSAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EventId;

    const FIRST: Generation = Generation::new(1);
    const SECOND: Generation = Generation::new(2);

    fn at(generation: Generation, seq: u64) -> Position {
        Position { generation: Some(generation), seq }
    }

    fn message(seq: u64) -> Message {
        Message { id: EventId { millis: 1, seq }, data: seq.to_string() }
    }

    fn appended(generation: Generation, after: u64, seq: u64) -> Change {
        Change::Appended { generation, after, messages: vec![message(seq)] }
    }

    /// Where a follow starts that was told this before it was known where the stream is, and what it
    /// gives first.
    async fn start(told: &[Change], seen: Position) -> (Position, Vec<Change>) {
        let (feed, starting) = channel();
        assert!(told.iter().all(|change| feed.tell(change.clone())));
        let mut follow = starting.at(seen);
        drop(feed);
        (follow.start, follow.next().await.unwrap_or_default())
    }

    #[tokio::test]
    async fn what_was_told_already_comes_after_the_start() {
        assert_eq!(start(&[], at(FIRST, 7)).await, (at(FIRST, 7), vec![]));
        // What was looked up may have it already, or not yet.
        for seen in [at(FIRST, 7), at(FIRST, 8), at(FIRST, 9)] {
            let told = vec![appended(FIRST, 7, 8), appended(FIRST, 8, 9)];
            assert_eq!(start(&told, seen).await, (at(FIRST, 7), told));
        }
        let ended = vec![Change::Ended { generation: FIRST, after: 7, end: message(8) }];
        assert_eq!(start(&ended, at(FIRST, 8)).await, (at(FIRST, 7), ended));
    }

    #[tokio::test]
    async fn a_stream_that_began_or_went_meanwhile_was_nowhere() {
        let begun = vec![appended(SECOND, 0, 8), appended(SECOND, 8, 9)];
        for seen in [Position::NOWHERE, at(SECOND, 9)] {
            assert_eq!(start(&begun, seen).await, (Position::NOWHERE, begun.clone()));
        }
        let deleted = [Change::Deleted { generation: FIRST }];
        for seen in [Position::NOWHERE, at(FIRST, 7)] {
            assert_eq!(start(&deleted, seen).await, (Position::NOWHERE, vec![]));
        }
        let again = [&deleted[..], &begun].concat();
        assert_eq!(start(&again, at(FIRST, 7)).await, (Position::NOWHERE, begun));
    }
}
