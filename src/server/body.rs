//! Request bodies that are read as a whole: within bounds of size, time and memory.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep_until};

use super::{
    App,
    client::Client,
    encoding,
    error::Problem,
    limits::{MemoryBudget, MemoryPart, MemoryPermit},
};
use crate::problem;

/// What must come of a body at least in each [`PACE_WINDOW`], unless it is its end: one that comes more
/// slowly is refused as soon as others wait for the memory that it holds.
const MIN_BYTES: usize = 4 * 1024;
const PACE_WINDOW: Duration = Duration::from_secs(10);
/// How often it is seen whether others wait.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A body, and the memory that is reserved for it.
pub(super) struct ReadBody {
    pub(super) bytes: Vec<u8>,
    /// To be kept until nothing holds the bytes any more.
    pub(super) memory: MemoryPermit,
}

/// Reads a body, if it comes in time and before the server stops. Its memory is reserved before the
/// first byte is asked for.
///
/// # Errors
/// When it is larger than `max_bytes` (what `too_large` says), comes too late or too slowly, cannot be
/// decoded, or when there is no memory for it.
pub(super) async fn read(
    app: &App,
    client: Client,
    body: Body,
    max_bytes: usize,
    too_large: impl FnOnce() -> Problem,
) -> Result<ReadBody, Problem> {
    app.takes_messages()?;
    let hint = body.size_hint();
    if hint.lower() > max_bytes as u64 {
        return Err(too_large());
    }
    // A body in chunks, or a compressed one, does not say how long it is.
    let length = hint.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(max_bytes);
    let mut memory = app.memory.acquire(client.address, MemoryPart::Bodies, length).await?;
    let mut bytes = Vec::with_capacity(length);
    let mut pieces = body.into_data_stream();
    let mut pace = Pace::begin(app.body_timeout);
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            () = sleep_until(pace.next_check()) => {
                pace.check(&app.memory)?;
                continue;
            }
            () = app.shutdown.wait() => return Err(Problem::draining()),
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| encoding::unreadable(&error))?;
        if bytes.len() + piece.len() > max_bytes {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
        pace.advance(piece.len());
    }
    if bytes.len() < length {
        bytes.shrink_to_fit();
        memory.resize(bytes.len())?;
    }
    Ok(ReadBody { bytes, memory })
}

/// How fast a body comes, and whether that is too slow.
pub(super) struct Pace {
    /// How long all of it may take.
    max_time: Duration,
    begun: Instant,
    window_begun: Instant,
    /// How much has come since then.
    window_bytes: usize,
}

impl Pace {
    pub(super) fn begin(max_time: Duration) -> Self {
        let now = Instant::now();
        Self { max_time, begun: now, window_begun: now, window_bytes: 0 }
    }

    /// So many bytes have come.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.window_bytes += bytes;
        if self.window_bytes >= MIN_BYTES {
            (self.window_begun, self.window_bytes) = (Instant::now(), 0);
        }
    }

    /// When to look whether it has become too slow.
    pub(super) fn next_check(&self) -> Instant {
        let check = (self.window_begun + PACE_WINDOW).max(Instant::now() + CHECK_INTERVAL);
        check.min(self.begun + self.max_time)
    }

    /// Refuses a body that takes too long, or that is slow while others wait for memory.
    pub(super) fn check(&self, memory: &MemoryBudget) -> Result<(), Problem> {
        let is_slow = self.window_begun.elapsed() >= PACE_WINDOW;
        let detail = if self.begun.elapsed() >= self.max_time {
            format!("Send the whole body within {}.", humantime::format_duration(self.max_time))
        } else if is_slow && memory.is_contended() {
            let window = humantime::format_duration(PACE_WINDOW);
            format!("Others wait: send at least {MIN_BYTES} bytes in {window}, or send it later.")
        } else {
            return Ok(());
        };
        Err(Problem::new(problem::REQUEST_TIMEOUT, detail))
    }
}
