//! The lines of a streaming upload, with memory reserved only while more than 2 KiB are buffered.
//!
//! An upload may last for days and be silent for hours; an idle one must not hold memory that other
//! requests wait for. An upload of long lines, or of many at a time, holds a reservation while they are
//! buffered. While it waits for its rate limit, it holds at most one line.

use std::{io, sync::Arc};

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, stream::Fuse};
use tokio::time::{Duration, Instant, sleep};
use tokio_util::codec::Decoder as _;

use super::decoder::{Line, LineDecoder};
use crate::server::{
    api::{body::timeout_problem, content_encoding, publishing::Publishing},
    client::Client,
    error::Problem,
    guard::{MAX_HOLD, MemoryPart, MemoryPermit, Publisher},
};

/// The most lines that are stored at a time.
const MAX_BATCH: usize = 1024;
/// About the most bytes of lines that are stored at a time. The last line may exceed it.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How many bytes of lines, complete or not, are buffered without a reservation. Also the most bytes that
/// are copied to the buffer at a time, so that little is left behind the end of a long line.
const UNRESERVED_BYTES: usize = 2048;
/// The pause before an upload tries again to reserve memory.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The lines of a body.
pub(super) struct ReservedLines<'p> {
    publishing: &'p Publishing,
    client: Client,
    publisher: Publisher,
    chunks: Fuse<BodyDataStream>,
    /// The part of the last chunk that is not in the buffer yet.
    chunk: Bytes,
    decoder: LineDecoder,
    buffer: BytesMut,
    memory: Option<Arc<MemoryPermit>>,
    /// A line that was decoded but exceeded the rate limit; the next batch begins with it.
    deferred: Option<Line>,
}

/// Lines that are stored together.
#[derive(Default)]
pub(super) struct LineBatch {
    /// Empty at the end of the body.
    pub(super) lines: Vec<Line>,
    /// The reservation for them, if they need one: to be held until they are stored.
    pub(super) memory: Option<Arc<MemoryPermit>>,
    /// The error behind them, if the upload fails there.
    pub(super) error: Option<Problem>,
}

impl<'p> ReservedLines<'p> {
    pub(super) fn new(
        publishing: &'p Publishing,
        client: Client,
        publisher: Publisher,
        body: Body,
    ) -> Self {
        Self {
            publishing,
            client,
            publisher,
            chunks: body.into_data_stream().fuse(),
            chunk: Bytes::new(),
            decoder: LineDecoder::new(publishing.max_message_bytes),
            buffer: BytesMut::new(),
            memory: None,
            deferred: None,
        }
    }

    /// Waits for a line, and adds those behind it that have arrived and are within the rate limit.
    ///
    /// # Errors
    /// When the server drains, memory cannot be reserved, the body cannot be read, or a long line is not
    /// complete in time while other requests wait for memory.
    pub(super) async fn next_batch(&mut self) -> Result<LineBatch, Problem> {
        self.release();
        let first = match self.deferred.take() {
            Some(line) => Some(line),
            None => self.next().await?,
        };
        let Some(first) = first else { return Ok(LineBatch::default()) };
        // Backpressure: an upload that exceeds its rate limit is read more slowly.
        self.publishing.limits.wait_to_publish(&self.publisher, 1).await;
        let (mut bytes, mut error) = (first.bytes.len(), None);
        let mut lines = vec![first];
        while lines.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && (bytes < UNRESERVED_BYTES || self.try_reserve())
        {
            match self.next().now_or_never() {
                Some(Ok(Some(line))) if self.publishing.limits.publish(&self.publisher).is_ok() => {
                    bytes += line.bytes.len();
                    lines.push(line);
                }
                Some(Ok(line)) => {
                    self.deferred = line;
                    break;
                }
                Some(Err(problem)) => {
                    error = Some(problem);
                    break;
                }
                None => break,
            }
        }
        Ok(LineBatch { lines, memory: self.memory.clone(), error })
    }

    /// The next line; `None` at the end of the body. Cancel safe.
    async fn next(&mut self) -> Result<Option<Line>, Problem> {
        let body_error = |error: io::Error| content_encoding::body_error(&error);
        loop {
            let line = self.decoder.decode(&mut self.buffer).map_err(body_error)?;
            if let Some(line) = line {
                if let Some(memory) = &self.memory {
                    memory.advance(line.bytes.len());
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > UNRESERVED_BYTES && self.memory.is_none() {
                self.reserve().await?;
            }
            if self.chunk.is_empty() && !self.read_chunk().await? {
                return self.decoder.decode_eof(&mut self.buffer).map_err(body_error);
            }
            // Copied, so that the connection's read buffer is freed with the last part of the chunk.
            let part = self.chunk.split_to(self.chunk.len().min(UNRESERVED_BYTES));
            self.buffer.extend_from_slice(&part);
        }
    }

    /// Waits for the next chunk of the body. False at the end of the body.
    async fn read_chunk(&mut self) -> Result<bool, Problem> {
        // No timeout: a log can be silent for any time, and TCP keepalive detects a lost connection.
        // Only a line with a reservation must be completed in time while others wait for memory.
        tokio::select! {
            biased;
            () = self.publishing.bodies.shutdown.wait() => Err(Problem::draining()),
            chunk = self.chunks.next() => match chunk {
                Some(Ok(chunk)) => {
                    self.chunk = chunk;
                    Ok(true)
                }
                Some(Err(error)) => Err(content_encoding::body_error(&error)),
                None => Ok(false),
            },
            () = overdue(self.memory.as_deref()) => {
                let demand = "Other requests are waiting for memory. Send the rest of a long line";
                Err(timeout_problem(demand, MAX_HOLD))
            }
        }
    }

    /// Reserves memory for a long line and those behind it. Retries for as long as a body may take, so
    /// that a short lack of memory slows a long-running upload down but does not end it.
    async fn reserve(&mut self) -> Result<(), Problem> {
        let begun = Instant::now();
        loop {
            let (address, bytes) = (self.client.address, self.reservation());
            match self.publishing.bodies.memory.acquire(address, MemoryPart::Bodies, bytes).await {
                Ok(memory) => {
                    self.memory = Some(Arc::new(memory));
                    return Ok(());
                }
                Err(problem) if begun.elapsed() >= self.publishing.bodies.timeout => {
                    return Err(problem);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                () = self.publishing.bodies.shutdown.wait() => return Err(Problem::draining()),
            }
        }
    }

    /// Reserves memory for more than a few short lines, if that is possible without waiting.
    fn try_reserve(&mut self) -> bool {
        if self.memory.is_none() {
            let (address, bytes) = (self.client.address, self.reservation());
            let memory =
                self.publishing.bodies.memory.try_acquire(address, MemoryPart::Bodies, bytes);
            self.memory = memory.map(Arc::new);
        }
        self.memory.is_some()
    }

    fn reservation(&self) -> usize {
        MAX_BATCH_BYTES + 2 * self.publishing.max_message_bytes
    }

    /// Releases the reservation, unless a long line is buffered.
    fn release(&mut self) {
        let deferred = self.deferred.as_ref().map_or(0, |line| line.bytes.len());
        if self.buffer.len() + deferred <= UNRESERVED_BYTES && self.memory.take().is_some() {
            // Copied, to free the capacity that a long line needed.
            self.buffer = BytesMut::from(&*self.buffer);
        }
    }
}

async fn overdue(memory: Option<&MemoryPermit>) {
    match memory {
        Some(memory) => memory.overdue().await,
        None => std::future::pending().await,
    }
}
