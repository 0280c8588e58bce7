//! A simulated reader: it connects, reads, is cut off, and reconnects, until the history is done.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    tally::Tally,
    truth::{Oracle, Received},
};
use crate::{
    message::{END_EVENT, EventId, NEW_MESSAGE, PING, RESET, StreamName},
    server::{
        api::cursor,
        guard::ConcurrencyLimit,
        hub::{Hub, Start, Watcher},
        log::Freshness,
        observe::StreamKind,
        sse::{EventStreams, Reader, WatchGrant},
    },
};

/// The client address of all readers.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Timeout for a watcher to start: longer than the timeouts of its reads together.
const MAX_START: Duration = Duration::from_mins(2);
/// The most polls of a body at one instant.
const MAX_POLLS_AT_ONCE: u32 = 2_000;

/// The phases of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Faults occur.
    FaultsOn,
    /// No faults occur any more.
    FaultsOff,
    /// Every reader must have all messages.
    CheckComplete,
    /// Readers disconnect.
    Done,
}

pub(super) struct ReadingClient {
    /// The servers that it may connect to.
    pub(super) hubs: Vec<Hub>,
    pub(super) events: EventStreams,
    pub(super) permits: ConcurrencyLimit,
    pub(super) stream: StreamName,
    pub(super) oracle: Oracle,
    pub(super) rng: fastrand::Rng,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) cursor: Option<EventId>,
    pub(super) tally: Tally,
    pub(super) ended: bool,
}

impl ReadingClient {
    /// Reads until the history is done, and checks every event.
    pub(super) async fn run(mut self) -> Result<Tally, String> {
        let latest = self.rng.u8(0..3) == 0;
        while !self.is_done() && !self.ended {
            match self.cursor {
                None | Some(EventId::BEGINNING) => {
                    self.oracle.connect(latest && self.cursor.is_none());
                }
                Some(_) => self.oracle.reconnect(),
            }
            let cursor = match (self.cursor, latest) {
                (Some(id), _) => id.to_string(),
                (None, true) => "latest".to_owned(),
                (None, false) => String::new(),
            };
            let cursor = cursor::parse_cursor(&cursor).map_err(|_| "an invalid cursor")?;
            let hub = self.hubs[self.rng.usize(..self.hubs.len())].clone();
            let stream = self.stream.clone();
            let start = Watcher::start(&hub, stream, ADDRESS.into(), Some(cursor), 1);
            let start = timeout(MAX_START, start).await.map_err(|_| "a watcher does not start")?;
            match start {
                // Retries as after a 503.
                Err(_) => sleep(Duration::from_millis(self.rng.u64(50..500))).await,
                Ok(Start::Finished) => {
                    self.oracle.check_ended()?;
                    self.ended = true;
                }
                Ok(Start::Watching(first, watcher)) => {
                    let permit = self.permits.acquire(None).map_err(|_| "no permit")?;
                    let grant = WatchGrant { permit, expires_at: None };
                    let reader = if self.rng.bool() { Reader::Browser } else { Reader::Program };
                    let frames = watcher.frames();
                    let (kind, freshness) = (StreamKind::Stored, Freshness::always());
                    let response =
                        self.events.respond(reader, kind, freshness, grant, first, frames);
                    self.read(response.into_body()).await?;
                    sleep(Duration::from_millis(self.rng.u64(0..200))).await;
                }
            }
        }
        if !self.ended {
            self.oracle.check_complete()?;
        }
        Ok(self.tally)
    }

    fn is_done(&self) -> bool {
        *self.phase.borrow() == Phase::Done
    }

    /// Reads until the event stream ends, or is cut off.
    async fn read(&mut self, body: Body) -> Result<(), String> {
        let mut chunks = PollCountingBody { body, polled: (Instant::now(), 0) };
        let cut_after = if self.rng.bool() { self.rng.u64(0..4_000) } else { 1_000_000 };
        let cut = Instant::now() + Duration::from_millis(cut_after);
        let slow = self.rng.u8(0..4) == 0;
        loop {
            let faults_on = *self.phase.borrow_and_update() == Phase::FaultsOn;
            if self.is_done() || (faults_on && Instant::now() >= cut) {
                return Ok(());
            }
            if *self.phase.borrow() == Phase::CheckComplete {
                self.oracle.check_complete()?;
            }
            let wait = if faults_on { cut - Instant::now() } else { Duration::from_secs(1_000) };
            let chunk = tokio::select! {
                biased;
                _ = self.phase.changed() => continue,
                chunk = timeout(wait, chunks.next()) => chunk,
            };
            let Ok(chunk) = chunk else { continue };
            let Some(chunk) = chunk else { return Ok(()) };
            self.take_frames(&chunk?)?;
            if slow && faults_on {
                sleep(Duration::from_millis(self.rng.u64(0..300))).await;
            }
        }
    }

    /// Parses and checks a chunk of whole frames.
    fn take_frames(&mut self, chunk: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(chunk).map_err(|_| "not UTF-8")?;
        for block in text.split_terminator("\n\n") {
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let id = field("id").map(str::parse).transpose().map_err(|_| "an invalid id")?;
            let text = field("data").unwrap_or_default().to_owned();
            let received = match (field("event"), id) {
                (Some(NEW_MESSAGE), Some(id)) => Received::Message { id, text },
                (Some(END_EVENT), Some(id)) => Received::End { id, text },
                (Some(PING), Some(id)) => Received::Cursor(id),
                (Some(PING), None) => continue,
                (Some(RESET), None) => reset(&text)?,
                _ => return Err(format!("an unknown event: {block:?}")),
            };
            self.ended |= matches!(received, Received::End { .. });
            self.cursor = id.or(self.cursor);
            self.tally.count(&received);
            self.oracle.observe(&received)?;
        }
        Ok(())
    }
}

fn reset(text: &str) -> Result<Received, String> {
    let payload: Value = serde_json::from_str(text).map_err(|_| "a reset that is not JSON")?;
    let oldest = payload["oldest"].as_str().map(str::parse).transpose();
    let oldest = oldest.map_err(|_| "an invalid id")?;
    Ok(Received::Reset {
        reason: payload["reason"].as_str().unwrap_or_default().to_owned(),
        oldest,
    })
}

/// A body that fails when it is polled in a loop at one instant.
struct PollCountingBody {
    body: Body,
    polled: (Instant, u32),
}

impl Stream for PollCountingBody {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let now = Instant::now();
        let polls = if self.polled.0 == now { self.polled.1 + 1 } else { 0 };
        self.polled = (now, polls);
        if polls > MAX_POLLS_AT_ONCE {
            return Poll::Ready(Some(Err(
                "an event stream is polled in a loop without output".to_owned()
            )));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                Poll::Ready(Some(frame.into_data().map_err(|_| "trailers".to_owned())))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.to_string()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
