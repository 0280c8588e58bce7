//! Statistics of an event stream: metrics, and a log line when it closes.

use std::sync::Arc;

use bytes::Bytes;

use super::frame;
use crate::{
    message::{EventId, ResetReason},
    server::{
        guard::MemoryPermit,
        observe::{Metrics, RequestContext, StreamKind},
    },
};

/// About how many bytes of frames to send in one write, to save system calls.
pub(crate) const BATCH_BYTES: usize = 16 * 1024;

/// Frames that are sent to a reader in one write.
#[derive(Debug, Default)]
pub(crate) struct Batch<Frames = Bytes> {
    pub(crate) frames: Frames,
    /// How many messages are among them.
    pub(crate) messages: usize,
    /// The reason of the reset among them, if there is one.
    pub(crate) reset: Option<ResetReason>,
    /// The memory reserved for them, if they are larger than a reader may hold without a reservation.
    pub(crate) memory: Option<Box<MemoryPermit>>,
    /// Whether the log had more when they were read: the next ones are not new.
    pub(crate) more: bool,
    /// Whether the last frame is incomplete: the next batch has the rest, and nothing may be sent in
    /// between.
    pub(crate) incomplete: bool,
}

impl Batch<String> {
    /// Appends a reset.
    pub(crate) fn push_reset(&mut self, reason: ResetReason, oldest: Option<EventId>) {
        frame::reset(&mut self.frames, reason, oldest);
        self.reset = Some(reason);
    }
}

impl From<Batch<String>> for Batch {
    fn from(batch: Batch<String>) -> Self {
        let Batch { mut frames, messages, reset, memory, more, incomplete } = batch;
        // A stalled reader holds the buffer.
        frames.shrink_to_fit();
        Self { frames: frames.into(), messages, reset, memory, more, incomplete }
    }
}

/// The statistics of an open event stream. They are logged in one line when it is dropped.
pub(super) struct StreamStats {
    metrics: Metrics,
    kind: StreamKind,
    /// Why the stream closed. Dropping it without another reason means that the reader disconnected.
    pub(super) close_reason: CloseReason,
    request: Option<Arc<RequestContext>>,
    messages: u64,
    bytes: u64,
}

/// Why an event stream closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum CloseReason {
    /// The reader disconnected, or was disconnected because it did not read.
    Disconnected,
    /// There are no more frames: the stream has ended, or the store cannot be read.
    Ended,
    /// The server is shutting down.
    Shutdown,
    /// The reader's token has expired.
    Expired,
}

impl StreamStats {
    pub(super) fn begin(metrics: Metrics, kind: StreamKind) -> Self {
        metrics.opened(kind);
        let request = RequestContext::current();
        Self {
            metrics,
            kind,
            close_reason: CloseReason::Disconnected,
            request,
            messages: 0,
            bytes: 0,
        }
    }

    /// Counts a batch that is sent to the reader.
    pub(super) fn count(&mut self, batch: &Batch) {
        let (messages, bytes) = (batch.messages as u64, batch.frames.len() as u64);
        self.add(messages, bytes);
        self.metrics.delivered(messages, bytes);
        if let Some(reason) = batch.reset {
            self.metrics.reset(reason);
        }
    }

    /// Counts what the metrics are told in sums.
    pub(super) fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }
}

impl Drop for StreamStats {
    fn drop(&mut self) {
        self.metrics.closed(self.kind);
        let why = match self.close_reason {
            CloseReason::Disconnected => "the reader disconnected",
            CloseReason::Ended => "the stream has no more events",
            CloseReason::Shutdown => "the server is shutting down",
            CloseReason::Expired => "the token has expired",
        };
        if let Some(request) = &self.request {
            request.log_end(self.messages, self.bytes, why);
        }
    }
}
