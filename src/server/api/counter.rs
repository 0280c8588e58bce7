//! The counter: the stream every newcomer sees first. Each visitor gets a run of their own.
//!
//! A run is not kept anywhere. Its ids are `<run start>-<n>`, and value *n* is due *n* − 1 delays
//! after the start: an id and a clock are all it takes to go on, on any server.

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
    message::{CLOSING_TEXT, END_EVENT, EventId, Message, NEW_MESSAGE, RESET, Snapshot},
    server::{
        client::Client,
        clock::Clock,
        error::Problem,
        guard::Limits,
        log::Place,
        observe::StreamKind,
        sse::{Batch, EventStreams, Reader, WatchGrant, frame, response},
    },
};

/// The path of the stream.
pub(crate) const PATH: &str = "/stream";

/// Why a reader begins anew that says it was in a run that is none.
const UNKNOWN_CURSOR: &str = "unknown-cursor";

/// By how much the clocks of two servers may differ: a run that one began, the other goes on with.
const CLOCK_SKEW_MS: u64 = 5_000;

/// What the runs have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    /// How many values a run has. The end is one more, and as long after the last.
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
    let place = counter.check(cursor)?;
    let permit = limits.watch(client.address)?;
    if cursor.is_resumed() {
        events.metrics.resumed();
    }
    let mut first = Batch::default();

    let run = match place {
        Some(Place::Id(id)) if id.seq == counter.end() => {
            // The only answer after which a browser does not come back.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Some(Place::Id(id)) => {
            let run = counter.resume(id);
            if run.due(run.next) > Instant::now() {
                frame::cursor(&mut first.frames, id);
            }
            run
        }
        // Before it begins, a run's two ends are the same place.
        Some(Place::Earliest | Place::Latest | Place::Position(_)) => counter.begin(),
        None => {
            let run = counter.begin();
            let oldest = EventId { millis: run.start, seq: 1 };
            let why = format!(r#"{{"reason":"{UNKNOWN_CURSOR}","oldest":"{oldest}"}}"#);
            frame::event(&mut first.frames, RESET, None, &why);
            first.reset = Some(UNKNOWN_CURSOR);
            run
        }
    };
    let grant = WatchGrant { permit, until: None };
    Ok(events.respond(reader, StreamKind::Counter, grant, first, run.frames()))
}

impl Counter {
    pub(crate) fn new(count: u64, delay: Duration, clock: Clock) -> Self {
        Self { count, delay, clock }
    }

    /// A run that begins now, as a page is rendered with it: the first value is due at once.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let id = EventId { millis: self.clock.now(), seq: 1 };
        Snapshot {
            events: PATH.to_owned(),
            messages: vec![Message { id, data: value(1) }],
            older: false,
            end: None,
            pace: u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// An id from a run that has not begun, or of a value that no run has, is none of ours.
    fn check(&self, cursor: Cursor) -> Result<Option<Place>, Problem> {
        let latest_start = self.clock.now().saturating_add(CLOCK_SKEW_MS);
        match cursor.place {
            Some(Place::Id(id)) if id.millis > latest_start => cursor.refuse(
                "last_event_id belongs to a run of the counter that has not begun. Leave it out \
                 to begin one.",
            ),
            Some(Place::Id(id)) if !(1..=self.end()).contains(&id.seq) => cursor.refuse(
                "last_event_id is of a value that a run of the counter does not have. Leave it \
                 out to begin a run.",
            ),
            place => Ok(place),
        }
    }

    /// The place of the end, one after the last value.
    fn end(&self) -> u64 {
        self.count + 1
    }

    fn begin(&self) -> Run {
        self.take_up(self.clock.now(), 1)
    }

    fn resume(&self, last: EventId) -> Run {
        self.take_up(last.millis, last.seq.saturating_add(1))
    }

    fn take_up(&self, start: u64, next: u64) -> Run {
        let age = Duration::from_millis(self.clock.now().saturating_sub(start));
        Run { counter: *self, start, age, taken_up: Instant::now(), next }
    }
}

fn value(n: u64) -> String {
    format!("Counter value {n}")
}

/// A run as one reader follows it.
struct Run {
    counter: Counter,
    /// When the run began, in milliseconds since the Unix epoch.
    start: u64,
    /// How old the run was when this reader took it up. The time of day is asked once: from then
    /// on the run keeps its pace whatever happens to the clock on the wall.
    age: Duration,
    taken_up: Instant,
    /// What the reader gets next.
    next: u64,
}

impl Run {
    /// When value `n` is due.
    fn due(&self, n: u64) -> Instant {
        let delays = u32::try_from(n - 1).unwrap_or(u32::MAX);
        self.taken_up + (self.counter.delay * delays).saturating_sub(self.age)
    }

    /// The rest of the run: as many frames at a time as are due and fit one write.
    fn frames(self) -> impl Stream<Item = Batch> {
        stream::unfold(self, |mut run| async move {
            if run.next > run.counter.end() {
                return None;
            }
            // A timer that is due is not ready at once.
            let due = run.due(run.next);
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let now = Instant::now();
            let mut batch: Batch<String> = Batch::default();
            while run.next <= run.counter.end()
                && run.due(run.next) <= now
                && batch.frames.len() < response::BATCH
            {
                run.write_next(&mut batch);
            }
            Some((batch.into(), run))
        })
    }

    fn write_next(&mut self, batch: &mut Batch<String>) {
        let id = EventId { millis: self.start, seq: self.next };
        if self.next == self.counter.end() {
            frame::event(&mut batch.frames, END_EVENT, Some(id), CLOSING_TEXT);
        } else {
            frame::event(&mut batch.frames, NEW_MESSAGE, Some(id), &value(self.next));
        }
        batch.messages += 1;
        self.next += 1;
    }
}
