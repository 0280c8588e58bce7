//! The change feed: what this server has delivered of each followed stream, and what it must read.
//!
//! The changes that this server stores are delivered at once where they follow what was delivered. A
//! notification of another server, a gap, or a difference that the regular comparison finds marks the
//! stream, and [`listen`](super::listen) reads what follows. So a lost notification costs time, never
//! a message.
//!
//! A standby that was promoted may lack messages that were delivered here, and assign their sequences
//! again. So after a promotion nothing is delivered, and no page is read, before a read has found the
//! message that was delivered last.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    message::{Message, StreamName},
    server::log::{
        Activity, ActivityListener, Follow, MessagePage, Position,
        follow::{self, Backlog, Change, ChangeSender, StartingFollow},
    },
};

/// The followed streams; a cheap clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed(Arc<FeedInner>);

#[derive(Debug, Default)]
struct FeedInner {
    state: Mutex<FeedState>,
    /// A stream was marked.
    marked: Notify,
    /// Noted when this server has stored something, and when another one says that it has.
    activity: Activity,
}

#[derive(Debug, Default)]
struct FeedState {
    streams: HashMap<StreamName, FollowedStream>,
    /// Streams that may have changes that were not delivered.
    marked: BTreeSet<StreamName>,
    /// Number of promotions that were noticed.
    promotions: u64,
    closed: bool,
}

/// A marked stream.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) stream: StreamName,
    pub(super) delivered: Delivered,
    /// The promotion after which the database may lack what was delivered, if any.
    doubt: Option<u64>,
}

#[derive(Debug, Default)]
struct FollowedStream {
    /// What has been delivered; none until the position of the stream is known.
    delivered: Option<Delivered>,
    /// The promotion since which the database may lack what was delivered.
    doubt: Option<u64>,
    /// Since when the stream has been marked without a read.
    marked_since: Option<Instant>,
    /// Whether the stream was marked before its position was known.
    touched: bool,
    senders: Vec<ChangeSender>,
}

/// What has been delivered of a stream: its position, and the milliseconds of the last id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) position: Position,
    pub(super) millis: u64,
}

impl Delivered {
    pub(super) const NO_STREAM: Self = Self { position: Position::NO_STREAM, millis: 0 };
}

/// How a follow begins.
pub(super) enum Beginning {
    /// The stream is followed already.
    At(Follow),
    /// The position of the stream must be read first.
    Reading(StartingFollow),
}

/// How a change relates to what was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Next,
    Old,
    Gap,
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that some stream has changed, followed or not.
    pub(super) fn note_activity(&self) {
        self.0.activity.note();
    }

    /// Listens for changes of any stream.
    pub(super) fn activity(&self) -> ActivityListener {
        self.0.activity.listen()
    }

    /// Adds a follower. None once the log is closed.
    pub(super) fn add(&self, stream: &StreamName) -> Option<Beginning> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if state.streams.len() == state.streams.capacity() {
            state.streams.retain(|_, followed| followed.has_followers());
        }
        let (sender, starting) = follow::channel();
        let followed = state.streams.entry(stream.clone()).or_default();
        followed.senders.retain(|sender| !sender.is_closed());
        if followed.senders.is_empty() {
            // What is known may be old: it is not updated without followers.
            *followed = FollowedStream::default();
        }
        followed.senders.push(sender);
        Some(match followed.delivered {
            Some(delivered) => Beginning::At(starting.begin_at(delivered.position)),
            None => Beginning::Reading(starting),
        })
    }

    /// Sets the position of a stream that was read after a follower was added.
    pub(super) fn begin(
        &self,
        stream: &StreamName,
        starting: StartingFollow,
        observed: Delivered,
    ) -> Follow {
        let (start, touched) = match self.state().streams.get_mut(stream) {
            None => (observed.position, false),
            Some(followed) => {
                let start = followed.delivered.get_or_insert(observed).position;
                (start, std::mem::take(&mut followed.touched))
            }
        };
        if touched {
            self.mark([stream.clone()]);
        }
        // Changes that are queued already were delivered to an earlier follower too.
        starting.begin_at(start)
    }

    /// Marks streams that may have changes that were not delivered. Others than followed ones are
    /// ignored.
    pub(super) fn mark(&self, streams: impl IntoIterator<Item = StreamName>) {
        let mut state = self.state();
        let mut is_any = false;
        for stream in streams {
            let Some(followed) = state.streams.get_mut(&stream) else { continue };
            if followed.delivered.is_none() {
                followed.touched = true;
            } else if followed.has_followers() {
                followed.marked_since.get_or_insert_with(Instant::now);
                state.marked.insert(stream);
                is_any = true;
            } else {
                state.streams.remove(&stream);
            }
        }
        drop(state);
        if is_any {
            self.0.marked.notify_one();
        }
    }

    /// Waits for marked streams, and returns them with what was delivered of them.
    pub(super) async fn marked(&self) -> Vec<Marked> {
        loop {
            let marked = self.take_marked();
            if !marked.is_empty() {
                return marked;
            }
            self.0.marked.notified().await;
        }
    }

    fn take_marked(&self) -> Vec<Marked> {
        let mut state = self.state();
        let marked = std::mem::take(&mut state.marked);
        let with_delivered = |stream: StreamName| {
            let FollowedStream { delivered, doubt, .. } = state.streams.get(&stream)?;
            Some(Marked { delivered: (*delivered)?, doubt: *doubt, stream })
        };
        marked.into_iter().filter_map(with_delivered).collect()
    }

    /// Whether a stream has been marked for longer than this without a read.
    pub(super) fn is_behind(&self, max: Duration) -> bool {
        let state = self.state();
        let since = state.streams.values().filter_map(|followed| followed.marked_since);
        since.min().is_some_and(|since| since.elapsed() > max)
    }

    /// What was delivered of each followed stream.
    pub(super) fn delivered(&self) -> HashMap<StreamName, Delivered> {
        let state = self.state();
        let followed = state.streams.iter().filter(|(_, followed)| followed.has_followers());
        followed.filter_map(|(name, followed)| Some((name.clone(), followed.delivered?))).collect()
    }

    /// A standby was promoted: it may lack what was delivered.
    pub(super) fn doubt(&self) {
        let mut state = self.state();
        state.promotions += 1;
        let promotion = state.promotions;
        // Without followers nobody has received anything.
        state.streams.retain(|_, followed| followed.has_followers());
        for followed in state.streams.values_mut() {
            followed.doubt = Some(promotion);
        }
        let streams: Vec<StreamName> = state.streams.keys().cloned().collect();
        drop(state);
        self.mark(streams);
    }

    /// Whether the database may lack what was delivered of a stream.
    pub(super) fn is_doubtful(&self, stream: &StreamName) -> bool {
        let state = self.state();
        let followed = state.streams.get(stream);
        followed.is_some_and(|followed| followed.doubt.is_some() && followed.has_followers())
    }

    /// Delivers changes that this server has stored. Returns the queues of slow followers.
    pub(super) fn deliver(&self, changes: Vec<(StreamName, Change)>) -> Vec<Backlog> {
        self.note_activity();
        let (mut backlogs, mut gaps) = (Vec::new(), Vec::new());
        let mut state = self.state();
        for (stream, change) in changes {
            let Some(followed) = state.streams.get_mut(&stream) else { continue };
            match followed.fit(&change) {
                // A read finds out.
                _ if followed.doubt.is_some() => gaps.push(stream),
                None | Some(Fit::Gap) => gaps.push(stream),
                Some(Fit::Old) => {}
                Some(Fit::Next) => backlogs.extend(followed.send(change)),
            }
        }
        drop(state);
        self.mark(gaps);
        backlogs
    }

    /// Delivers a page that was read from what was delivered, and found it. What was delivered
    /// meanwhile is left out.
    pub(super) fn deliver_page(&self, marked: Marked, page: MessagePage) -> Vec<Backlog> {
        let mut again = page.more;
        let mut backlogs = Vec::new();
        let mut state = self.state();
        let Some(followed) = state.streams.get_mut(&marked.stream) else { return backlogs };
        followed.was_read(&marked);
        for change in changes_of(marked.delivered.position, page) {
            match followed.fit(&change) {
                Some(Fit::Next) => backlogs.extend(followed.send(change)),
                Some(Fit::Old) => {}
                None | Some(Fit::Gap) => {
                    again = true;
                    break;
                }
            }
        }
        again |= followed.doubt.is_some();
        drop(state);
        if again {
            self.mark([marked.stream]);
        }
        backlogs
    }

    /// Delivers that the stream was deleted, unless other changes were delivered meanwhile.
    pub(super) fn deliver_deleted(&self, marked: Marked) {
        if let Some(followed) = self.state().streams.get_mut(&marked.stream) {
            followed.was_read(&marked);
            // Else there was no stream before either.
            if let Some(generation) = marked.delivered.position.generation {
                if followed.delivered == Some(marked.delivered) {
                    followed.send(Change::Deleted { generation });
                }
            } else if followed.doubt.is_none() {
                return;
            }
        }
        // It may have been created again.
        self.mark([marked.stream]);
    }

    /// Ends the follows of a stream: changes cannot be delivered.
    pub(super) fn interrupt(&self, stream: &StreamName) {
        self.state().streams.remove(stream);
    }

    /// Ends every follow, and refuses new ones.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.streams.clear();
    }
}

impl FollowedStream {
    fn has_followers(&self) -> bool {
        self.senders.iter().any(|sender| !sender.is_closed())
    }

    /// The database was read from what was delivered on, and has it.
    fn was_read(&mut self, marked: &Marked) {
        self.marked_since = None;
        if self.doubt == marked.doubt && self.delivered == Some(marked.delivered) {
            self.doubt = None;
        }
    }

    /// How a change relates to what was delivered; none until that is known.
    fn fit(&self, change: &Change) -> Option<Fit> {
        self.delivered.map(|delivered| fit(delivered.position, change))
    }

    /// Sends a change that follows what was delivered. Returns the queues of slow followers.
    fn send(&mut self, change: Change) -> Vec<Backlog> {
        let (generation, last) = match &change {
            Change::Deleted { .. } => (None, None),
            Change::Appended { generation, messages, .. } => (Some(*generation), messages.last()),
            Change::Ended { generation, end, .. } => (Some(*generation), Some(end)),
        };
        self.delivered = Some(last.map_or(Delivered::NO_STREAM, |last| Delivered {
            position: Position { generation, seq: last.id.seq },
            millis: last.id.millis,
        }));
        // Usually there is one follower, which then gets the change without a copy.
        if let Some(last) = self.senders.pop() {
            self.senders.retain(|sender| sender.send(change.clone()));
            if last.send(change) {
                self.senders.push(last);
            }
        }
        self.senders.iter().filter_map(ChangeSender::backlog).collect()
    }
}

fn fit(position: Position, change: &Change) -> Fit {
    let (generation, after) = match change {
        Change::Appended { generation, after, .. } | Change::Ended { generation, after, .. } => {
            (*generation, *after)
        }
        Change::Deleted { generation } => {
            let is_current = position.generation == Some(*generation);
            return if is_current { Fit::Next } else { Fit::Gap };
        }
    };
    match position.generation {
        None if after == 0 => Fit::Next,
        Some(current) if current == generation && after == position.seq => Fit::Next,
        Some(current) if current == generation && change.head() <= position.seq => Fit::Old,
        _ => Fit::Gap,
    }
}

/// The changes that a page shows to a reader at `position`.
fn changes_of(position: Position, page: MessagePage) -> Vec<Change> {
    let Some(generation) = page.position.generation else { return Vec::new() };
    let mut changes = Vec::new();
    // From the position of a missing stream, a page begins with the first message of the generation.
    let mut after = if position.generation.is_some() { position.seq } else { 0 };
    if let Some(last) = page.messages.last().map(|last: &Message| last.id.seq) {
        let messages = page.messages;
        changes.push(Change::Appended { generation, after, messages });
        after = last;
    }
    if let Some(end) = page.end.filter(|end| !page.more && end.id.seq > after) {
        changes.push(Change::Ended { generation, after, end });
    }
    changes
}
