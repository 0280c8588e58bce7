//! Single histories, written out: what each fault must not lead to.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    message::StreamName,
    server::{
        guard::MemoryBudget,
        hub::{Hub, Sizes, Start, Watcher},
        log::{
            Bound, Log, Place, RetentionLimits,
            faulty::{Faults, Faulty},
            message_text::MessageText,
        },
        shutdown::Shutdown,
        sse::Batch,
        supervisor::Supervisor,
    },
};

const LIMITS: RetentionLimits = RetentionLimits {
    messages: 1_000,
    age: Duration::MAX,
    bytes: u64::MAX,
    streams: u64::MAX,
    keys: u64::MAX,
    all_keys: u64::MAX,
};

/// A server over an engine; a tail holds two messages unless a scenario says otherwise.
struct Server {
    engine: Faulty,
    hub: Hub,
    stream: StreamName,
}

impl Server {
    fn new() -> Self {
        Self::holding(Bound { messages: 2, bytes: usize::MAX }, usize::MAX)
    }

    /// One whose tails have so much each, and so many bytes together.
    fn holding(tail: Bound, all_tails: usize) -> Self {
        let engine = Faulty::new(0, LIMITS, true);
        let supervisor = Supervisor::new(Shutdown::default());
        let page = Bound { messages: 100, bytes: usize::MAX };
        let sizes = Sizes { tail, all_tails, page };
        let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
        let hub = Hub::new(Log::Faulty(engine.clone()), supervisor, memory, sizes);
        Self { engine, hub, stream: "news".parse().expect("a name") }
    }

    async fn publish(&self, texts: std::ops::Range<usize>) {
        self.publish_with(texts, "").await;
    }

    /// Texts that have something behind their number.
    async fn publish_with(&self, texts: std::ops::Range<usize>, rest: &str) {
        for text in texts {
            let data =
                MessageText::new(format!("{text}{rest}").into_bytes(), usize::MAX).expect("data");
            let log = Log::Faulty(self.engine.clone());
            log.append(self.stream.clone(), data, None).await.expect("appended");
            // So that it is told by itself.
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn watch(&self, place: Place) -> impl Stream<Item = Batch> + Unpin + use<> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
        let start = Watcher::start(&self.hub, self.stream.clone(), address, Some(place)).await;
        let Ok(Start::Watching(first, watcher)) = start else { panic!("a stream to watch") };
        let first = futures::stream::iter((!first.frames.is_empty()).then(|| first.into()));
        first.chain(watcher.frames()).boxed()
    }
}

/// The texts that a reader is given within a time. There must be no reset among them.
async fn given(reader: &mut (impl Stream<Item = Batch> + Unpin), within: Duration) -> Vec<usize> {
    let (mut texts, end) = (Vec::new(), Instant::now() + within);
    while let Ok(Some(batch)) = timeout(end - Instant::now(), reader.next()).await {
        assert_eq!(batch.reset, None);
        let frames = String::from_utf8(batch.frames.to_vec()).expect("text");
        let data = frames.lines().filter_map(|line| line.strip_prefix("data: "));
        texts.extend(data.filter_map(|text| text.parse::<usize>().ok()));
    }
    texts
}

const SECOND: Duration = Duration::from_secs(1);
const NONE: [usize; 0] = [];

/// A replica that lags, while the tail goes on.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_behind_the_tail_is_waited_for_with_pauses() {
    let server = Server::new();
    server.publish(0..3).await;
    let mut reader = server.watch(Place::Earliest).await;
    assert_eq!(given(&mut reader, SECOND).await, [0, 1, 2]);
    server.engine.freeze_reads(true);
    sleep(SECOND).await;
    // More than the tail holds, while the reader is elsewhere.
    server.publish(3..10).await;
    let calls = server.engine.calls();
    assert_eq!(given(&mut reader, 10 * SECOND).await, NONE, "the log does not have it yet");
    let calls = server.engine.calls() - calls;
    assert!((5..30).contains(&calls), "it was asked {calls} times in ten seconds");
    server.engine.freeze_reads(false);
    assert_eq!(given(&mut reader, 3 * SECOND).await, [3, 4, 5, 6, 7, 8, 9]);
    server.publish(10..11).await;
    assert_eq!(given(&mut reader, SECOND).await, [10]);
}

/// Memory that all streams share, and a reader that is elsewhere for a while.
#[tokio::test(start_paused = true)]
async fn tails_are_held_to_their_total_and_what_was_evicted_is_read() {
    const TOTAL: usize = 1_000;
    let unbounded = Bound { messages: usize::MAX, bytes: usize::MAX };
    for (total, is_held) in [(TOTAL, true), (usize::MAX, false)] {
        let server = Server::holding(unbounded, total);
        let mut reader = server.watch(Place::Earliest).await;
        assert_eq!(given(&mut reader, SECOND).await, NONE);
        server.publish(0..100).await;
        sleep(SECOND).await;
        let held = server.hub.tail_bytes();
        assert!(held > 0 && (held <= TOTAL) == is_held, "{held} bytes of {total}");
        assert_eq!(given(&mut reader, SECOND).await, (0..100).collect::<Vec<_>>());
        drop(reader);
        sleep(SECOND).await;
        assert_eq!(server.hub.tail_bytes(), 0, "it is given back");
    }
}

/// A reader that stalls holds what it was given, though the tail has let it go.
#[tokio::test(start_paused = true)]
async fn large_messages_are_counted_for_as_long_as_a_reader_holds_them() {
    const TOTAL: usize = 1024 * 1024;
    let server = Server::holding(Bound { messages: usize::MAX, bytes: usize::MAX }, TOTAL);
    let mut reader = server.watch(Place::Earliest).await;
    assert_eq!(given(&mut reader, SECOND).await, NONE);
    let (mut shared, mut reserved) = (Vec::new(), Vec::new());
    for n in 0..40 {
        server.publish_with(n..n + 1, &"\n".repeat(20_000)).await;
        let batch = timeout(SECOND, reader.next()).await.expect("in time").expect("a batch");
        assert!(batch.frames.starts_with(b"event: new_message\n"));
        if batch.memory.is_none() { shared.push(batch) } else { reserved.push(batch) }
    }
    let held: usize = shared.iter().map(|batch| batch.frames.len()).sum();
    assert!((TOTAL / 2..TOTAL + TOTAL / 8).contains(&held), "{held} bytes without a reservation");
    assert!(!reserved.is_empty());
    drop((shared, reserved));
    server.publish_with(40..41, &"\n".repeat(20_000)).await;
    let batch = timeout(SECOND, reader.next()).await.expect("in time").expect("a batch");
    assert!(batch.memory.is_none(), "there is room again");
}

/// Sequences go on across the generations of a stream.
#[tokio::test(start_paused = true)]
async fn a_watcher_is_behind_by_what_it_has_not_been_given() {
    let server = Server::new();
    server.publish(0..5).await;
    let log = Log::Faulty(server.engine.clone());
    let delete = async || log.delete(server.stream.clone()).await.expect("deleted");
    delete().await;
    let mut reader = server.watch(Place::Earliest).await;
    for round in 0..2 {
        sleep(SECOND).await;
        assert_eq!(server.hub.survey(), (1, 0));
        server.publish(5..7).await;
        assert_eq!(server.hub.survey(), (1, 2), "{round}");
        assert_eq!(given(&mut reader, SECOND).await, [5, 6]);
        assert_eq!(server.hub.survey(), (1, 0));
        delete().await;
        let reset = timeout(SECOND, reader.next()).await.expect("in time").expect("a reset");
        assert_eq!(reset.reset, Some("deleted"));
    }
}

/// A page that one server rendered goes on at another one, whose replica lags.
#[tokio::test(start_paused = true)]
async fn a_cursor_that_the_log_has_not_come_to_is_not_unknown() {
    let server = Server::new();
    sleep(SECOND).await;
    server.engine.freeze_reads(true);
    sleep(SECOND).await;
    server.publish(0..3).await;
    let id = server.engine.with_past(&server.stream, |past| past[0].messages[1].id);
    let (mut reader, ()) = tokio::join!(server.watch(Place::Id(id)), async {
        sleep(2 * SECOND).await;
        server.engine.freeze_reads(false);
    });
    assert_eq!(given(&mut reader, SECOND).await, [2]);
}

/// Readers go on from the log, slowly, for as long as the stream cannot be followed.
#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_followed_is_read() {
    for hanging in [0, 100] {
        let server = Server::new();
        server.publish(0..1).await;
        let mut reader = server.watch(Place::Earliest).await;
        assert_eq!(given(&mut reader, SECOND).await, [0]);
        server.engine.set_faults(Faults { failed_follows: 100, ..Faults::default() });
        server.engine.break_follows();
        server.publish(1..5).await;
        assert_eq!(given(&mut reader, 3 * SECOND).await, [1, 2, 3, 4]);
        let calls = server.engine.calls();
        assert_eq!(given(&mut reader, 60 * SECOND).await, NONE);
        let calls = server.engine.calls() - calls;
        assert!(calls < 150, "it was asked {calls} times in a minute");
        server.engine.set_faults(Faults { hanging, ..Faults::default() });
        sleep(5 * SECOND).await;
        server.engine.set_faults(Faults::default());
        sleep(20 * SECOND).await;
        assert_eq!(server.engine.followers(), 1, "it is followed again");
        server.publish(5..7).await;
        assert_eq!(given(&mut reader, SECOND / 10).await, [5, 6]);
    }
}

/// A reader that the log denies nothing to, and gives nothing, is let go, and comes back.
#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_not_waited_for_for_ever() {
    let server = Server::new();
    server.publish(0..1).await;
    let mut reader = server.watch(Place::Earliest).await;
    assert_eq!(given(&mut reader, SECOND).await, [0]);
    for failed_reads in [0, 100] {
        let faults = Faults { failed_reads, failed_follows: 100, ..Faults::default() };
        server.engine.set_faults(faults);
        server.engine.break_follows();
        assert_eq!(given(&mut reader, 20 * SECOND).await, NONE);
    }
    let over = timeout(60 * SECOND, reader.next()).await.expect("it is let go");
    assert!(over.is_none());
}
