//! The counter: the built-in demonstration stream at `/stream`. Each reader gets its own run.
//!
//! A run is not stored. The id of value *n* is `<when it is due>-<n>`, and the next one is due a delay
//! later, so that any server can resume a run from an id and its clock.

use std::time::Duration;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::stream::{self, Stream};
use tokio::time::Instant;

use super::cursor::Cursor;
use crate::{
    message::{CLOSING_TEXT, END_EVENT, EventId, Message, NEW_MESSAGE, ResetReason, Snapshot},
    server::{
        client::Client,
        clock::Clock,
        error::Problem,
        guard::Limits,
        log::{Freshness, ReadCursor},
        mount,
        observe::StreamKind,
        sse::{Batch, EventStreams, Reader, WatchGrant, frame, response},
    },
};

/// The path of the counter's event stream.
pub(crate) const PATH: &str = "/stream";

/// By how many milliseconds the clocks of two servers may differ for one to resume a run of the other.
const CLOCK_SKEW_MS: u64 = 5_000;

/// The configuration that all runs share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    /// How many values a run has. The end event follows one delay after the last value.
    count: u64,
    delay: Duration,
    clock: Clock,
}

/// `GET /stream`
pub(crate) async fn stream(
    State(counter): State<Counter>,
    State(limits): State<Limits>,
    State(events): State<EventStreams>,
    client: Client,
    reader: Reader,
    cursor: Cursor,
) -> Result<Response, Problem> {
    let position = counter.check_cursor(cursor)?;
    let permit = limits.watch(client.address)?;
    if cursor.is_resumed() {
        events.metrics.resumed();
    }
    let mut first = Batch::default();

    let run = match position {
        Some(ReadCursor::Id(id)) if id.seq == counter.end_seq() => {
            // The only status after which an `EventSource` does not reconnect.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Some(ReadCursor::Id(id)) => {
            let run = counter.run_from(counter.after(id));
            if run.due() > Instant::now() {
                frame::cursor(&mut first.frames, id);
            }
            run
        }
        // In a new run, earliest and latest are the same place.
        Some(ReadCursor::Earliest | ReadCursor::Latest | ReadCursor::Position(_)) => {
            counter.run_from(counter.first())
        }
        None => {
            let oldest = counter.first();
            first.push_reset(ResetReason::UnknownCursor, Some(oldest));
            counter.run_from(oldest)
        }
    };
    let grant = WatchGrant { permit, expires_at: None };
    // A run is not stored.
    let freshness = Freshness::always();
    Ok(events.respond(reader, StreamKind::Counter, freshness, grant, first, run.frames()))
}

impl Counter {
    pub(crate) fn new(count: u64, delay: Duration, clock: Clock) -> Self {
        Self { count, delay, clock }
    }

    /// The state of a run that begins now, to render a page with: the first value is due at once.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let messages = vec![Message { id: self.first(), data: value_text(1) }.into()];
        Snapshot { events: mount::address(PATH), messages, ..Snapshot::default() }
    }

    /// The place of a cursor; `None` for one in the header that no run can have sent: it is due in the
    /// future, or no run has such a value.
    ///
    /// # Errors
    /// When such a cursor comes from the query.
    fn check_cursor(&self, cursor: Cursor) -> Result<Option<ReadCursor>, Problem> {
        let latest = self.clock.now().saturating_add(CLOCK_SKEW_MS);
        match cursor.position {
            Some(ReadCursor::Id(id)) if id.millis > latest => cursor.refuse(
                "last_event_id is of a value of the counter that is not due yet. Omit it to begin a \
                 run.",
            ),
            Some(ReadCursor::Id(id)) if !(1..=self.end_seq()).contains(&id.seq) => cursor.refuse(
                "last_event_id is of a value that a run of the counter does not have. Omit it to \
                 begin a run.",
            ),
            position => Ok(position),
        }
    }

    /// The sequence of the end event: one after the last value.
    fn end_seq(&self) -> u64 {
        self.count + 1
    }

    /// The first id of a run that begins now.
    fn first(&self) -> EventId {
        EventId { millis: self.clock.now(), seq: 1 }
    }

    /// The id that follows in the same run.
    fn after(&self, id: EventId) -> EventId {
        let delay = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX);
        EventId { millis: id.millis.saturating_add(delay), seq: id.seq.saturating_add(1) }
    }

    fn run_from(&self, next: EventId) -> Run {
        Run { counter: *self, next, begun: (self.clock.now(), Instant::now()) }
    }
}

fn value_text(n: u64) -> String {
    format!("Counter value {n}")
}

/// A run of the counter, and the position of its reader.
struct Run {
    counter: Counter,
    /// The id of the next event.
    next: EventId,
    /// When this reader connected: the time of day, in milliseconds since the Unix epoch, and the same
    /// instant. The time of day is read only once, so that later changes of the system clock do not
    /// change the pace of the run.
    begun: (u64, Instant),
}

impl Run {
    /// When the next event is due.
    fn due(&self) -> Instant {
        let (time_of_day, instant) = self.begun;
        instant + Duration::from_millis(self.next.millis.saturating_sub(time_of_day))
    }

    /// The rest of the run, in batches of the frames that are due, about 16 KiB at most.
    fn frames(self) -> impl Stream<Item = Batch> {
        stream::unfold(self, |mut run| async move {
            if run.next.seq > run.counter.end_seq() {
                return None;
            }
            // A tokio timer whose deadline has passed is not ready on its first poll.
            if run.due() > Instant::now() {
                tokio::time::sleep_until(run.due()).await;
            }
            let now = Instant::now();
            let mut batch: Batch<String> = Batch::default();
            while run.next.seq <= run.counter.end_seq()
                && run.due() <= now
                && batch.frames.len() < response::BATCH_BYTES
            {
                run.write_next(&mut batch);
            }
            Some((batch.into(), run))
        })
    }

    fn write_next(&mut self, batch: &mut Batch<String>) {
        let id = self.next;
        if id.seq == self.counter.end_seq() {
            frame::event(&mut batch.frames, END_EVENT, Some(id), CLOSING_TEXT);
        } else {
            frame::event(&mut batch.frames, NEW_MESSAGE, Some(id), &value_text(id.seq));
        }
        batch.messages += 1;
        self.next = self.counter.after(id);
    }
}
