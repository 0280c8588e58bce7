//! A watcher: a cursor that moves.

use std::{sync::Arc, time::Duration};

use futures::stream::{self, Stream};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Hub, LagHandle, Tail, backoff::Backoff, tail::Next};
use crate::{
    message::{END_EVENT, EventId, Message, NEW_MESSAGE, RESET, StreamName},
    server::{
        client::Address,
        error::Problem,
        guard::{MemoryPart, MemoryPermit},
        log::{Generation, MessagePage, Place, Position, Range, ReadError},
        sse::{Batch, frame, response},
    },
};

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a log may be behind, or not answer, before a reader is told so that has just come.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// The same before a reader is let go that is watching. It comes back with its cursor.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Follows a stream for one reader.
pub(crate) struct Watcher {
    hub: Hub,
    stream: StreamName,
    /// Where the reader is.
    address: Address,
    /// Taken when the watcher goes.
    tail: Option<watch::Receiver<Tail>>,
    position: Position,
    /// The same, for whoever wants to know how far it is behind.
    lag: LagHandle,
    /// Whether the log had more than was read the last time.
    more: bool,
    /// Since when the log has not had what there must be.
    stalled: Option<Instant>,
    backoff: Backoff,
    /// Reserved for a large message that is about to be read. Boxed, because it is rare.
    memory: Option<Box<MemoryPermit>>,
    ended: bool,
}

/// How a reader begins.
pub(crate) enum Start {
    /// With these frames, which may be empty; then whatever the watcher brings.
    Watching(Batch<String>, Watcher),
    /// It has everything, and the stream has ended.
    Finished,
}

/// Why there is nothing for a reader.
#[derive(Debug)]
pub(crate) enum WatchError {
    /// The log cannot be read.
    Log(ReadError),
    /// There is no memory for a large message.
    Memory(Problem),
}

impl From<ReadError> for WatchError {
    fn from(error: ReadError) -> Self {
        Self::Log(error)
    }
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Log(error) => error.into(),
            WatchError::Memory(problem) => problem,
        }
    }
}

/// Why a reader has to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    /// The cursor is not in the log: it never was, or it was trimmed, or it is of another generation.
    UnknownCursor,
    /// The stream was deleted.
    Deleted,
    /// Messages were trimmed before the reader came to them.
    Trimmed,
}

impl Watcher {
    /// Watches `stream` from `place` on; from its beginning, with a reset, where that is not known.
    ///
    /// # Errors
    /// When the log cannot be read, or stays behind the place, or there is no memory for what is there.
    pub(crate) async fn start(
        hub: &Hub,
        stream: StreamName,
        address: Address,
        place: Option<Place>,
    ) -> Result<Start, WatchError> {
        let (tail, lag) = hub.join(&stream);
        let mut watcher = Self {
            hub: hub.clone(),
            stream,
            address,
            tail: Some(tail),
            position: Position::NOWHERE,
            lag,
            more: false,
            stalled: None,
            backoff: Backoff::default(),
            memory: None,
            ended: false,
        };
        let begun = Instant::now();
        loop {
            match watcher.begin(place).await {
                Err(WatchError::Log(ReadError::Behind)) if begun.elapsed() < START_TIMEOUT => {
                    watcher.pause().await;
                }
                Ok(Some(first)) => return Ok(Start::Watching(first, watcher)),
                Ok(None) => return Ok(Start::Finished),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first frames, or none if there is nothing left to watch.
    async fn begin(&mut self, place: Option<Place>) -> Result<Option<Batch<String>>, WatchError> {
        let mut first = Batch::default();
        match place {
            None => self.reset(Reset::UnknownCursor, &mut first).await?,
            Some(place @ (Place::Earliest | Place::Position(_))) => {
                self.read(place, &mut first).await?;
            }
            Some(Place::Latest) => {
                // Whoever is cut off before the first message must not begin after it.
                if !self.read(Place::Latest, &mut first).await? {
                    frame::cursor(&mut first.frames, EventId::BEGINNING);
                }
            }
            Some(Place::Id(id)) => {
                if !self.is_in_tail(id) {
                    self.read(Place::Id(id), &mut first).await?;
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

    /// What follows, as soon as there is something, in pieces of about [`response::BATCH`] bytes.
    pub(crate) fn frames(self) -> impl Stream<Item = Batch> {
        stream::unfold(self, |mut watcher| async move {
            let batch = watcher.next().await?;
            Some((batch, watcher))
        })
    }

    async fn next(&mut self) -> Option<Batch> {
        loop {
            if self.ended {
                return None;
            }
            let next = self.tail.as_mut()?.borrow_and_update().next(self.position, response::BATCH);
            match next {
                Next::Frames { bytes: frames, messages, generation, seq, ended } => {
                    self.move_to(Position { generation: Some(generation), seq });
                    self.ended = ended;
                    return Some(Batch { frames, messages, ..Batch::default() });
                }
                Next::Nothing => {
                    self.goes_well();
                    self.tail.as_mut()?.changed().await.ok()?;
                }
                // All are rare, and what they need meanwhile is large: a watcher that waits is small.
                next @ (Next::Log | Next::Unknown | Next::Deleted) => {
                    let batch = Box::pin(self.next_of_log(next)).await?;
                    if !batch.frames.is_empty() {
                        return Some(batch.into());
                    }
                }
            }
        }
    }

    /// What only the log has, after a pause if it had nothing the last time. None to let the reader
    /// go; it comes back with its cursor.
    async fn next_of_log(&mut self, next: Next) -> Option<Batch<String>> {
        let mut batch = Batch::default();
        if next == Next::Unknown && !self.more {
            // It had everything a moment ago. The stream is about to be followed: to read it is for
            // the case that this takes longer.
            let pause = Backoff::max_pause();
            let changed = self.tail.as_mut()?.changed();
            if let Ok(changed) = timeout(pause, changed).await {
                changed.ok()?;
                return Some(batch);
            }
        } else if self.stalled.is_some() {
            self.pause().await;
        }
        let before = self.position;
        let read = match next {
            Next::Deleted => self.reset(Reset::Deleted, &mut batch).await.map(|()| true),
            _ => self.read(Place::Position(before), &mut batch).await,
        };
        let moved = self.position != before || !batch.frames.is_empty();
        match read {
            Ok(_) if moved => self.goes_well(),
            // There is nothing, and the tail does not say that there must be something.
            Ok(_) if next == Next::Unknown => self.stalled = None,
            Ok(_) | Err(_) => {
                let since = *self.stalled.get_or_insert_with(Instant::now);
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

    fn goes_well(&mut self) {
        self.stalled = None;
        self.backoff.reset();
    }

    fn move_to(&mut self, position: Position) {
        self.position = position;
        self.lag.set_position(position.seq);
    }

    /// Goes on after a message that is still in memory.
    fn is_in_tail(&mut self, id: EventId) -> bool {
        let found = self.tail.as_ref().and_then(|tail| tail.borrow().find(id));
        if let Some((position, ended)) = found {
            self.move_to(position);
            self.ended = ended;
        }
        found.is_some()
    }

    /// Whether the tail is still of this generation, and so is about to be told that it is over.
    fn tail_is_of(&self, generation: Generation) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.borrow().is_of(generation))
    }

    /// Reads a page of the log. A message that is so large that readers of many would hold too much
    /// together is read once there is memory for it.
    async fn page(&mut self, place: Place) -> Result<MessagePage, WatchError> {
        let shared = Arc::clone(&self.hub.0);
        self.memory = None;
        loop {
            let no_answer = || ReadError::Unavailable("the store does not answer".into());
            let read = shared.log.read(&self.stream, Range::After(place), shared.sizes.page);
            let page = timeout(READ_TIMEOUT, read).await.map_err(|_| no_answer())??;
            let first = events_of(&page, place).next();
            let length = first.map_or(0, |(_, first)| frame::max_length(&first.data));
            let is_reserved = || self.memory.as_ref().is_some_and(|memory| memory.fits(length));
            if length <= response::BATCH || is_reserved() {
                return Ok(page);
            }
            drop(page);
            self.memory = None;
            let memory = shared.memory.acquire(self.address, MemoryPart::Streams, length).await;
            self.memory = Some(Box::new(memory.map_err(WatchError::Memory)?));
        }
    }

    /// Reads a page of the log; tells whether there is such a stream.
    async fn read(&mut self, place: Place, out: &mut Batch<String>) -> Result<bool, WatchError> {
        let error = match self.page(place).await {
            Ok(page) => {
                self.take(&page, place, out);
                return Ok(true);
            }
            Err(WatchError::Log(error)) => error,
            Err(error @ WatchError::Memory(_)) => return Err(error),
        };
        match error {
            ReadError::NoStream | ReadError::UnknownPlace | ReadError::Trimmed
                if matches!(place, Place::Id(_)) =>
            {
                self.reset(Reset::UnknownCursor, out).await?;
            }
            ReadError::NoStream => {
                match self.position.generation {
                    None => {
                        self.move_to(Position::NOWHERE);
                        self.more = false;
                        return Ok(false);
                    }
                    // What the tail has would follow a reader that begins anew.
                    Some(generation) if self.tail_is_of(generation) => {
                        return Err(ReadError::Behind.into());
                    }
                    Some(_) => self.reset(Reset::Deleted, out).await?,
                }
            }
            ReadError::UnknownPlace => self.reset(Reset::Deleted, out).await?,
            ReadError::Trimmed => self.reset(Reset::Trimmed, out).await?,
            ReadError::Behind | ReadError::Unavailable(_) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Begins anew with everything there is, and says so.
    async fn reset(&mut self, reason: Reset, out: &mut Batch<String>) -> Result<(), WatchError> {
        let page = match self.page(Place::Earliest).await {
            Ok(page) => Some(page),
            Err(WatchError::Log(
                ReadError::NoStream | ReadError::UnknownPlace | ReadError::Trimmed,
            )) => None,
            Err(error) => return Err(error),
        };
        let deleted = self.position.generation.filter(|_| reason == Reset::Deleted);
        if deleted.is_some() && page.as_ref().and_then(|page| page.position.generation) == deleted {
            return Err(ReadError::Behind.into());
        }
        let reason = match reason {
            Reset::UnknownCursor => "unknown-cursor",
            Reset::Trimmed => "trimmed",
            Reset::Deleted => "deleted",
        };
        // The page begins where the stream does.
        let oldest = page.as_ref().and_then(|page| page.messages.first()).map(|first| first.id);
        let told = json!({ "reason": reason, "oldest": oldest }).to_string();
        frame::event(&mut out.frames, RESET, None, &told);
        out.reset = Some(reason);
        self.move_to(Position::NOWHERE);
        self.more = false;
        match page {
            Some(page) => self.take(&page, Place::Earliest, out),
            // Nor must whoever has a cursor keep it.
            None => frame::cursor(&mut out.frames, EventId::BEGINNING),
        }
        Ok(())
    }

    /// Writes the frames of a page, as many as a reader may hold, and moves behind them.
    fn take(&mut self, page: &MessagePage, from: Place, out: &mut Batch<String>) {
        let (mut position, mut more) = (page.position, page.more);
        let mut last = None;
        for (kind, Message { id, data }) in events_of(page, from) {
            if let Some(seq) = last
                && out.frames.len() + frame::max_length(data) > response::BATCH
            {
                (position.seq, more) = (seq, true);
                break;
            }
            out.frames.reserve(frame::max_length(data));
            frame::event(&mut out.frames, kind, Some(*id), data);
            out.messages += 1;
            last = Some(id.seq);
        }
        out.memory = self.memory.take().filter(|_| out.frames.len() > response::BATCH);
        self.lag.raise_head(page.head.seq);
        self.move_to(position);
        self.more = more;
        self.ended = page.end.is_some() && !more;
        if out.frames.is_empty() && !self.ended && from == Place::Latest && page.head.seq > 0 {
            frame::cursor(&mut out.frames, page.head);
        }
    }
}

/// What a page has for a reader, and of what kind: messages, and behind them the end, unless that is
/// where the reader is.
fn events_of(page: &MessagePage, from: Place) -> impl Iterator<Item = (&'static str, &Message)> {
    let end = page.end.iter().filter(move |end| !page.more && from != Place::Id(end.id));
    let messages = page.messages.iter().map(|message| (NEW_MESSAGE, message));
    messages.chain(end.map(|end| (END_EVENT, end)))
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.hub.leave(&self.stream, tail);
        }
    }
}
