//! A reader: it comes, reads, is cut off, and comes back, until the history is over.

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
    truth::{Told, Witness},
};
use crate::{
    message::{END_EVENT, EventId, NEW_MESSAGE, PING, RESET, StreamName},
    server::{
        api::cursor,
        guard::ConcurrencyLimit,
        hub::{Hub, Start, Watcher},
        observe::StreamKind,
        sse::{EventStreams, Reader, WatchGrant},
    },
};

/// Where all readers are.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long a watcher may take to start: longer than its reads may take together.
const MAX_START: Duration = Duration::from_mins(2);
/// How often a body may be asked at one instant.
const MAX_POLLS_AT_ONCE: u32 = 2_000;

/// What a history is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything may go wrong.
    Stormy,
    /// Nothing goes wrong any more.
    Calm,
    /// Every reader must have all there is.
    Settled,
    /// All go.
    Over,
}

pub(super) struct ReadingClient {
    /// The servers that it may be sent to.
    pub(super) hubs: Vec<Hub>,
    pub(super) events: EventStreams,
    pub(super) permits: ConcurrencyLimit,
    pub(super) stream: StreamName,
    pub(super) witness: Witness,
    pub(super) chance: fastrand::Rng,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) cursor: Option<EventId>,
    pub(super) tally: Tally,
    pub(super) ended: bool,
}

impl ReadingClient {
    /// Reads until the history is over, and judges all that it is told.
    pub(super) async fn run(mut self) -> Result<Tally, String> {
        let latest = self.chance.u8(0..3) == 0;
        while !self.is_over() && !self.ended {
            match self.cursor {
                None | Some(EventId::BEGINNING) => {
                    self.witness.comes(latest && self.cursor.is_none());
                }
                Some(_) => self.witness.comes_back(),
            }
            let cursor = match (self.cursor, latest) {
                (Some(id), _) => id.to_string(),
                (None, true) => "latest".to_owned(),
                (None, false) => String::new(),
            };
            let place = cursor::place(&cursor).map_err(|_| "a cursor that is none")?;
            let hub = self.hubs[self.chance.usize(..self.hubs.len())].clone();
            let stream = self.stream.clone();
            let start = Watcher::start(&hub, stream, ADDRESS.into(), Some(place));
            let start = timeout(MAX_START, start).await.map_err(|_| "a watcher does not start")?;
            match start {
                // As a client does with a 503.
                Err(_) => sleep(Duration::from_millis(self.chance.u64(50..500))).await,
                Ok(Start::Finished) => {
                    self.witness.has_the_end()?;
                    self.ended = true;
                }
                Ok(Start::Watching(first, watcher)) => {
                    let permit = self.permits.acquire(None).map_err(|_| "no permit")?;
                    let grant = WatchGrant { permit, until: None };
                    let reader = if self.chance.bool() { Reader::Browser } else { Reader::Program };
                    let frames = watcher.frames();
                    let response =
                        self.events.respond(reader, StreamKind::Stored, grant, first, frames);
                    self.read(response.into_body()).await?;
                    sleep(Duration::from_millis(self.chance.u64(0..200))).await;
                }
            }
        }
        if !self.ended {
            self.witness.is_complete()?;
        }
        Ok(self.tally)
    }

    fn is_over(&self) -> bool {
        *self.phase.borrow() == Phase::Over
    }

    /// Reads until the stream ends, or is cut.
    async fn read(&mut self, body: Body) -> Result<(), String> {
        let mut pieces = Counted { body, polled: (Instant::now(), 0) };
        let cut_after = if self.chance.bool() { self.chance.u64(0..4_000) } else { 1_000_000 };
        let cut = Instant::now() + Duration::from_millis(cut_after);
        let slow = self.chance.u8(0..4) == 0;
        loop {
            let stormy = *self.phase.borrow_and_update() == Phase::Stormy;
            if self.is_over() || (stormy && Instant::now() >= cut) {
                return Ok(());
            }
            if *self.phase.borrow() == Phase::Settled {
                self.witness.is_complete()?;
            }
            let wait = if stormy { cut - Instant::now() } else { Duration::from_secs(1_000) };
            let piece = tokio::select! {
                biased;
                _ = self.phase.changed() => continue,
                piece = timeout(wait, pieces.next()) => piece,
            };
            let Ok(piece) = piece else { continue };
            let Some(piece) = piece else { return Ok(()) };
            self.take(&piece?)?;
            if slow && stormy {
                sleep(Duration::from_millis(self.chance.u64(0..300))).await;
            }
        }
    }

    /// Takes whole frames.
    fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(piece).map_err(|_| "not UTF-8")?;
        for block in text.split_terminator("\n\n") {
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let id = field("id").map(str::parse).transpose().map_err(|_| "an id that is none")?;
            let text = field("data").unwrap_or_default().to_owned();
            let told = match (field("event"), id) {
                (Some(NEW_MESSAGE), Some(id)) => Told::Message { id, text },
                (Some(END_EVENT), Some(id)) => Told::End { id, text },
                (Some(PING), Some(id)) => Told::Cursor(id),
                (Some(PING), None) => continue,
                (Some(RESET), None) => reset(&text)?,
                _ => return Err(format!("what is {block:?}?")),
            };
            self.ended |= matches!(told, Told::End { .. });
            self.cursor = id.or(self.cursor);
            self.tally.count(&told);
            self.witness.hears(&told)?;
        }
        Ok(())
    }
}

fn reset(text: &str) -> Result<Told, String> {
    let why: Value = serde_json::from_str(text).map_err(|_| "a reset that is no JSON")?;
    let oldest = why["oldest"].as_str().map(str::parse).transpose();
    let oldest = oldest.map_err(|_| "an id that is none")?;
    Ok(Told::Reset { reason: why["reason"].as_str().unwrap_or_default().to_owned(), oldest })
}

/// A body that fails when it is asked again and again at the same instant.
struct Counted {
    body: Body,
    polled: (Instant, u32),
}

impl Stream for Counted {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let now = Instant::now();
        let polls = if self.polled.0 == now { self.polled.1 + 1 } else { 0 };
        self.polled = (now, polls);
        if polls > MAX_POLLS_AT_ONCE {
            return Poll::Ready(Some(Err("an event stream is busy and says nothing".to_owned())));
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
