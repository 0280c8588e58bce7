//! Request bodies that are read as a whole: within bounds of size, time and memory.

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

/// Reads request bodies within bounds of size, time and memory.
#[derive(Clone)]
pub(crate) struct BodyReader {
    pub(super) memory: MemoryBudget,
    pub(super) shutdown: Shutdown,
    /// How long a body may take.
    pub(super) timeout: Duration,
}

/// A body, and the memory that is reserved for it.
pub(crate) struct ReadBody {
    pub(crate) bytes: Vec<u8>,
    /// To be kept until nothing holds the bytes any more.
    pub(crate) memory: MemoryPermit,
}

impl BodyReader {
    pub(crate) fn new(memory: MemoryBudget, shutdown: Shutdown, timeout: Duration) -> Self {
        Self { memory, shutdown, timeout }
    }

    /// # Errors
    /// When the server drains: it accepts nothing more.
    pub(super) fn refuse_when_draining(&self) -> Result<(), Problem> {
        if self.shutdown.has_begun() { Err(Problem::draining()) } else { Ok(()) }
    }

    /// Reads a body, if it comes in time and before the server stops. Its memory is reserved before the
    /// first byte is asked for.
    ///
    /// # Errors
    /// When it is larger than `max_bytes` (what `too_large` says), comes too late or too slowly, cannot be
    /// decoded, or when there is no memory for it.
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
        // A body in chunks, or a compressed one, does not say how long it is.
        let length =
            hint.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(max_bytes);
        let mut memory = self.memory.acquire(client.address, MemoryPart::Bodies, length).await?;
        let mut bytes = Vec::with_capacity(length);
        let reading = async {
            let mut pieces = body.into_data_stream();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| content_encoding::unreadable(&error))?;
                if bytes.len() + piece.len() > max_bytes {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(())
        };
        tokio::select! {
            biased;
            read = reading => read?,
            problem = self.cut_off(&memory) => return Err(problem),
        }
        if bytes.len() < length {
            bytes.shrink_to_fit();
            memory.resize(bytes.len())?;
        }
        Ok(ReadBody { bytes, memory })
    }

    /// Why a body is not read to its end, as soon as that is so: it takes too long, it is slow while others
    /// wait for the memory that it holds, or the server stops.
    pub(crate) async fn cut_off(&self, memory: &MemoryPermit) -> Problem {
        tokio::select! {
            () = sleep(self.timeout) => too_slow("Send the whole body", self.timeout),
            () = memory.overdue() => {
                too_slow("Others wait for memory: send it later, or all of it", MAX_HOLD)
            }
            () = self.shutdown.wait() => Problem::draining(),
        }
    }
}

/// What a client did not do in time.
pub(crate) fn too_slow(demand: &str, time: Duration) -> Problem {
    let time = humantime::format_duration(time);
    Problem::new(problem::REQUEST_TIMEOUT, format!("{demand} within {time}."))
}
