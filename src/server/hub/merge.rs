//! Merging the event streams of several streams into one.
//!
//! There is a watcher for each stream. The frames of a message are those that all its readers share: only
//! the id is written anew, because it lists the cursor of each stream by name
//! ([`own_entry`](crate::message::own_entry)).
//!
//! What was stored before the reader came is merged in the order of time; later messages in the order in
//! which they arrive, one batch of each stream in turn, so that a stream that floods delays no other. A
//! slow reader holds a batch of each stream, about [`response::BATCH_BYTES`] in all.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{future::try_join_all, stream::Stream};

use super::{
    Hub,
    read::WatchError,
    watcher::{Start, Watcher},
};
use crate::{
    message::{END_EVENT, EventId, NEW_MESSAGE, PING, RESET, ResetReason, StreamName, StreamNames},
    server::{
        client::Address,
        guard::MemoryPermit,
        log::ReadCursor,
        sse::{
            Batch,
            frame::{self, Frame},
            response,
        },
    },
};

/// No more batches are requested while this many bytes are held. Only messages of some kilobytes, each of
/// which is more than the share of its stream, get there.
const MAX_HELD_BYTES: usize = 2 * response::BATCH_BYTES;

/// Several streams, watched together for one reader: batches of their frames.
pub(crate) struct MergedWatcher {
    sources: Vec<Source>,
    /// The index of the stream whose turn it is.
    turn: usize,
    /// Messages that were accepted before this time are sent in the order of time: the time at which the
    /// reader came, in milliseconds since the Unix epoch.
    began_at: u64,
    /// Whether the reader has a cursor that it was not told: a `ping` confirms it if no message does.
    unconfirmed: bool,
    /// The rest of a large message whose head was sent.
    rest: Option<Batch>,
    /// Whether one of the streams cannot be read on: the reader has to come back with its cursor.
    failed: bool,
}

/// One of the streams.
struct Source {
    stream: StreamName,
    /// `None` once the stream has ended.
    batches: Option<Pin<Box<dyn Stream<Item = Batch> + Send>>>,
    /// The frames of the last batch that are not sent yet,
    frames: Bytes,
    /// and what they are.
    parts: VecDeque<Part>,
    /// The reason of the reset among them.
    reset: Option<ResetReason>,
    /// The memory reserved for the large one among them, which is the last.
    memory: Option<Box<MemoryPermit>>,
    /// Whether the next batch is being read from the log, and does not wait for a new message.
    is_behind: bool,
    /// The cursor of the reader; `None` before the first message.
    cursor: Option<EventId>,
    ended: bool,
}

/// A frame that is held.
#[derive(Clone, Copy, Debug)]
struct Part {
    kind: &'static str,
    id: Option<EventId>,
    /// The bytes of the frame, and those of its data, at its end.
    length: usize,
    data: usize,
}

impl MergedWatcher {
    /// Watches streams, each from its cursor in `cursors` on; from the beginning, with a reset, if that is
    /// unknown (`None`). Returns `None` if all have ended and the reader has everything. `now` is the
    /// time of day in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`Watcher::start`], for any of the streams.
    pub(crate) async fn start(
        hub: &Hub,
        streams: &StreamNames,
        address: Address,
        cursors: &[Option<ReadCursor>],
        now: u64,
    ) -> Result<Option<Self>, WatchError> {
        let streams = streams.as_slice();
        let sharers = u8::try_from(streams.len()).unwrap_or(u8::MAX);
        let starts = streams.iter().zip(cursors).map(|(stream, &cursor)| async move {
            let start = Watcher::start(hub, stream.clone(), address, cursor, sharers).await?;
            Ok::<_, WatchError>(Source::new(stream.clone(), cursor, start))
        });
        let sources: Vec<Source> = try_join_all(starts).await?;
        if sources.iter().all(|source| source.ended) {
            return Ok(None);
        }
        let unconfirmed = sources.iter().any(|source| source.cursor.is_some());
        let (turn, rest) = (0, None);
        Ok(Some(Self { sources, turn, began_at: now, unconfirmed, rest, failed: false }))
    }

    /// Asks each stream of which nothing is held for its next batch, those that are not `asked` yet.
    /// Returns whether one of them is being read from the log, so that its messages may precede those that
    /// are held.
    fn fill(&mut self, context: &mut Context<'_>, asked: &mut [bool]) -> bool {
        let mut is_reading = false;
        let mut held: usize = self.sources.iter().map(|source| source.frames.len()).sum();
        for index in self.indices_in_turn() {
            let source = &mut self.sources[index];
            loop {
                self.unconfirmed |= source.skip_cursors();
                if source.front().is_some() || asked[index] || held >= MAX_HELD_BYTES {
                    break;
                }
                let Some(batches) = &mut source.batches else { break };
                match batches.as_mut().poll_next(context) {
                    Poll::Ready(Some(batch)) => {
                        source.hold(batch);
                        held += source.frames.len();
                    }
                    Poll::Ready(None) => {
                        source.batches = None;
                        self.failed |= !source.ended;
                    }
                    // The stream wakes the task.
                    Poll::Pending => asked[index] = true,
                }
            }
            is_reading |= asked[index] && source.is_behind;
        }
        is_reading
    }

    /// The stream that is next, and the time up to which its messages precede those of the others.
    ///
    /// The messages that were stored before the reader came are one queue, in the order of time. It waits
    /// while one of the streams `is_reading` its part of it. The queue and each stream with a newer message
    /// have their turns. A large message is not held until its time has come, because memory is reserved
    /// for it.
    fn next_source(&self, is_reading: bool) -> Option<(usize, u64)> {
        let mut earliest: Option<(usize, u64)> = None;
        let mut until = u64::MAX;
        let mut newer = None;
        for index in self.indices_in_turn() {
            let Some(front) = self.sources[index].front() else { continue };
            if front.is_large() || front.time() >= self.began_at {
                newer = newer.or(Some(index));
                continue;
            }
            match earliest {
                Some((_, time)) if time <= front.time() => until = until.min(front.time()),
                _ => {
                    until = earliest.map_or(until, |(_, time)| time.min(until));
                    earliest = Some((index, front.time()));
                }
            }
        }
        let earliest = earliest.filter(|_| !is_reading).map(|(index, _)| (index, until));
        let newer = newer.map(|index| (index, u64::MAX));
        let wait =
            |(index, _): &(usize, u64)| self.indices_in_turn().position(|other| other == *index);
        earliest.into_iter().chain(newer).min_by_key(wait)
    }

    /// The indices of the streams, from the one whose turn it is.
    fn indices_in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        (self.turn..self.sources.len()).chain(0..self.turn)
    }

    /// Moves frames of a stream into a batch, as long as they do not come after `until`. Returns false if
    /// the batch is full.
    fn send(&mut self, index: usize, until: u64, batch: &mut Batch<String>) -> bool {
        let mut is_first = true;
        while let Some(front) = self.sources[index].front() {
            if front.is_large() && !batch.frames.is_empty() {
                // It is not passed over.
                self.turn = index;
                return false;
            }
            if !is_first && front.time() > until {
                break;
            }
            is_first = false;
            if front.kind == RESET {
                self.send_reset(index, front, batch);
                return false;
            }
            self.send_message(index, front, batch);
            if front.is_large() || batch.frames.len() >= response::BATCH_BYTES {
                return false;
            }
        }
        true
    }

    /// A batch has one reset at most.
    fn send_reset(&mut self, index: usize, front: Part, batch: &mut Batch<String>) {
        let source = &mut self.sources[index];
        batch.reset = source.reset.take();
        source.cursor = None;
        let frame = source.take_front(front);
        frame::reset_of_several(&mut batch.frames, &source.stream, &frame);
    }

    fn send_message(&mut self, index: usize, front: Part, batch: &mut Batch<String>) {
        let source = &mut self.sources[index];
        source.cursor = front.id.or(source.cursor);
        source.ended |= front.kind == END_EVENT;
        let mut frame = source.take_front(front);
        let data = frame.split_off(front.length - front.data);
        let memory = source.memory.take_if(|_| front.is_large());
        self.push_head(front.kind, index, &mut batch.frames);
        self.unconfirmed = self.sources[index].skip_cursors();
        batch.messages += 1;
        if front.is_large() {
            batch.incomplete = true;
            self.rest = Some(Batch { frames: data, memory, ..Batch::default() });
        } else {
            batch.frames.push_str(str::from_utf8(&data).unwrap_or_default());
        }
    }

    /// Appends the head of a frame, with the cursors of all streams as its id, that of `first` first.
    fn push_head(&self, kind: &str, first: usize, frames: &mut String) {
        let others = (0..self.sources.len()).filter(|index| *index != first);
        let sources = std::iter::once(first).chain(others).map(|index| &self.sources[index]);
        let cursors = sources.filter_map(|source| Some((&source.stream, source.cursor?)));
        frame::head_of_several(frames, kind, cursors);
    }

    /// A `ping` whose id is the cursor of the reader, if no message has told it.
    fn confirm(&mut self) -> Option<Batch> {
        if !std::mem::take(&mut self.unconfirmed) {
            return None;
        }
        let mut batch = Batch::<String>::default();
        self.push_head(PING, 0, &mut batch.frames);
        batch.frames.push_str("data: {}\n\n");
        Some(batch.into())
    }
}

impl Stream for MergedWatcher {
    type Item = Batch;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        let this = self.get_mut();
        if let Some(rest) = this.rest.take() {
            return Poll::Ready(Some(rest));
        }
        let mut batch = Batch::<String>::default();
        // A stream that has nothing more is asked once.
        let mut asked = [false; StreamNames::MAX];
        loop {
            let is_reading = this.fill(context, &mut asked);
            if this.failed {
                break;
            }
            let Some((index, until)) = this.next_source(is_reading) else { break };
            this.turn = (index + 1) % this.sources.len();
            if !this.send(index, until, &mut batch) {
                break;
            }
        }
        if !batch.frames.is_empty() {
            return Poll::Ready(Some(batch.into()));
        }
        if this.failed || this.sources.iter().all(|source| source.ended) {
            return Poll::Ready(None);
        }
        this.confirm().map_or(Poll::Pending, |ping| Poll::Ready(Some(ping)))
    }
}

impl Source {
    fn new(stream: StreamName, cursor: Option<ReadCursor>, start: Start) -> Self {
        let cursor = match cursor {
            Some(ReadCursor::Id(id)) => Some(id),
            _ => None,
        };
        let mut source = Self {
            stream,
            batches: None,
            frames: Bytes::new(),
            parts: VecDeque::new(),
            reset: None,
            memory: None,
            is_behind: false,
            cursor,
            ended: false,
        };
        match start {
            Start::Finished => source.ended = true,
            Start::Watching(first, watcher) => {
                source.hold(first.into());
                source.batches = Some(Box::pin(watcher.frames()));
            }
        }
        source
    }

    /// Holds a batch. A part of a block that readers share is copied, so that a slow reader does not keep
    /// the whole block in memory.
    fn hold(&mut self, batch: Batch) {
        let Batch { frames, reset, memory, more, .. } = batch;
        let is_small = frames.len() <= response::BATCH_BYTES;
        self.frames = if is_small { Bytes::copy_from_slice(&frames) } else { frames };
        self.parts = parts(&self.frames);
        (self.reset, self.memory, self.is_behind) = (reset, memory, more);
    }

    fn front(&self) -> Option<Part> {
        self.parts.front().copied()
    }

    fn take_front(&mut self, front: Part) -> Bytes {
        self.parts.pop_front();
        self.frames.split_to(front.length)
    }

    /// Takes the cursors that begin what is held, which are not for the reader; returns whether there was
    /// one.
    fn skip_cursors(&mut self) -> bool {
        let mut found = false;
        while let Some(ping) = self.front().filter(|front| front.kind == PING) {
            self.cursor = ping.id.or(self.cursor);
            self.take_front(ping);
            found = true;
        }
        found
    }
}

impl Part {
    /// Whether it is larger than a reader may hold without a reservation.
    fn is_large(&self) -> bool {
        self.length > response::BATCH_BYTES
    }

    /// When the message was accepted; 0 for a reset.
    fn time(&self) -> u64 {
        self.id.map_or(0, |id| id.millis)
    }
}

/// What the frames of a batch are.
fn parts(frames: &[u8]) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    // They were encoded from text.
    let mut frames = str::from_utf8(frames).unwrap_or_default();
    while let Some((Frame { kind, id, data }, rest)) = frame::split_first(frames) {
        let known = [NEW_MESSAGE, END_EVENT, RESET, PING].into_iter().find(|known| *known == kind);
        let kind = known.unwrap_or(NEW_MESSAGE);
        let (length, data) = (frames.len() - rest.len(), data.len());
        parts.push_back(Part { kind, id: id.parse().ok(), length, data });
        frames = rest;
    }
    parts
}
