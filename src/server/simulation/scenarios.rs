//! Scenario tests: single histories, each with one fault.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    message::{ResetReason, StreamName},
    server::{
        guard::MemoryBudget,
        hub::{BufferSizes, Hub, Start, Watcher},
        log::{
            Bound, Log, ReadCursor, RetentionLimits,
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

/// A server over a faulty engine. A tail holds two messages, unless a scenario sets another size.
struct TestServer {
    engine: Faulty,
    hub: Hub,
    stream: StreamName,
}

impl TestServer {
    fn new() -> Self {
        Self::with_tail_limits(Bound { messages: 2, bytes: usize::MAX }, usize::MAX)
    }

    /// A server with this maximum size of each tail, and this total of all tails in bytes.
    fn with_tail_limits(tail: Bound, all_tails: usize) -> Self {
        let engine = Faulty::new(0, LIMITS, true);
        let supervisor = Supervisor::new(Shutdown::default());
        let page = Bound { messages: 100, bytes: usize::MAX };
        let sizes = BufferSizes { tail, all_tails, page };
        let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
        let hub = Hub::new(Log::Faulty(engine.clone()), supervisor, memory, sizes);
        Self { engine, hub, stream: "news".parse().expect("a name") }
    }

    async fn publish(&self, texts: std::ops::Range<usize>) {
        self.publish_with(texts, "").await;
    }

    /// Publishes texts: a number, and the same `rest` after it.
    async fn publish_with(&self, texts: std::ops::Range<usize>, rest: &str) {
        for text in texts {
            let data =
                MessageText::new(format!("{text}{rest}").into_bytes(), usize::MAX).expect("data");
            let log = Log::Faulty(self.engine.clone());
            log.append(self.stream.clone(), data, None).await.expect("appended");
            // So that it is delivered alone.
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn watch(&self, cursor: ReadCursor) -> impl Stream<Item = Batch> + Unpin + use<> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
        let start = Watcher::start(&self.hub, self.stream.clone(), address, Some(cursor), 1).await;
        let Ok(Start::Watching(first, watcher)) = start else { panic!("a stream to watch") };
        let first = futures::stream::iter((!first.frames.is_empty()).then(|| first.into()));
        first.chain(watcher.frames()).boxed()
    }
}

/// The texts that a reader receives within a time. Panics on a reset.
async fn texts_within(
    reader: &mut (impl Stream<Item = Batch> + Unpin),
    within: Duration,
) -> Vec<usize> {
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
const NO_TEXTS: [usize; 0] = [];

/// A replica lags, while the tail continues.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_behind_the_tail_is_read_again_with_pauses() {
    let server = TestServer::new();
    server.publish(0..3).await;
    let mut reader = server.watch(ReadCursor::Earliest).await;
    assert_eq!(texts_within(&mut reader, SECOND).await, [0, 1, 2]);
    server.engine.freeze_reads(true);
    sleep(SECOND).await;
    // More than the tail holds, while the reader does not read.
    server.publish(3..10).await;
    let calls = server.engine.calls();
    assert_eq!(
        texts_within(&mut reader, 10 * SECOND).await,
        NO_TEXTS,
        "the log does not have it yet"
    );
    let calls = server.engine.calls() - calls;
    assert!((5..30).contains(&calls), "the log was called {calls} times in ten seconds");
    server.engine.freeze_reads(false);
    assert_eq!(texts_within(&mut reader, 3 * SECOND).await, [3, 4, 5, 6, 7, 8, 9]);
    server.publish(10..11).await;
    assert_eq!(texts_within(&mut reader, SECOND).await, [10]);
}

/// The total of all tails, and a reader that does not read for a while.
#[tokio::test(start_paused = true)]
async fn tails_stay_within_their_total_and_evicted_messages_are_read_from_the_log() {
    const TOTAL: usize = 1_000;
    let unbounded = Bound { messages: usize::MAX, bytes: usize::MAX };
    for (total, is_bounded) in [(TOTAL, true), (usize::MAX, false)] {
        let server = TestServer::with_tail_limits(unbounded, total);
        let mut reader = server.watch(ReadCursor::Earliest).await;
        assert_eq!(texts_within(&mut reader, SECOND).await, NO_TEXTS);
        server.publish(0..100).await;
        sleep(SECOND).await;
        let held = server.hub.tail_bytes();
        assert!(held > 0 && (held <= TOTAL) == is_bounded, "{held} bytes of {total}");
        assert_eq!(texts_within(&mut reader, SECOND).await, (0..100).collect::<Vec<_>>());
        drop(reader);
        sleep(SECOND).await;
        assert_eq!(server.hub.tail_bytes(), 0, "it is released");
    }
}

/// A stalled reader holds its batch, even after its eviction from the tail.
#[tokio::test(start_paused = true)]
async fn large_messages_are_counted_while_a_reader_holds_them() {
    const TOTAL: usize = 1024 * 1024;
    let server =
        TestServer::with_tail_limits(Bound { messages: usize::MAX, bytes: usize::MAX }, TOTAL);
    let mut reader = server.watch(ReadCursor::Earliest).await;
    assert_eq!(texts_within(&mut reader, SECOND).await, NO_TEXTS);
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

/// Sequences continue across the generations of a stream.
#[tokio::test(start_paused = true)]
async fn the_lag_is_the_number_of_messages_not_yet_sent() {
    let server = TestServer::new();
    server.publish(0..5).await;
    let log = Log::Faulty(server.engine.clone());
    let delete = async || log.delete(server.stream.clone()).await.expect("deleted");
    delete().await;
    let mut reader = server.watch(ReadCursor::Earliest).await;
    for round in 0..2 {
        sleep(SECOND).await;
        assert_eq!(server.hub.stats(), (1, 0));
        server.publish(5..7).await;
        assert_eq!(server.hub.stats(), (1, 2), "{round}");
        assert_eq!(texts_within(&mut reader, SECOND).await, [5, 6]);
        assert_eq!(server.hub.stats(), (1, 0));
        delete().await;
        let reset = timeout(SECOND, reader.next()).await.expect("in time").expect("a reset");
        assert_eq!(reset.reset, Some(ResetReason::Deleted));
    }
}

/// A page that one server rendered continues at another one, whose replica lags.
#[tokio::test(start_paused = true)]
async fn a_cursor_that_the_log_has_not_reached_is_not_unknown() {
    let server = TestServer::new();
    sleep(SECOND).await;
    server.engine.freeze_reads(true);
    sleep(SECOND).await;
    server.publish(0..3).await;
    let id =
        server.engine.with_generations(&server.stream, |generations| generations[0].messages[1].id);
    let (mut reader, ()) = tokio::join!(server.watch(ReadCursor::Id(id)), async {
        sleep(2 * SECOND).await;
        server.engine.freeze_reads(false);
    });
    assert_eq!(texts_within(&mut reader, SECOND).await, [2]);
}

/// Readers read the log, with pauses, while the stream cannot be followed.
#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_followed_is_read_from_the_log() {
    for hung_calls in [0, 100] {
        let server = TestServer::new();
        server.publish(0..1).await;
        let mut reader = server.watch(ReadCursor::Earliest).await;
        assert_eq!(texts_within(&mut reader, SECOND).await, [0]);
        server.engine.set_faults(Faults { failed_follows: 100, ..Faults::default() });
        server.engine.break_follows();
        server.publish(1..5).await;
        assert_eq!(texts_within(&mut reader, 3 * SECOND).await, [1, 2, 3, 4]);
        let calls = server.engine.calls();
        assert_eq!(texts_within(&mut reader, 60 * SECOND).await, NO_TEXTS);
        let calls = server.engine.calls() - calls;
        assert!(calls < 150, "the log was called {calls} times in a minute");
        server.engine.set_faults(Faults { hung_calls, ..Faults::default() });
        sleep(5 * SECOND).await;
        server.engine.set_faults(Faults::default());
        sleep(20 * SECOND).await;
        assert_eq!(server.engine.followers(), 1, "it is followed again");
        server.publish(5..7).await;
        assert_eq!(texts_within(&mut reader, SECOND / 10).await, [5, 6]);
    }
}

/// A watcher whose log fails, or has nothing new, is closed: its client reconnects.
#[tokio::test(start_paused = true)]
async fn a_watcher_does_not_wait_forever_for_a_log_that_cannot_be_read() {
    let server = TestServer::new();
    server.publish(0..1).await;
    let mut reader = server.watch(ReadCursor::Earliest).await;
    assert_eq!(texts_within(&mut reader, SECOND).await, [0]);
    for failed_reads in [0, 100] {
        let faults = Faults { failed_reads, failed_follows: 100, ..Faults::default() };
        server.engine.set_faults(faults);
        server.engine.break_follows();
        assert_eq!(texts_within(&mut reader, 20 * SECOND).await, NO_TEXTS);
    }
    let next = timeout(60 * SECOND, reader.next()).await.expect("it is closed");
    assert!(next.is_none());
}
