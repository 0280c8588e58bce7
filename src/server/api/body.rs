//! Reads whole request bodies, with a size limit, a timeout and a memory reservation.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use futures::StreamExt as _;
use tokio::time::sleep;

use super::content_encoding;
use crate::{
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{MAX_HOLD, MemoryBudget, MemoryPart, MemoryPermit},
        shutdown::Shutdown,
    },
};

/// Reads whole request bodies, with a size limit, a timeout and a memory reservation.
#[derive(Clone)]
pub(crate) struct BodyReader {
    pub(super) memory: MemoryBudget,
    pub(super) shutdown: Shutdown,
    /// How long it may take to read a body.
    pub(super) timeout: Duration,
}

/// A body, and the memory that is reserved for it.
pub(crate) struct ReadBody {
    pub(crate) bytes: Vec<u8>,
    /// To be held until the bytes are dropped.
    pub(crate) memory: MemoryPermit,
}

impl BodyReader {
    pub(crate) fn new(memory: MemoryBudget, shutdown: Shutdown, timeout: Duration) -> Self {
        Self { memory, shutdown, timeout }
    }

    /// # Errors
    /// When the server drains: it accepts no more messages.
    pub(super) fn refuse_when_draining(&self) -> Result<(), Problem> {
        if self.shutdown.has_begun() { Err(Problem::draining()) } else { Ok(()) }
    }

    /// Reads a body. Its memory is reserved before the first byte is read.
    ///
    /// # Errors
    /// When the body is larger than `max_bytes` (`too_large` makes the error), is not complete within the
    /// timeout, cannot be decoded or breaks off; when there is no memory for it; when the server drains.
    pub(crate) async fn read(
        &self,
        client: Client,
        body: Body,
        max_bytes: usize,
        too_large: impl FnOnce() -> Problem,
    ) -> Result<ReadBody, Problem> {
        self.refuse_when_draining()?;
        let hint = body.size_hint();
        if hint.lower() > max_bytes as u64 {
            return Err(too_large());
        }
        // The length of a chunked or compressed body is not known beforehand.
        let length =
            hint.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(max_bytes);
        let mut memory = self.memory.acquire(client.address, MemoryPart::Bodies, length).await?;
        let mut bytes = Vec::with_capacity(length);
        let reading = async {
            let mut chunks = body.into_data_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| content_encoding::body_error(&error))?;
                if bytes.len() + chunk.len() > max_bytes {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(())
        };
        tokio::select! {
            biased;
            read = reading => read?,
            problem = self.abort_reason(&memory) => return Err(problem),
        }
        if bytes.len() < length {
            bytes.shrink_to_fit();
            memory.resize(bytes.len())?;
        }
        Ok(ReadBody { bytes, memory })
    }

    /// Waits until reading a body has to be aborted, and returns the reason: the timeout, a body that is
    /// too slow while other requests wait for its memory, or the shutdown.
    pub(crate) async fn abort_reason(&self, memory: &MemoryPermit) -> Problem {
        tokio::select! {
            () = sleep(self.timeout) => timeout_problem("Send the whole body", self.timeout),
            () = memory.overdue() => {
                let demand = "Other requests are waiting for memory. Send the whole body";
                timeout_problem(demand, MAX_HOLD)
            }
            () = self.shutdown.wait() => Problem::draining(),
        }
    }
}

/// The problem for a client that did not do what it had to within `time`.
pub(crate) fn timeout_problem(demand: &str, time: Duration) -> Problem {
    let time = humantime::format_duration(time);
    Problem::new(problem::REQUEST_TIMEOUT, format!("{demand} within {time}."))
}
