//! The durable log: the contract of every storage engine.
//!
//! - [`append`](Log::append) and [`append_all`](Log::append_all) are ordered, and durable before they
//!   return. A message is stored or not; so is a batch with an idempotency key, of up to
//!   [`MAX_KEYED_BATCH`] messages. Of a batch without a key a prefix may be stored. Messages that are
//!   stored together are contiguous: no other publisher's message comes between them.
//! - A key that was used within the last day ([`KEY_LIFETIME`]), and is among the newest
//!   [`keys`](RetentionLimits::keys) of its stream and of the store, returns the first result again and
//!   appends nothing; with other messages it is an error.
//! - [`AppendError::Unknown`] means that the messages may have been stored, or may still appear. A retry
//!   with the same key is safe. Every other error means that nothing was stored, and that nothing
//!   will be.
//! - Ids: sequences rise strictly within a stream, and may have gaps. They continue across generations:
//!   a new stream begins after the greatest sequence of any deleted stream. Milliseconds are the
//!   time of day, except that within one generation they never decrease, even when the clock is set
//!   back. No id is assigned twice.
//! - [`end`](Log::end) appends the last entry of a stream. [`delete`](Log::delete) removes the stream:
//!   the next append begins another [`Generation`] of it.
//! - [`read`](Log::read) returns what comes after or before a cursor: in order, bounded, from one
//!   snapshot, and never with a position before the cursor. An engine that reads the store itself sees
//!   everything that was acknowledged before the read began, by any server. One that reads a replica
//!   may return an earlier state of the stream: a page may lack the newest messages, or contain
//!   trimmed ones. Its errors are never stale: a missing stream or an unknown cursor is certain, and
//!   an engine that is not certain returns [`ReadError::Behind`]. A cursor that is not in the log is
//!   never mistaken for another one. The id of the newest trimmed message is a valid cursor: no message
//!   after it is missing.
//! - [`follow`](Log::follow) delivers the changes of one stream from now on. A follow is complete, or it
//!   ends, or the next change shows a gap by the sequence that it follows; if no change comes after a
//!   gap, the follow ends. Its start is exact, even where reads are stale: everything before it is in
//!   the log, everything after it is delivered. Delivered changes are durable. Changes that this server
//!   stores are delivered after the publisher's reply: store, then acknowledge, then fan out. The
//!   memory of a slow follower is bounded: its follow ends.
//! - Retention removes the oldest messages in small steps: each append removes what exceeds the limits,
//!   a background sweep the rest. Followers are not notified.
//! - When the store cannot be written, appends fail with the reason, reads continue, and the log
//!   detects by itself when it can be written again.
//!
//! Callers limit how long they wait for a read or for a follow to begin, and pause before a retry.
//! The module `suite` tests this contract on every engine.

mod activity;
mod copied;
mod copy;
#[cfg(test)]
pub(crate) mod faulty;
mod follow;
mod freshness;
mod key_hash;
pub(crate) mod message_text;
mod metrics;
mod postgres;
mod progress;
mod sqlite;
#[cfg(test)]
mod suite;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use prometheus_client::registry::Registry;

pub(crate) use self::{
    activity::{Activity, ActivityListener},
    copy::copy,
    follow::{Change, Follow},
    freshness::{Freshness, FreshnessPoller, FreshnessSender},
    postgres::{PostgresOptions, PostgresTls},
};
use self::{message_text::MessageText, postgres::Postgres, sqlite::Sqlite};
use super::{clock::Clock, supervisor::Supervisor};
use crate::message::{EventId, Message, StreamName};

/// How long an idempotency key is kept (design, section 2), unless there are too many.
pub(crate) const KEY_LIFETIME: Duration = Duration::from_hours(24);
/// The most messages that one idempotency key covers (design, section 2).
pub(crate) const MAX_KEYED_BATCH: usize = 1024;

/// A handle to the log, cheap to clone. The engine is chosen once, when the log is opened.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    /// One `SQLite` file, opened by this process only.
    Sqlite(Sqlite),
    /// A `PostgreSQL` database that several servers share.
    Postgres(Postgres),
    /// A model in memory with fault injection, for tests only.
    #[cfg(test)]
    Faulty(faulty::Faulty),
}

/// Where the log is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory: lost when the process ends.
    Memory,
    /// In this file, and in files of the same folder whose names begin with its name.
    File(PathBuf),
    /// In this `PostgreSQL` database, which other servers may use too.
    Postgres(Box<PostgresOptions>),
}

/// Retention: how much the log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetentionLimits {
    /// Maximum number of messages of one stream.
    pub(crate) messages: u64,
    /// Maximum age of a message. A stream without activity for this time is deleted.
    pub(crate) age: Duration,
    /// Maximum bytes of text in one stream.
    pub(crate) bytes: u64,
    /// Maximum number of streams.
    pub(crate) streams: u64,
    /// Maximum number of idempotency keys of one stream, and of all streams together.
    pub(crate) keys: u64,
    pub(crate) all_keys: u64,
}

/// The generation of a stream: a stream that is deleted and created again is another generation of
/// the same name. A number is assigned once in the whole store and survives restarts, so that numbers
/// can be compared for equality on every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(i64);

#[cfg(test)]
impl Generation {
    pub(crate) const fn new(number: i64) -> Self {
        Self(number)
    }
}

/// A resolved cursor: after this sequence, which is known to have been in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The generation of the stream; none while there is no stream.
    pub(crate) generation: Option<Generation>,
    /// The sequence of the message before this position, 0 before the first one.
    pub(crate) seq: u64,
}

impl Position {
    /// The position in a stream that does not exist: before the first message of its next generation.
    pub(crate) const NO_STREAM: Self = Self { generation: None, seq: 0 };
}

/// An idempotency key: a retry of an append with the same key stores nothing twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) String);

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The id of the last message of the batch.
    pub(crate) last: EventId,
    /// Whether the batch had been appended before, with the same key.
    pub(crate) replayed: bool,
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// There is no such stream.
    NoStream,
    /// The stream has ended.
    Ended,
    /// The idempotency key was used with other messages.
    KeyReused,
    /// The store has the maximum number of streams.
    TooManyStreams,
    /// The store cannot be written or read, for this reason. Nothing was stored.
    Unavailable(Arc<str>),
    /// The store failed during the commit, for this reason: the write may have been stored, which may
    /// show only after a restart. A retry with the same idempotency key is safe.
    Unknown(Arc<str>),
}

/// Why a batch was not appended, or only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppendAllError {
    /// How many messages were appended, from the first on; 0 of a batch with a key.
    pub(crate) stored: usize,
    /// The id of the last appended message.
    pub(crate) last: Option<EventId>,
    /// Why the next message was not appended.
    pub(crate) error: AppendError,
}

impl From<AppendError> for AppendAllError {
    fn from(error: AppendError) -> Self {
        Self { stored: 0, last: None, error }
    }
}

/// Which messages to read: those on one side of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// What follows the cursor, oldest first.
    After(ReadCursor),
    /// The messages closest before the cursor, also returned oldest first.
    Before(ReadCursor),
}

/// A cursor to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadCursor {
    /// Before the oldest message that is kept.
    Earliest,
    /// After the newest message.
    Latest,
    /// At the message with this id.
    Id(EventId),
    /// The position at which an earlier read ended.
    Position(Position),
}

/// The most messages and bytes of text to read. A first message is read whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A page of messages: the result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessagePage {
    /// Oldest first.
    pub(crate) messages: Vec<Message>,
    /// Whether there are more in the direction that was read.
    pub(crate) more: bool,
    /// The position of a reader after this page of [`Range::After`]: after its last message, and
    /// after the end when there is nothing more.
    pub(crate) position: Position,
    /// The id of the newest message, or of the end; its sequence is 0 while there is none.
    pub(crate) head: EventId,
    /// The end of the stream, if it has ended.
    pub(crate) end: Option<Message>,
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// There is no such stream.
    NoStream,
    /// The cursor is not in the log: it never was, or it is of another generation.
    UnknownCursor,
    /// The cursor was in the log, but messages after it have been trimmed.
    Trimmed,
    /// The replica that is read has not reached the cursor, or may not have.
    Behind,
    /// The store cannot be read, for this reason.
    Unavailable(Arc<str>),
}

/// An entry of the list of streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    pub(crate) name: StreamName,
    /// Number of messages that are kept.
    pub(crate) messages: u64,
    pub(crate) ended: bool,
    /// The newest message, or the end; an engine may shorten its text.
    pub(crate) last: Option<Message>,
}

impl Log {
    /// Opens the log in `store`, and creates it if there is none. `supervisor` supervises its tasks and
    /// threads.
    ///
    /// # Errors
    /// When the file cannot be opened or created, is held by another server, is damaged, belongs to
    /// another program, or was written by a newer Tidings; the error states which.
    pub(crate) async fn open(
        store: Store,
        limits: RetentionLimits,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        match store {
            Store::Postgres(options) => {
                Box::pin(Postgres::open(*options, limits, supervisor)).await.map(Self::Postgres)
            }
            Store::Memory => Sqlite::open(None, limits, clock, supervisor).await.map(Self::Sqlite),
            Store::File(path) => {
                Sqlite::open(Some(path), limits, clock, supervisor).await.map(Self::Sqlite)
            }
        }
    }

    /// Appends a message; creates the stream if there is none.
    pub(crate) async fn append(
        &self,
        stream: StreamName,
        message: MessageText,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let appended = self.append_all(stream, vec![message], key).await;
        appended.map_err(|failed| failed.error)
    }

    /// Appends a batch, which must not be empty, and with a key has at most [`MAX_KEYED_BATCH`]
    /// messages.
    pub(crate) async fn append_all(
        &self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendAllError> {
        match self {
            Self::Sqlite(engine) => Ok(engine.append_all(stream, batch, key).await?),
            Self::Postgres(engine) => Ok(engine.append_all(stream, batch, key).await?),
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
            Self::Postgres(engine) => engine.end(stream, text).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.end(stream, text).await,
        }
    }

    /// Deletes a stream.
    pub(crate) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        match self {
            Self::Sqlite(engine) => engine.delete(stream).await,
            Self::Postgres(engine) => engine.delete(stream).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.delete(stream).await,
        }
    }

    /// Reads a page of messages.
    pub(crate) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        match self {
            Self::Sqlite(engine) => engine.read(stream, range, bound).await,
            // Boxed, because it is larger than that of a file.
            Self::Postgres(engine) => Box::pin(engine.read(stream, range, bound)).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.read(stream, range, bound).await,
        }
    }

    /// Follows a stream, which need not exist. The follow begins with this call, not when the future
    /// is first polled.
    pub(crate) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        match self {
            Self::Sqlite(engine) => engine.follow(stream),
            Self::Postgres(engine) => engine.follow(stream),
            #[cfg(test)]
            Self::Faulty(engine) => engine.follow(stream),
        }
    }

    /// The existing streams, newest activity first, at most `max`.
    pub(crate) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        match self {
            Self::Sqlite(engine) => engine.streams(max).await,
            Self::Postgres(engine) => Box::pin(engine.streams(max)).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.streams(max).await,
        }
    }

    /// Listens for changes of any stream. A hint: of what other servers of the store trim, nothing is
    /// noted, and what they store may be noted late.
    pub(crate) fn activity(&self) -> ActivityListener {
        match self {
            Self::Sqlite(engine) => engine.activity(),
            Self::Postgres(engine) => engine.activity(),
            #[cfg(test)]
            Self::Faulty(_) => Activity::default().listen(),
        }
    }

    /// Whether other servers may use the store at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Reports the watchers of each stream of this server to the others; returns the sums of theirs,
    /// of those that have reported lately.
    pub(crate) async fn exchange_watchers(
        &self,
        own: &[(StreamName, u64)],
    ) -> Result<HashMap<StreamName, u64>, ReadError> {
        match self {
            Self::Postgres(engine) => Box::pin(engine.exchange_watchers(own)).await,
            Self::Sqlite(_) => Ok(HashMap::new()),
            #[cfg(test)]
            Self::Faulty(_) => Ok(HashMap::new()),
        }
    }

    /// Registers the metrics of the engine.
    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        match self {
            Self::Sqlite(engine) => engine.register_metrics(registry),
            Self::Postgres(engine) => engine.register_metrics(registry),
            #[cfg(test)]
            Self::Faulty(_) => {}
        }
    }

    /// Updates the gauges that are computed for each scrape.
    pub(crate) async fn refresh_metrics(&self) {
        match self {
            Self::Sqlite(engine) => engine.refresh_metrics().await,
            Self::Postgres(engine) => Box::pin(engine.refresh_metrics()).await,
            #[cfg(test)]
            Self::Faulty(_) => {}
        }
    }

    /// Why the store cannot be written, if it cannot.
    pub(crate) fn unwritable(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.unwritable(),
            Self::Postgres(engine) => engine.unwritable(),
            #[cfg(test)]
            Self::Faulty(_) => None,
        }
    }

    /// Whether the store is out of reach, so that followers may lack the newest messages.
    pub(crate) fn freshness(&self) -> Freshness {
        match self {
            Self::Sqlite(_) => Freshness::always(),
            Self::Postgres(engine) => engine.freshness(),
            #[cfg(test)]
            Self::Faulty(_) => Freshness::always(),
        }
    }

    /// What is known to be damaged in the store, if anything. Reads and writes continue where
    /// possible.
    pub(crate) fn damaged(&self) -> Option<Arc<str>> {
        match self {
            Self::Sqlite(engine) => engine.damaged(),
            Self::Postgres(_) => None,
            #[cfg(test)]
            Self::Faulty(_) => None,
        }
    }

    /// Stores the writes that wait, then closes the store. Later calls fail.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(engine) => engine.close().await,
            Self::Postgres(engine) => Box::pin(engine.close()).await,
            #[cfg(test)]
            Self::Faulty(engine) => engine.close(),
        }
    }
}
