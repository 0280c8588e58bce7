//! A watcher: a cursor that moves.

use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;

use super::{
    super::{
        events::{self, Batch},
        frame,
        log::{Bound, Log, NotRead, Page, Place, Position, Range},
    },
    Hub, Mark, Tail,
    tail::Next,
};
use crate::message::{END_EVENT, EventId, Message, NEW_MESSAGE, RESET, StreamName};

/// How much of the log a watcher reads at a time: it holds that much, no more.
const PAGE: Bound = Bound { messages: 256, bytes: 16 * 1024 };

/// Follows a stream for one reader.
pub(in crate::server) struct Watcher {
    hub: Hub,
    log: Log,
    stream: StreamName,
    /// Taken when the watcher goes.
    tail: Option<watch::Receiver<Tail>>,
    position: Position,
    /// The same, for whoever wants to know how far it is behind.
    mark: Mark,
    /// Whether everything in the log up to the tail was read.
    joined: bool,
    ended: bool,
}

/// How a reader begins.
pub(in crate::server) enum Start {
    /// With these frames, which may be empty; then whatever the watcher brings.
    Watching(Batch<String>, Watcher),
    /// It has everything, and the stream has ended.
    Finished,
}

/// Why a reader has to begin anew.
#[derive(Clone, Copy, Debug)]
enum Reset {
    /// The cursor is not in the log: it never was, or it was trimmed, or it is of another life.
    UnknownCursor,
    /// The stream was deleted.
    Deleted,
    /// Messages were trimmed before the reader came to them.
    Trimmed,
}

impl Watcher {
    /// Watches `stream` from `place` on; from its beginning, with a reset, where that is not known.
    ///
    /// The tail is joined first and the log is read then: what happens in between is in both, and
    /// nothing is in neither.
    pub(in crate::server) async fn start(
        hub: Hub,
        log: Log,
        stream: StreamName,
        place: Option<Place>,
    ) -> Result<Start, NotRead> {
        let (tail, mark) = hub.join(&stream);
        let mut watcher = Self {
            hub,
            log,
            stream,
            tail: Some(tail),
            position: Position::NOWHERE,
            mark,
            joined: false,
            ended: false,
        };
        let mut first = Batch::default();
        match place {
            None => watcher.reset(Reset::UnknownCursor, &mut first).await?,
            Some(place @ (Place::Earliest | Place::Position(_))) => {
                watcher.read(place, &mut first).await?;
            }
            Some(Place::Latest) => {
                // Whoever is cut off before the first message must not begin after it.
                if !watcher.read(Place::Latest, &mut first).await? {
                    frame::cursor(&mut first.frames, EventId::BEGINNING);
                }
            }
            Some(Place::Id(id)) => {
                if !watcher.is_in_tail(id) {
                    watcher.read(Place::Id(id), &mut first).await?;
                }
                if watcher.ended && first.frames.is_empty() {
                    return Ok(Start::Finished);
                }
                if first.frames.is_empty() {
                    frame::cursor(&mut first.frames, id);
                }
            }
        }
        Ok(Start::Watching(first, watcher))
    }

    /// What follows, as soon as there is something, in pieces of about [`events::BATCH`] bytes.
    pub(in crate::server) fn frames(self) -> impl Stream<Item = Batch> {
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
            let next = if self.joined {
                self.tail.as_mut()?.borrow_and_update().next(self.position, events::BATCH)
            } else {
                Next::Log
            };
            // A store that can not be read lets its readers go; they come back with their cursors.
            match next {
                Next::Frames { bytes: frames, messages, life, seq, ended } => {
                    self.move_to(Position { life: Some(life), seq });
                    self.ended = ended;
                    return Some(Batch { frames, messages, reset: None });
                }
                Next::Nothing => self.tail.as_mut()?.changed().await.ok()?,
                // Both are rare, and what they need meanwhile is large: a watcher that waits is small.
                next @ (Next::Log | Next::Deleted) => {
                    let batch = Box::pin(self.next_of_log(next)).await?;
                    if !batch.frames.is_empty() {
                        return Some(batch.into());
                    }
                }
            }
        }
    }

    /// What only the log has.
    async fn next_of_log(&mut self, next: Next) -> Option<Batch<String>> {
        let mut batch = Batch::default();
        if next == Next::Deleted {
            self.reset(Reset::Deleted, &mut batch).await.ok()?;
        } else if !self.read(Place::Position(self.position), &mut batch).await.ok()? {
            // It was deleted, and the tail is about to be told.
            self.tail.as_mut()?.changed().await.ok()?;
        }
        Some(batch)
    }

    fn move_to(&mut self, position: Position) {
        self.position = position;
        self.mark.at(position.seq);
    }

    /// Goes on after a message that is still in memory.
    fn is_in_tail(&mut self, id: EventId) -> bool {
        let found = self.tail.as_ref().and_then(|tail| tail.borrow().find(id));
        if let Some((position, ended)) = found {
            self.move_to(position);
            (self.joined, self.ended) = (true, ended);
        }
        found.is_some()
    }

    /// Reads a page of the log; tells whether there is such a stream.
    async fn read(&mut self, place: Place, out: &mut Batch<String>) -> Result<bool, NotRead> {
        match self.log.read(&self.stream, Range::After(place), PAGE).await {
            Ok(page) => self.take(page, place, out),
            Err(NotRead::NoStream | NotRead::UnknownPlace) if matches!(place, Place::Id(_)) => {
                self.reset(Reset::UnknownCursor, out).await?;
            }
            Err(NotRead::NoStream) => {
                self.joined = true;
                return Ok(false);
            }
            Err(NotRead::UnknownPlace) => self.reset(Reset::Trimmed, out).await?,
            Err(unavailable) => return Err(unavailable),
        }
        Ok(true)
    }

    /// Begins anew with everything there is, and says so.
    async fn reset(&mut self, reason: Reset, out: &mut Batch<String>) -> Result<(), NotRead> {
        let page = match self.log.read(&self.stream, Range::After(Place::Earliest), PAGE).await {
            Ok(page) => Some(page),
            Err(NotRead::NoStream | NotRead::UnknownPlace) => None,
            Err(unavailable) => return Err(unavailable),
        };
        let life = page.as_ref().and_then(|page| page.position.life);
        let reason = match reason {
            Reset::UnknownCursor => "unknown-cursor",
            Reset::Trimmed if life == self.position.life => "trimmed",
            Reset::Trimmed | Reset::Deleted => "deleted",
        };
        // The page begins where the stream does.
        let oldest = page.as_ref().and_then(|page| page.messages.first()).map(|first| first.id);
        let told = json!({ "reason": reason, "oldest": oldest }).to_string();
        frame::event(&mut out.frames, RESET, None, &told);
        out.reset = Some(reason);
        self.move_to(Position::NOWHERE);
        self.joined = true;
        match page {
            Some(page) => self.take(page, Place::Earliest, out),
            // Nor must whoever has a cursor keep it.
            None => frame::cursor(&mut out.frames, EventId::BEGINNING),
        }
        Ok(())
    }

    /// Writes the frames of a page, and moves behind it.
    fn take(&mut self, page: Page, from: Place, out: &mut Batch<String>) {
        for Message { id, data } in &page.messages {
            frame::event(&mut out.frames, NEW_MESSAGE, Some(*id), data);
        }
        out.messages += page.messages.len();
        self.mark.head_is_at_least(page.head.seq);
        self.move_to(page.position);
        self.joined = !page.more;
        match page.end {
            Some(Message { id, data }) if self.joined => {
                self.ended = true;
                if from != Place::Id(id) {
                    frame::event(&mut out.frames, END_EVENT, Some(id), &data);
                    out.messages += 1;
                }
            }
            _ if out.frames.is_empty() && from == Place::Latest && page.head.seq > 0 => {
                frame::cursor(&mut out.frames, page.head);
            }
            _ => {}
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.hub.leave(&self.stream, tail);
        }
    }
}
