//! The durable log: what every engine promises.
//!
//! - [`append`](Log::append) is atomic, ordered and durable before it returns.
//! - Ids: sequences rise strictly within a stream and go on across its generations: a stream begins
//!   after the greatest sequence of any stream that was deleted. Milliseconds are the time of day,
//!   held back only as far as they must not fall within one generation of a stream, whatever happens
//!   to the clock. No id is given twice.
//! - An append with an idempotency key that was used within the last day ([`KEY_LIFETIME`]), and is
//!   among the newest [`keys`](Limits::keys) of its stream and of the store, gives the first answer
//!   again and appends nothing; with other data it is refused.
//! - [`end`](Log::end) is the last thing that is appended. [`delete`](Log::delete) forgets the
//!   stream; whoever publishes to it afterwards begins a new life of it.
//! - [`read`](Log::read) gives what comes after or before a place, in order, as much as was asked
//!   for at the most, all of it from one moment. A place that is not in the log is never taken for
//!   another one. That of the last message that was trimmed is as good as any: nothing is missing.
//! - Every change is told to the observer that the log was opened with: in the order of each
//!   stream, once, and **after** the change is durable and whoever made it has been answered. No
//!   reader sees what a crash could take back.
//! - Retention takes the oldest messages in small steps: each append displaces what is beyond the
//!   limits, and the rest goes in between.
//! - When the store cannot be written, appends fail with what happened, reads go on, and the log
//!   finds out by itself when it can be written again. [`Unavailable`](Refusal::Unavailable) means
//!   that nothing was stored. Where the log cannot know whether something was stored it says so:
//!   [`Unknown`](Refusal::Unknown).
//!
//! What the contract leaves open, for an engine that spans machines: sequences may have gaps, other
//! processes may write too (their changes come through the observer), and a read may take a while.

mod sqlite;
#[cfg(test)]
mod suite;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::sqlite::Sqlite;
use super::{clock::Clock, data::Data, supervisor::Supervisor};
use crate::message::{EventId, Message, StreamName};

/// For how long an idempotency key is remembered (design, section 2), unless there are too many.
pub(super) const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// A log; a handle that is cloned around. The engine is chosen once, when it is opened.
#[derive(Clone, Debug)]
pub(super) enum Log {
    /// One file, this process alone.
    Sqlite(Sqlite),
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
pub(super) struct Limits {
    /// Messages of one stream.
    pub(super) messages: u64,
    /// The age of a message. A stream that was silent for so long is forgotten.
    pub(super) age: Duration,
    /// Bytes of text in one stream.
    pub(super) bytes: u64,
    /// Streams.
    pub(super) streams: u64,
    /// Idempotency keys of one stream, and of all together.
    pub(super) keys: u64,
    pub(super) all_keys: u64,
}

/// The generation of a stream: a stream that is deleted and created again is another one of the same
/// name. Numbers are given once in the whole store, in rising order, and survive restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life(i64);

/// A place in a stream that is known to have been in the log: after this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The life it belongs to; none while there is no stream.
    pub(super) life: Option<Life>,
    /// The sequence of the message before it, 0 before the first.
    pub(super) seq: u64,
}

impl Position {
    /// Where a stream begins that does not exist yet.
    pub(super) const NOWHERE: Self = Self { life: None, seq: 0 };
}

/// Who is told what the log does.
pub(super) trait Observer: Send + 'static {
    /// It has changed.
    fn changed(&mut self, change: Change);

    /// It has stored what it was given at a time; told before any of it is acknowledged.
    fn stored(&mut self, _: Stored) {}
}

/// What it took to store what was given at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// How many messages there were.
    pub(super) messages: usize,
    /// From the first of them to the disk.
    pub(super) took: Duration,
}

/// How much the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) streams: u64,
    pub(super) messages: u64,
    /// What the store takes, in bytes, with what it has not tidied up yet.
    pub(super) bytes: u64,
}

/// What to append.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) stream: StreamName,
    /// Stored together or not at all.
    pub(super) batch: Vec<Data>,
    pub(super) key: Option<IdempotencyKey>,
}

/// What makes a retry of an append harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdempotencyKey(pub(super) String);

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    /// The id of the last one of the batch.
    pub(super) last: EventId,
    /// Whether it had been appended before, under the same key.
    pub(super) replayed: bool,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
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

/// A change, as the observer is told of it.
#[derive(Debug)]
pub(super) enum Change {
    /// These messages follow the message with the sequence `after`.
    Appended { stream: StreamName, life: Life, after: u64, messages: Vec<Message> },
    /// The stream has ended with this.
    Ended { stream: StreamName, life: Life, after: u64, end: Message },
    /// The stream is gone.
    Deleted { stream: StreamName, life: Life },
}

impl Change {
    /// The sequence of what the stream holds last now, 0 if it is gone.
    pub(super) fn head(&self) -> u64 {
        match self {
            Self::Appended { messages, after, .. } => {
                messages.last().map_or(*after, |last| last.id.seq)
            }
            Self::Ended { end, .. } => end.id.seq,
            Self::Deleted { .. } => 0,
        }
    }
}

/// Which messages to read: those on one side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// What follows it, from there on.
    After(Place),
    /// What precedes it, back from there; in the order of the stream all the same.
    Before(Place),
}

/// A place to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
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
pub(super) struct Bound {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// In the order of the stream.
    pub(super) messages: Vec<Message>,
    /// Whether there are more in the direction that was read.
    pub(super) more: bool,
    /// Where a reader of [`Range::After`] is with this page: behind its last message, and behind
    /// the end too when there is nothing more.
    pub(super) position: Position,
    /// The id of the newest message, or of the end; its sequence is 0 while there is none.
    pub(super) head: EventId,
    /// The end of the stream, if it has ended.
    pub(super) end: Option<Message>,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotRead {
    /// There is no such stream.
    NoStream,
    /// The place is not in the log: trimmed, or of another life.
    UnknownPlace,
    /// The store can not be read, for this reason.
    Unavailable(Arc<str>),
}

/// A stream as the list of streams shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: StreamName,
    /// How many messages are kept.
    pub(super) messages: u64,
    pub(super) ended: bool,
    /// The newest message, or the end; of a long one the beginning.
    pub(super) last: Option<Message>,
}

impl Log {
    /// Opens the log in `store`, made anew if there is none. `observer` is told what it does,
    /// `supervisor` when it has ceased to do anything.
    ///
    /// # Errors
    /// When the file can not be opened or created, is held by another server, is damaged, is not
    /// ours, or was written by a newer Tidings; says which.
    pub(super) async fn open(
        store: Store,
        limits: Limits,
        clock: Clock,
        observer: impl Observer,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        Sqlite::open(store, limits, clock, observer, supervisor).await.map(Self::Sqlite)
    }

    /// Appends a batch that is not empty; makes the stream if there is none.
    pub(super) async fn append(&self, append: Append) -> Result<Appended, Refusal> {
        match self {
            Self::Sqlite(engine) => engine.append(append).await,
        }
    }

    /// Ends a stream with a closing text.
    pub(super) async fn end(&self, stream: StreamName, text: Data) -> Result<EventId, Refusal> {
        match self {
            Self::Sqlite(engine) => engine.end(stream, text).await,
        }
    }

    /// Forgets a stream.
    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), Refusal> {
        match self {
            Self::Sqlite(engine) => engine.delete(stream).await,
        }
    }

    /// Reads messages.
    pub(super) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<Page, NotRead> {
        match self {
            Self::Sqlite(engine) => engine.read(stream, range, bound).await,
        }
    }

    /// The streams there are, newest activity first, at most `most`.
    pub(super) async fn streams(&self, most: usize) -> Result<Vec<Listed>, NotRead> {
        match self {
            Self::Sqlite(engine) => engine.streams(most).await,
        }
    }

    /// How much the log holds.
    pub(super) async fn holdings(&self) -> Result<Holdings, NotRead> {
        match self {
            Self::Sqlite(engine) => engine.holdings().await,
        }
    }

    /// Why the store cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.trouble(),
        }
    }

    /// What is damaged in the store, if anything is known to be. Reading and writing go on as far as
    /// they can.
    pub(super) fn damaged(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.damaged(),
        }
    }

    /// Stores what waits, then lets the store go. Whatever comes later is refused.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(engine) => engine.close().await,
        }
    }
}
