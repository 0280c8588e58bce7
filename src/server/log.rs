//! The durable log: what every engine promises.
//!
//! - [`append`](Log::append) and [`append_all`](Log::append_all) are ordered, and durable before they
//!   return. A message is stored or not; so is a batch that comes with an idempotency key, of up to
//!   [`MAX_KEYED_BATCH`] messages. Of a batch without a key a part may be stored: the first ones, in
//!   order. Nothing of another publisher comes in between those that are stored together.
//! - A key that was used within the last day ([`KEY_LIFETIME`]), and is among the newest
//!   [`keys`](Limits::keys) of its stream and of the store, gives the first answer again and appends
//!   nothing; with other messages it is refused.
//! - Where it is not known whether something was stored the answer is [`AppendError::Unknown`]: it may
//!   still appear. To repeat it with the same key is safe. Every other refusal means that nothing was
//!   stored, and that nothing will be.
//! - Ids: sequences rise strictly within a stream, and may have gaps. They go on across its
//!   generations: a stream begins after the greatest sequence of any stream that was deleted.
//!   Milliseconds are the time of day, held back only as far as they must not fall within one
//!   generation of a stream, whatever happens to the clocks. No id is given twice.
//! - [`end`](Log::end) is the last thing that is appended. [`delete`](Log::delete) forgets the stream:
//!   what is appended afterwards begins another [`Generation`] of it.
//! - [`read`](Log::read) gives what comes after or before a place, in order, bounded, all of it from
//!   one moment, and no position before the place. An engine that reads the store itself sees everything
//!   that was acknowledged before the read began, by whichever server. One that reads a copy may show
//!   the stream as it was a little earlier, and only in what it shows: a page may lack the newest
//!   messages, or have some that are gone. A cursor is not held against what may be stale: what a read
//!   denies (no such stream, no such place) is so, and an engine that cannot be sure says
//!   [`ReadError::Behind`]. A place that is not in the log is never taken for another one. That of the
//!   last message that was trimmed is as good as any: nothing is missing.
//! - [`follow`](Log::follow) gives the changes of one stream from now on. It is complete, or it ends,
//!   or the next change shows by the sequence it comes after that something was left out; should there
//!   be no next change, it ends. Where it starts is exact, whatever a read may show: what precedes it
//!   is in the log, and what does not is told. What is told is durable, and what this server stores it
//!   tells after the publisher has been answered: store, then acknowledge, then fan out. A follower
//!   that takes changes more slowly than they come is bounded in memory: its follow ends.
//! - Retention takes the oldest messages in small steps: each append displaces what is beyond the
//!   limits, and the rest goes in between. Followers are not told.
//! - When the store cannot be written, appends fail with what happened, reads go on, and the log finds
//!   out by itself when it can be written again.
//!
//! Callers bound how long they wait for a read and for a follow to begin, and pause before they try
//! again. The suite beside this has it all as tests, which every engine passes.

#[cfg(test)]
pub(crate) mod faulty;
mod follow;
pub(crate) mod message_text;
mod sqlite;
#[cfg(test)]
mod suite;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use prometheus_client::registry::Registry;

pub(crate) use self::follow::{Change, Follow};
use self::{message_text::MessageText, sqlite::Sqlite};
use super::{clock::Clock, supervisor::Supervisor};
use crate::message::{EventId, Message, StreamName};

/// For how long an idempotency key is remembered (design, section 2), unless there are too many.
pub(crate) const KEY_LIFETIME: Duration = Duration::from_hours(24);
/// How many messages an idempotency key may stand for (design, section 2).
pub(crate) const MAX_KEYED_BATCH: usize = 1024;

/// A log; a handle that is cloned around. The engine is chosen once, when it is opened.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    /// One file, this process alone.
    Sqlite(Sqlite),
    /// A model in memory with faults, for tests alone.
    #[cfg(test)]
    Faulty(faulty::Faulty),
}

/// Where the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory, gone with the process.
    Memory,
    /// In this file and those beside it that begin with its name.
    File(PathBuf),
}

/// How much the log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetentionLimits {
    /// Messages of one stream.
    pub(crate) messages: u64,
    /// The age of a message. A stream that was silent for so long is forgotten.
    pub(crate) age: Duration,
    /// Bytes of text in one stream.
    pub(crate) bytes: u64,
    /// Streams.
    pub(crate) streams: u64,
    /// Idempotency keys of one stream, and of all together.
    pub(crate) keys: u64,
    pub(crate) all_keys: u64,
}

/// The generation of a stream: a stream that is deleted and created again is another one of the same
/// name. Numbers are given once in the whole store and survive restarts, so that two are equal, on
/// whatever server, when they mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(i64);

#[cfg(test)]
impl Generation {
    pub(crate) const fn new(number: i64) -> Self {
        Self(number)
    }
}

/// A place in a stream that is known to have been in the log: after this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The generation it belongs to; none while there is no stream.
    pub(crate) generation: Option<Generation>,
    /// The sequence of the message before it, 0 before the first.
    pub(crate) seq: u64,
}

impl Position {
    /// Where a stream is that does not exist yet: before the first message of its next generation.
    pub(crate) const NOWHERE: Self = Self { generation: None, seq: 0 };
}

/// What makes a retry of an append harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) String);

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The id of the last one of the batch.
    pub(crate) last: EventId,
    /// Whether it had been appended before, under the same key.
    pub(crate) replayed: bool,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// There is no such stream.
    NoStream,
    /// The stream has ended.
    Ended,
    /// The idempotency key was used with other data.
    KeyReused,
    /// There are as many streams as there may be.
    TooManyStreams,
    /// The store cannot be written or read, for this reason. Nothing was stored.
    Unavailable(Arc<str>),
    /// It may have been stored, or may yet turn out to have been after a restart: the store failed,
    /// for this reason, in the moment that decides. A retry with the same idempotency key is safe.
    Unknown(Arc<str>),
}

/// Why a batch was not appended, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppendAllError {
    /// How many messages, the first ones, were appended all the same; 0 of a batch with a key.
    pub(crate) stored: usize,
    /// The id of the last of them.
    pub(crate) last: Option<EventId>,
    /// Why the next one was not.
    pub(crate) error: AppendError,
}

impl From<AppendError> for AppendAllError {
    fn from(error: AppendError) -> Self {
        Self { stored: 0, last: None, error }
    }
}

/// Which messages to read: those on one side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// What follows it, from there on.
    After(Place),
    /// What precedes it, back from there; in the order of the stream all the same.
    Before(Place),
}

/// A place to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the oldest message there is.
    Earliest,
    /// After the newest.
    Latest,
    /// At the message with this id.
    Id(EventId),
    /// Where an earlier read ended.
    Position(Position),
}

/// How much to read at the most. One message is always read, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessagePage {
    /// In the order of the stream.
    pub(crate) messages: Vec<Message>,
    /// Whether there are more in the direction that was read.
    pub(crate) more: bool,
    /// Where a reader of [`Range::After`] is with this page: behind its last message, and behind
    /// the end too when there is nothing more.
    pub(crate) position: Position,
    /// The id of the newest message, or of the end; its sequence is 0 while there is none.
    pub(crate) head: EventId,
    /// The end of the stream, if it has ended.
    pub(crate) end: Option<Message>,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// There is no such stream.
    NoStream,
    /// The place is not in the log: it never was, or it is of another generation.
    UnknownPlace,
    /// The place was in the log, but what follows it has been trimmed, or a part of that.
    Trimmed,
    /// What is read has not come to the place yet, or may not have.
    Behind,
    /// The store can not be read, for this reason.
    Unavailable(Arc<str>),
}

/// A stream as the list of streams shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    pub(crate) name: StreamName,
    /// How many messages are kept.
    pub(crate) messages: u64,
    pub(crate) ended: bool,
    /// The newest message, or the end; of a long one the beginning.
    pub(crate) last: Option<Message>,
}

impl Log {
    /// Opens the log in `store`, made anew if there is none; `supervisor` is told when it has ceased
    /// to do anything.
    ///
    /// # Errors
    /// When the file cannot be opened or created, is held by another server, is damaged, is not ours,
    /// or was written by a newer Tidings; says which.
    pub(crate) async fn open(
        store: Store,
        limits: RetentionLimits,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        Sqlite::open(store, limits, clock, supervisor).await.map(Self::Sqlite)
    }

    /// Appends a message; makes the stream if there is none.
    pub(crate) async fn append(
        &self,
        stream: StreamName,
        message: MessageText,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let appended = self.append_all(stream, vec![message], key).await;
        appended.map_err(|failed| failed.error)
    }

    /// Appends a batch that is not empty; with a key, of at most [`MAX_KEYED_BATCH`] messages.
    pub(crate) async fn append_all(
        &self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendAllError> {
        match self {
            Self::Sqlite(engine) => Ok(engine.append_all(stream, batch, key).await?),
            #[cfg(test)]
            Self::Faulty(engine) => engine.append_all(stream, batch, key).await,
        }
    }

    /// Ends a stream with a closing text.
    pub(crate) async fn end(
        &self,
        stream: StreamName,
        text: MessageText,
    ) -> Result<EventId, AppendError> {
        match self {
            Self::Sqlite(engine) => engine.end(stream, text).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.end(stream, text).await,
        }
    }

    /// Forgets a stream.
    pub(crate) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        match self {
            Self::Sqlite(engine) => engine.delete(stream).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.delete(stream).await,
        }
    }

    /// Reads messages.
    pub(crate) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        match self {
            Self::Sqlite(engine) => engine.read(stream, range, bound).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.read(stream, range, bound).await,
        }
    }

    /// Follows a stream, which need not exist, from this call on, and not only from when the future
    /// is polled.
    pub(crate) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        match self {
            Self::Sqlite(engine) => engine.follow(stream),
            #[cfg(test)]
            Self::Faulty(engine) => engine.follow(stream),
        }
    }

    /// The streams there are, newest activity first, at most `max`.
    pub(crate) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        match self {
            Self::Sqlite(engine) => engine.streams(max).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.streams(max).await,
        }
    }

    /// Names the metrics of the engine.
    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        match self {
            Self::Sqlite(engine) => engine.register_metrics(registry),
            #[cfg(test)]
            Self::Faulty(_) => {}
        }
    }

    /// Brings those metrics up to date that are looked up and not counted.
    pub(crate) async fn refresh_metrics(&self) {
        match self {
            Self::Sqlite(engine) => engine.refresh_metrics().await,
            #[cfg(test)]
            Self::Faulty(_) => {}
        }
    }

    /// Why the store cannot be written, if it cannot.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.trouble(),
            #[cfg(test)]
            Self::Faulty(_) => None,
        }
    }

    /// What is damaged in the store, if anything is known to be. Reading and writing go on as far as
    /// they can.
    pub(crate) fn damaged(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.damaged(),
            #[cfg(test)]
            Self::Faulty(_) => None,
        }
    }

    /// Stores what waits, then lets the store go. Whatever comes later is refused.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(engine) => engine.close().await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.close(),
        }
    }
}
