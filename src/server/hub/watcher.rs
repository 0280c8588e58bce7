//! A watcher: the cursor of one reader, which turns a stream into batches of SSE frames. A `reset` where
//! the cursor is unknown.

use std::{mem, sync::Arc, time::Duration};

use futures::stream::{self, Stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Hub, LagHandle, Tail,
    backoff::Backoff,
    read::{WatchError, page_events, read_page},
    tail::TailRead,
};
use crate::{
    message::{EventId, Message, ResetReason, StreamName},
    server::{
        client::Address,
        guard::MemoryPermit,
        log::{Generation, MessagePage, Position, ReadCursor, ReadError},
        sse::{Batch, frame, response},
    },
};

/// How long a log may be behind before the start of a watcher fails.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a log may be behind, or fail, before a running watcher is closed. Its client reconnects with
/// its cursor.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Watches a stream for one reader.
pub(crate) struct Watcher {
    pub(super) hub: Hub,
    pub(super) stream: StreamName,
    /// The client address of the reader.
    address: Address,
    pub(super) tail: watch::Receiver<Tail>,
    pub(super) position: Position,
    /// The same position, for the lag metrics.
    lag: LagHandle,
    /// Whether the log had more than the last page.
    more: bool,
    /// Whether the last batch said so.
    said_more: bool,
    /// The number of streams that its reader watches together, each of which has a share of a batch.
    sharers: u8,
    /// When the log first lacked messages that must exist, until it has them.
    stalled_since: Option<Instant>,
    backoff: Backoff,
    /// Memory that is reserved for a large message. Boxed, because it is rare.
    memory: Option<Box<MemoryPermit>>,
    pub(super) ended: bool,
}

/// The start of a watcher.
pub(crate) enum Start {
    /// The first frames, which may be empty, and the watcher with the following ones.
    Watching(Batch<String>, Watcher),
    /// The stream has ended, and the reader has everything.
    Finished,
}

/// What a watcher can do without waiting.
pub(super) enum Step {
    /// Frames, which may be empty: the log has no more after all.
    Batch(Batch),
    /// There is nothing to send until the tail changes.
    CaughtUp,
    /// The log must be read.
    ReadLog(TailRead),
    /// The reader has everything, and the end; or it must come back, because the log cannot be read.
    Ended,
}

impl Watcher {
    /// Watches `stream` from `cursor` on; from its beginning, with a reset, if the cursor is unknown or
    /// none. Its reader watches `sharers` streams together: a batch is so much smaller, because the reader
    /// holds one of each.
    ///
    /// # Errors
    /// When the log cannot be read, or stays behind the cursor for 5 s, or the memory budget has no room
    /// for the first message.
    pub(crate) async fn start(
        hub: &Hub,
        stream: StreamName,
        address: Address,
        cursor: Option<ReadCursor>,
        sharers: u8,
    ) -> Result<Start, WatchError> {
        let (tail, lag) = hub.join(&stream);
        let mut watcher = Self {
            hub: hub.clone(),
            stream,
            address,
            tail,
            position: Position::NO_STREAM,
            lag,
            more: false,
            said_more: false,
            sharers: sharers.max(1),
            stalled_since: None,
            backoff: Backoff::default(),
            memory: None,
            ended: false,
        };
        let begun = Instant::now();
        loop {
            match watcher.first_batch(cursor).await {
                Err(WatchError::Log(ReadError::Behind)) if begun.elapsed() < START_TIMEOUT => {
                    watcher.pause().await;
                }
                Ok(Some(first)) => {
                    watcher.said_more = first.more;
                    return Ok(Start::Watching(first, watcher));
                }
                Ok(None) => return Ok(Start::Finished),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first frames. None if the stream has ended and the reader has everything.
    async fn first_batch(
        &mut self,
        cursor: Option<ReadCursor>,
    ) -> Result<Option<Batch<String>>, WatchError> {
        let mut first = Batch::default();
        match cursor {
            None => self.reset(ResetReason::UnknownCursor, &mut first).await?,
            // A message that is stored meanwhile is in the tail soon.
            Some(ReadCursor::Earliest) if self.tail.borrow().is_absent() => {
                self.set_position(Position::NO_STREAM);
            }
            Some(cursor @ (ReadCursor::Earliest | ReadCursor::Position(_))) => {
                self.read_log(cursor, &mut first).await?;
            }
            Some(ReadCursor::Latest) => {
                // A reader that is cut off before the first message must not resume after it.
                if !self.read_log(ReadCursor::Latest, &mut first).await? {
                    frame::cursor(&mut first.frames, EventId::BEGINNING);
                }
            }
            Some(ReadCursor::Id(id)) => {
                if !self.resume_from_tail(id) {
                    self.read_log(ReadCursor::Id(id), &mut first).await?;
                }
                if first.frames.is_empty() {
                    if self.ended {
                        return Ok(None);
                    }
                    frame::cursor(&mut first.frames, id);
                }
            }
        }
        Ok(Some(first))
    }

    /// About how many bytes of frames a batch has.
    fn batch_bytes(&self) -> usize {
        response::BATCH_BYTES / usize::from(self.sharers)
    }

    /// The following frames as they arrive, in batches of about [`response::BATCH_BYTES`] bytes, or of a
    /// share of that. If the last batch said that the log had more and that has gone, an empty batch says
    /// so.
    pub(crate) fn frames(self) -> impl Stream<Item = Batch> {
        stream::unfold(self, |mut watcher| async move {
            let batch = watcher.next_batch().await?;
            Some((batch, watcher))
        })
    }

    async fn next_batch(&mut self) -> Option<Batch> {
        let mut step = self.step();
        loop {
            step = match step {
                Step::Batch(batch) => return Some(batch),
                Step::CaughtUp => {
                    self.tail.changed().await.ok()?;
                    self.step()
                }
                // Boxed: this is rare and its future is large. A waiting watcher stays small.
                Step::ReadLog(next) => Box::pin(self.step_from_log(next)).await,
                Step::Ended => return None,
            }
        }
    }

    /// What the watcher can do without waiting.
    pub(super) fn step(&mut self) -> Step {
        if self.ended {
            return Step::Ended;
        }
        let max = self.batch_bytes();
        let next = self.tail.borrow_and_update().read_after(self.position, max);
        match next {
            TailRead::Frames { bytes: frames, messages, generation, seq, ended } => {
                self.set_position(Position { generation: Some(generation), seq });
                self.ended = ended;
                self.said_more = false;
                Step::Batch(Batch { frames, messages, ..Batch::default() })
            }
            TailRead::UpToDate if mem::take(&mut self.said_more) => Step::Batch(Batch::default()),
            TailRead::UpToDate => {
                self.clear_backoff();
                Step::CaughtUp
            }
            next @ (TailRead::ReadLog | TailRead::NotFollowed | TailRead::Deleted) => {
                Step::ReadLog(next)
            }
        }
    }

    /// Reads the log, and then what the watcher can do.
    pub(super) async fn step_from_log(&mut self, next: TailRead) -> Step {
        let Some(batch) = self.read_on(next).await else { return Step::Ended };
        if batch.frames.is_empty() && (self.more || !self.said_more) {
            return self.step();
        }
        self.said_more = batch.more;
        Step::Batch(batch.into())
    }

    /// Reads the next frames from the log, after a pause if the last read had none. None to close the
    /// watcher: its client reconnects with its cursor.
    async fn read_on(&mut self, next: TailRead) -> Option<Batch<String>> {
        let mut batch = Batch::default();
        if next == TailRead::NotFollowed && !self.more {
            // The watcher had caught up. Usually the stream is followed again soon; the log is read
            // only if that takes longer.
            let pause = Backoff::max_pause();
            let changed = self.tail.changed();
            if let Ok(changed) = timeout(pause, changed).await {
                changed.ok()?;
                return Some(batch);
            }
        } else if self.stalled_since.is_some() {
            self.pause().await;
        }
        let before = self.position;
        let read = match next {
            TailRead::Deleted => self.reset(ResetReason::Deleted, &mut batch).await.map(|()| true),
            _ => self.read_log(ReadCursor::Position(before), &mut batch).await,
        };
        let moved = self.position != before || !batch.frames.is_empty();
        match read {
            Ok(_) if moved => self.clear_backoff(),
            // The log has nothing new, and the tail does not show that it must.
            Ok(_) if next == TailRead::NotFollowed => self.stalled_since = None,
            Ok(_) | Err(_) => {
                let since = *self.stalled_since.get_or_insert_with(Instant::now);
                if since.elapsed() > FETCH_TIMEOUT {
                    return None;
                }
            }
        }
        Some(batch)
    }

    async fn pause(&mut self) {
        sleep(self.backoff.pause()).await;
    }

    fn clear_backoff(&mut self) {
        self.stalled_since = None;
        self.backoff.reset();
    }

    pub(super) fn set_position(&mut self, position: Position) {
        self.position = position;
        self.lag.set_position(position.seq);
    }

    /// Resumes after a message that is still in the tail; returns whether it is.
    fn resume_from_tail(&mut self, id: EventId) -> bool {
        let found = self.tail.borrow().find(id);
        if let Some((position, ended)) = found {
            self.set_position(position);
            self.ended = ended;
        }
        found.is_some()
    }

    /// Whether the tail still has this generation: its deletion has not been delivered yet.
    fn tail_has_generation(&self, generation: Generation) -> bool {
        self.tail.borrow().has_generation(generation)
    }

    /// Reads a page of the log. If its first message is large, memory is reserved for it.
    async fn read_page(&mut self, cursor: ReadCursor) -> Result<MessagePage, WatchError> {
        self.memory = None;
        let hub = Arc::clone(&self.hub.0);
        let read = read_page(hub, self.stream.clone(), self.address, cursor, self.sharers);
        let (page, memory) = if self.sharers > 1 {
            // A task, because the reader is sent the messages of other streams meanwhile: this future
            // may not be polled for long, and must not keep a place in a queue, or a connection to the
            // store, from those behind it.
            let task = AbortOnDropHandle::new(tokio::spawn(read));
            task.await.map_err(|_| ReadError::Unavailable("the read was aborted".into()))??
        } else {
            read.await?
        };
        self.memory = memory;
        Ok(page)
    }

    /// Reads a page of the log into `out`; returns whether the stream exists.
    async fn read_log(
        &mut self,
        cursor: ReadCursor,
        out: &mut Batch<String>,
    ) -> Result<bool, WatchError> {
        let error = match self.read_page(cursor).await {
            Ok(page) => {
                self.encode_page(&page, cursor, out);
                return Ok(true);
            }
            Err(WatchError::Log(error)) => error,
            Err(error @ WatchError::Memory(_)) => return Err(error),
        };
        match error {
            ReadError::NoStream | ReadError::UnknownCursor | ReadError::Trimmed
                if matches!(cursor, ReadCursor::Id(_)) =>
            {
                self.reset(ResetReason::UnknownCursor, out).await?;
            }
            ReadError::NoStream => {
                match self.position.generation {
                    None => {
                        self.set_position(Position::NO_STREAM);
                        self.more = false;
                        return Ok(false);
                    }
                    // The frames in the tail would follow a reader that starts again.
                    Some(generation) if self.tail_has_generation(generation) => {
                        return Err(ReadError::Behind.into());
                    }
                    Some(_) => self.reset(ResetReason::Deleted, out).await?,
                }
            }
            ReadError::UnknownCursor => self.reset(ResetReason::Deleted, out).await?,
            ReadError::Trimmed => self.reset(ResetReason::Trimmed, out).await?,
            ReadError::Behind | ReadError::Unavailable(_) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Sends a reset, and starts again with the oldest message.
    async fn reset(
        &mut self,
        reason: ResetReason,
        out: &mut Batch<String>,
    ) -> Result<(), WatchError> {
        let page = match self.read_page(ReadCursor::Earliest).await {
            Ok(page) => Some(page),
            Err(WatchError::Log(
                ReadError::NoStream | ReadError::UnknownCursor | ReadError::Trimmed,
            )) => None,
            Err(error) => return Err(error),
        };
        let deleted = self.position.generation.filter(|_| reason == ResetReason::Deleted);
        if deleted.is_some() && page.as_ref().and_then(|page| page.position.generation) == deleted {
            return Err(ReadError::Behind.into());
        }
        // The page begins with the oldest message.
        let oldest = page.as_ref().and_then(|page| page.messages.first()).map(|first| first.id);
        out.push_reset(reason, oldest);
        self.set_position(Position::NO_STREAM);
        self.more = false;
        match page {
            Some(page) => self.encode_page(&page, ReadCursor::Earliest, out),
            // The client must also drop its old cursor.
            None => frame::cursor(&mut out.frames, EventId::BEGINNING),
        }
        Ok(())
    }

    /// Encodes a page into frames, about as many bytes of them as a batch has, and moves the position
    /// after them.
    fn encode_page(&mut self, page: &MessagePage, from: ReadCursor, out: &mut Batch<String>) {
        let (mut position, mut more) = (page.position, page.more);
        let mut last = None;
        for (kind, Message { id, data }) in page_events(page, from) {
            if let Some(seq) = last
                && out.frames.len() + frame::max_length(data) > self.batch_bytes()
            {
                (position.seq, more) = (seq, true);
                break;
            }
            out.frames.reserve(frame::max_length(data));
            frame::event(&mut out.frames, kind, Some(*id), data);
            out.messages += 1;
            last = Some(id.seq);
        }
        out.memory = self.memory.take().filter(|_| out.frames.len() > response::BATCH_BYTES);
        self.lag.raise_head(page.head.seq);
        self.set_position(position);
        self.more = more;
        out.more = more;
        self.ended = page.end.is_some() && !more;
        if out.frames.is_empty() && !self.ended && from == ReadCursor::Latest && page.head.seq > 0 {
            frame::cursor(&mut out.frames, page.head);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.leave(&self.stream);
    }
}
