//! What a reader is given, counted.

use std::sync::Arc;

use bytes::Bytes;

use crate::server::{
    guard::MemoryPermit,
    observe::{Metrics, RequestContext, StreamKind},
};

/// Frames that are given to a reader at once.
#[derive(Debug, Default)]
pub(crate) struct Batch<Frames = Bytes> {
    pub(crate) frames: Frames,
    /// How many messages are among them.
    pub(crate) messages: usize,
    /// Why the reader is told to begin anew, if it is.
    pub(crate) reset: Option<&'static str>,
    /// What is reserved for them, if they are more than any reader may hold.
    pub(crate) memory: Option<Box<MemoryPermit>>,
}

impl From<Batch<String>> for Batch {
    fn from(batch: Batch<String>) -> Self {
        let Batch { mut frames, messages, reset, memory } = batch;
        // A reader that stalls holds it.
        frames.shrink_to_fit();
        Self { frames: frames.into(), messages, reset, memory }
    }
}

/// An event stream while it is open. When it goes, one line of the log says what it was.
pub(super) struct StreamStats {
    metrics: Metrics,
    watched: StreamKind,
    /// Why it is over; until that is known, it can only be that the reader goes.
    pub(super) closed: CloseReason,
    asked: Option<Arc<RequestContext>>,
    messages: u64,
    bytes: u64,
}

/// Why an event stream is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum CloseReason {
    /// The reader has gone, or took nothing for too long.
    Gone,
    /// There is nothing more: the stream has ended, or the store can not be read.
    Ended,
    /// The server stops.
    Stopping,
    /// The reader's right to watch has ended.
    Expired,
}

impl StreamStats {
    pub(super) fn begin(metrics: Metrics, watched: StreamKind) -> Self {
        metrics.opened(watched);
        let asked = RequestContext::current();
        Self { metrics, watched, closed: CloseReason::Gone, asked, messages: 0, bytes: 0 }
    }

    /// Counts what the reader is given.
    pub(super) fn count(&mut self, batch: &Batch) {
        let (messages, bytes) = (batch.messages as u64, batch.frames.len() as u64);
        self.messages += messages;
        self.bytes += bytes;
        self.metrics.delivered(messages, bytes);
        if let Some(reason) = batch.reset {
            self.metrics.reset(reason);
        }
    }
}

impl Drop for StreamStats {
    fn drop(&mut self) {
        self.metrics.closed(self.watched);
        let why = match self.closed {
            CloseReason::Gone => "the reader has gone",
            CloseReason::Ended => "there is nothing more",
            CloseReason::Stopping => "the server stops",
            CloseReason::Expired => "the token has expired",
        };
        if let Some(asked) = &self.asked {
            asked.log_end(self.messages, self.bytes, why);
        }
    }
}
