//! Lines as they are uploaded, with memory reserved while there is more than a little of them.
//!
//! An upload may last for ever and say nothing for hours: meanwhile it must not hold memory that
//! others wait for. One that sends long lines, or many at a time, holds a reservation as long as it
//! does so; and no more than a line of them while it waits because it may not publish more.

use std::{io, sync::Arc};

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, stream::Fuse};
use tokio::time::{Duration, Instant, sleep};
use tokio_util::codec::Decoder as _;

use super::decoder::{Line, LineDecoder};
use crate::server::{
    api::{body::too_slow, content_encoding, publishing::Publishing},
    client::Client,
    error::Problem,
    guard::{MAX_HOLD, MemoryPart, MemoryPermit, Publisher},
};

/// How many lines are stored at a time, and about how many bytes of them wait for that.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How many bytes of lines, and of one that has begun, are held without a reservation. No more are taken
/// at a time, so that when a line has come to its end there are no more behind it.
const UNRESERVED_BYTES: usize = 2048;
/// How soon an upload asks again for memory that it did not get.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The lines of a body.
pub(super) struct ReservedLines<'p> {
    publishing: &'p Publishing,
    client: Client,
    publisher: Publisher,
    pieces: Fuse<BodyDataStream>,
    /// What has not been taken of the last piece.
    piece: Bytes,
    decoder: LineDecoder,
    buffer: BytesMut,
    memory: Option<Arc<MemoryPermit>>,
    /// A line that has come when no more could be published.
    uncounted: Option<Line>,
}

/// Lines that have come together.
#[derive(Default)]
pub(super) struct LineBatch {
    /// None at the end.
    pub(super) lines: Vec<Line>,
    /// What is reserved for them, if it is much: to be held until they are stored.
    pub(super) memory: Option<Arc<MemoryPermit>>,
    /// Why there are no more behind them, if something is wrong.
    pub(super) refused: Option<Problem>,
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
            pieces: body.into_data_stream().fuse(),
            piece: Bytes::new(),
            decoder: LineDecoder::new(publishing.max_message_bytes),
            buffer: BytesMut::new(),
            memory: None,
            uncounted: None,
        }
    }

    /// A line, and those behind it that have come already and may be published now.
    ///
    /// # Errors
    /// When the server stops, there is no memory, or a long line comes too slowly.
    pub(super) async fn next_batch(&mut self) -> Result<LineBatch, Problem> {
        self.release();
        let first = match self.uncounted.take() {
            Some(line) => Some(line),
            None => self.next().await?,
        };
        let Some(first) = first else { return Ok(LineBatch::default()) };
        // A publisher that uploads faster than it may is read more slowly.
        self.publishing.limits.publish_in_turn(&self.publisher, 1).await;
        let (mut bytes, mut refused) = (first.bytes.len(), None);
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
                    self.uncounted = line;
                    break;
                }
                Some(Err(problem)) => {
                    refused = Some(problem);
                    break;
                }
                None => break,
            }
        }
        Ok(LineBatch { lines, memory: self.memory.clone(), refused })
    }

    /// The next line; none at the end. To drop the future loses nothing.
    async fn next(&mut self) -> Result<Option<Line>, Problem> {
        let unreadable = |error: io::Error| content_encoding::unreadable(&error);
        loop {
            let line = self.decoder.decode(&mut self.buffer).map_err(unreadable)?;
            if let Some(line) = line {
                if let Some(memory) = &self.memory {
                    memory.advance(line.bytes.len());
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > UNRESERVED_BYTES && self.memory.is_none() {
                self.reserve().await?;
            }
            if self.piece.is_empty() && !self.read().await? {
                return self.decoder.decode_eof(&mut self.buffer).map_err(unreadable);
            }
            // A piece goes with its last part: what the connection read it into is not kept.
            let part = self.piece.split_to(self.piece.len().min(UNRESERVED_BYTES));
            self.buffer.extend_from_slice(&part);
        }
    }

    /// Waits for the next piece of the body. False at the end.
    async fn read(&mut self) -> Result<bool, Problem> {
        // Between two bytes there may be silence for ever: a log says nothing for as long as nothing
        // happens, and the system asks whether the connection is still there. Only a line that
        // holds memory has to come to its end, if others wait for some.
        tokio::select! {
            biased;
            () = self.publishing.bodies.shutdown.wait() => Err(Problem::draining()),
            piece = self.pieces.next() => match piece {
                Some(Ok(piece)) => {
                    self.piece = piece;
                    Ok(true)
                }
                Some(Err(error)) => Err(content_encoding::unreadable(&error)),
                None => Ok(false),
            },
            () = overdue(self.memory.as_deref()) => {
                Err(too_slow("Others wait for memory: send the rest of a long line", MAX_HOLD))
            }
        }
    }

    /// Reserves memory for a long line, and for those that come with it. An upload that has lasted for
    /// a day is not ended because there is none for a moment: it is read more slowly.
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

    /// Reserves memory for more lines than a few short ones, if there is some.
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

    /// Gives back what is reserved, unless a long line has begun.
    fn release(&mut self) {
        let uncounted = self.uncounted.as_ref().map_or(0, |line| line.bytes.len());
        if self.buffer.len() + uncounted <= UNRESERVED_BYTES && self.memory.take().is_some() {
            // Without the room that a long line took.
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
