//! What a copy of a store consists of: rows in the form that every engine can read and write.

use super::{Bound, key_hash::Hash};
use crate::message::{EventId, Message, StreamName};

/// How many messages and bytes of text a copy reads at once.
pub(super) const PAGE: Bound = Bound { messages: 4096, bytes: 4 * 1024 * 1024 };
/// How many streams, with their closing texts, and how many idempotency keys.
pub(super) const STREAMS_PER_PAGE: u32 = 100;
pub(super) const KEYS_PER_PAGE: u32 = 4096;

/// A stream, without its messages and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopiedStream {
    pub(super) name: StreamName,
    /// The number in the hashes of its idempotency keys (see `key_hash`), which identifies this
    /// generation of it in the store.
    pub(super) number: i64,
    /// The sequence before the first one.
    pub(super) base: u64,
    /// The id of the newest message, or of the end.
    pub(super) head: EventId,
    /// The sequence of the newest trimmed message, or the base; and its milliseconds.
    pub(super) trimmed: u64,
    pub(super) trimmed_millis: Option<u64>,
    /// The closing text, once the stream has ended.
    pub(super) closing: Option<String>,
}

/// How much of a stream a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamCounts {
    pub(super) messages: u64,
    /// Bytes of their text.
    pub(super) bytes: u64,
    /// Number of idempotency keys.
    pub(super) keys: u64,
}

/// An idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopiedKey {
    /// The hash of the key.
    pub(super) name: Hash,
    /// The id of the last message that was appended with it.
    pub(super) last: EventId,
    /// The hash of the messages.
    pub(super) digest: Hash,
    /// When it was used, in Unix milliseconds.
    pub(super) used: u64,
}

/// What outlasts deleted streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreCounters {
    /// The number that was assigned last, to a stream or to a generation.
    pub(super) generation: i64,
    /// The greatest sequence of any stream that was deleted.
    pub(super) sequence: u64,
}

/// A stream with some of its messages and keys, in their order. A store that lacks the stream creates it.
#[derive(Clone, Debug)]
pub(crate) struct StreamPart {
    pub(super) stream: CopiedStream,
    pub(super) messages: Vec<Message>,
    pub(super) keys: Vec<CopiedKey>,
}

impl StreamPart {
    pub(super) fn counts(&self) -> StreamCounts {
        StreamCounts {
            messages: self.messages.len() as u64,
            bytes: self.messages.iter().map(|message| message.data.len() as u64).sum(),
            keys: self.keys.len() as u64,
        }
    }
}
