//! Conformance tests: the contract of the log, which every engine must pass.
//!
//! [`ENGINES`] lists the engines.

mod faults;
mod follow;

use std::{
    future::Future,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::future::BoxFuture;
use tempfile::TempDir;
use tidings_cluster::Cluster;

use super::{faulty::Faulty, *};
use crate::server::shutdown::Shutdown;

const NOW: u64 = 1_763_891_234_567;
const LIMITS: RetentionLimits = RetentionLimits {
    messages: 100_000,
    age: Duration::from_hours(24 * 30),
    bytes: 1024 * 1024 * 1024,
    streams: 100,
    keys: 1000,
    all_keys: 10_000,
};
const ALL: Bound = Bound { messages: usize::MAX, bytes: usize::MAX };

/// Opens an engine. None where it is not installed.
type OpenEngine = fn(RetentionLimits) -> BoxFuture<'static, Option<TestEngine>>;

/// How each engine is opened.
const ENGINES: [OpenEngine; 4] = [
    |limits| Box::pin(async move { Some(sqlite(false, limits).await) }),
    |limits| Box::pin(async move { Some(sqlite(true, limits).await) }),
    |limits| Box::pin(postgres(limits)),
    |limits| Box::pin(std::future::ready(Some(faulty_engine(limits)))),
];

/// An engine under test.
struct TestEngine {
    log: Log,
    /// Another server on the same store, where the engine supports more than one.
    other: Option<Log>,
    /// Fault injection, where the engine supports it.
    faults: Option<Faulty>,
    _folder: Option<TempDir>,
}

async fn sqlite(in_file: bool, limits: RetentionLimits) -> TestEngine {
    let folder = TempDir::new().expect("a folder");
    let store = if in_file { Store::File(folder.path().join("log.db")) } else { Store::Memory };
    let clock = Clock::Tokio { millis: NOW, origin: tokio::time::Instant::now() };
    // Its failures are not tested here.
    let supervisor = Supervisor::new(Shutdown::default());
    let log = Log::open(store, limits, clock, &supervisor).await.expect("a log");
    TestEngine { log, other: None, faults: None, _folder: Some(folder) }
}

/// An empty database. None where `PostgreSQL` is not installed.
async fn postgres(limits: RetentionLimits) -> Option<TestEngine> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let database = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let url = tokio::task::spawn_blocking(move || {
        let options = tidings_cluster::Options { fsync: false, ..Default::default() };
        let cluster = CLUSTER.get_or_init(|| Cluster::start_for_tests(&options));
        let cluster = cluster.as_ref()?;
        let create = format!("CREATE DATABASE {database} OWNER tidings");
        cluster.primary().query(&create).expect("a database");
        let url = cluster.url();
        let (server, _) = url.rsplit_once("/tidings").expect("a database");
        Some(format!("{server}/{database}"))
    });
    let url = url.await.expect("no panic")?;
    let open = async || {
        let store = Store::Postgres(Box::new(url.parse().expect("a URL")));
        let supervisor = Supervisor::new(Shutdown::default());
        Log::open(store, limits, Clock::System, &supervisor).await.expect("a log")
    };
    let (log, other) = (open().await, open().await);
    Some(TestEngine { log, other: Some(other), faults: None, _folder: None })
}

fn faulty_engine(limits: RetentionLimits) -> TestEngine {
    let faulty = Faulty::new(0, limits, true);
    let log = Log::Faulty(faulty.clone());
    TestEngine { other: Some(log.clone()), log, faults: Some(faulty), _folder: None }
}

/// Runs a test on each engine.
async fn every_engine<F: Future<Output = ()>>(test: impl Fn(TestEngine) -> F) {
    every_engine_with(LIMITS, test).await;
}

async fn every_engine_with<F: Future<Output = ()>>(
    limits: RetentionLimits,
    test: impl Fn(TestEngine) -> F,
) {
    for open in ENGINES {
        let Some(engine) = open(limits).await else { continue };
        let (log, other) = (engine.log.clone(), engine.other.clone());
        test(engine).await;
        log.close().await;
        if let Some(other) = other {
            other.close().await;
        }
    }
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a name")
}

fn data(text: &str) -> MessageText {
    MessageText::new(text.as_bytes().to_vec(), usize::MAX).expect("data")
}

impl TestEngine {
    async fn append(&self, stream: &str, texts: &[&str]) -> Result<Appended, AppendError> {
        self.append_with(stream, texts, None).await
    }

    async fn append_with(
        &self,
        stream: &str,
        texts: &[&str],
        key: Option<&str>,
    ) -> Result<Appended, AppendError> {
        let batch = texts.iter().map(|text| data(text)).collect();
        let key = key.map(|key| IdempotencyKey(key.to_owned()));
        self.log.append_all(name(stream), batch, key).await.map_err(|failed| failed.error)
    }

    async fn read(&self, range: Range, bound: Bound) -> Result<MessagePage, ReadError> {
        self.log.read(&name("news"), range, bound).await
    }

    async fn all(&self, stream: &str) -> Vec<Message> {
        let page = self.log.read(&name(stream), Range::After(ReadCursor::Earliest), ALL).await;
        page.expect("a page").messages
    }

    async fn follow(&self, stream: &str) -> Follow {
        self.log.follow(&name(stream)).await.expect("a follow")
    }
}

/// Closes the log, and returns the messages and the end that a follow delivered. Panics where a change
/// does not follow the one before it.
async fn followed_messages(log: &Log, mut follow: Follow) -> Vec<Message> {
    log.close().await;
    let (mut position, mut received) = (follow.start, Vec::new());
    while let Some(changes) = follow.next().await {
        for change in changes {
            let (generation, after, messages) = match change {
                Change::Appended { generation, after, messages } => (generation, after, messages),
                Change::Ended { generation, after, end } => (generation, after, vec![end]),
                Change::Deleted { generation } => {
                    assert_eq!(position.generation, Some(generation));
                    position = Position::NO_STREAM;
                    received.clear();
                    continue;
                }
            };
            assert!(position.generation.is_none_or(|current| current == generation));
            assert_eq!(after, position.seq);
            let last = messages.last().expect("a message").id.seq;
            position = Position { generation: Some(generation), seq: last };
            received.extend(messages);
        }
    }
    received
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.data.as_str()).collect()
}

#[tokio::test]
async fn appended_messages_are_read_in_order() {
    every_engine(|engine| async move {
        let follow = engine.follow("news").await;
        let first = engine.append("news", &["a"]).await.expect("appended");
        let second = engine.append("news", &["b", "c", "d"]).await.expect("appended");
        engine.append("other", &["x"]).await.expect("appended");
        let all = engine.all("news").await;
        assert_eq!(texts(&all), ["a", "b", "c", "d"]);
        assert_eq!((all[0].id, all[3].id), (first.last, second.last));
        assert!(!first.replayed && !second.replayed);
        for pair in all.windows(2) {
            assert!(pair[0].id.seq < pair[1].id.seq && pair[0].id.millis <= pair[1].id.millis);
        }
        assert_eq!(texts(&engine.all("other").await), ["x"]);
        assert_eq!(followed_messages(&engine.log, follow).await, all);
    })
    .await;
}

/// Concurrent publishers do not interleave their batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_batches_are_contiguous_and_in_order() {
    every_engine(|engine| async move {
        let follow = engine.follow("news").await;
        let publish = |publisher: usize| {
            let log = engine.log.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for batch in 0..50 {
                    let texts = (0..3).map(|part| data(&format!("{publisher}/{batch}/{part}")));
                    let appended = log.append_all(name("news"), texts.collect(), None).await;
                    let appended = appended.expect("appended");
                    assert!(appended.last.seq > last);
                    last = appended.last.seq;
                }
            })
        };
        for publisher in (0..8).map(publish).collect::<Vec<_>>() {
            publisher.await.expect("no panic");
        }
        let all = engine.all("news").await;
        assert_eq!(all.len(), 8 * 50 * 3);
        for batch in all.chunks(3) {
            let (prefix, _) = batch[0].data.rsplit_once('/').expect("a part");
            let expected = [0, 1, 2].map(|part| format!("{prefix}/{part}"));
            assert_eq!(texts(batch), expected);
        }
        for publisher in 0..8 {
            let own =
                all.iter().filter(|message| message.data.starts_with(&format!("{publisher}/")));
            let expected = (0..50).flat_map(|batch| (0..3).map(move |part| (batch, part)));
            let expected = expected.map(|(batch, part)| format!("{publisher}/{batch}/{part}"));
            assert!(own.map(|message| message.data.clone()).eq(expected));
        }
        assert_eq!(followed_messages(&engine.log, follow).await, all);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_covers_one_batch() {
    every_engine(|engine| async move {
        let follow = engine.follow("news").await;
        let first = engine.append_with("news", &["a", "b"], Some("k")).await.expect("appended");
        let again = engine.append_with("news", &["a", "b"], Some("k")).await.expect("replayed");
        assert_eq!(again, Appended { replayed: true, ..first });
        for other in [&["ab"][..], &["a", "b", "c"], &["a"], &["b", "a"], &["a", "b "]] {
            let refused = engine.append_with("news", other, Some("k")).await;
            assert_eq!(refused, Err(AppendError::KeyReused), "{other:?}");
        }
        let other_stream = engine.append_with("other", &["c"], Some("k")).await.expect("appended");
        assert!(!other_stream.replayed);
        engine.log.end(name("news"), data("bye")).await.expect("ended");
        let late = engine.append_with("news", &["a", "b"], Some("k")).await.expect("replayed");
        assert_eq!(late, again, "a replay works after the end");
        let new = engine.append_with("news", &["a", "b"], Some("l")).await;
        assert_eq!(new, Err(AppendError::Ended));
        assert_eq!(texts(&engine.all("news").await), ["a", "b"]);
        let followed = followed_messages(&engine.log, follow).await;
        assert_eq!(texts(&followed), ["a", "b", "bye"], "nothing is delivered twice");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_appended_after_the_end() {
    every_engine(|engine| async move {
        let follow = engine.follow("news").await;
        let end = engine.log.end(name("news"), data("bye")).await;
        assert_eq!(end, Err(AppendError::NoStream), "a missing stream cannot end");
        let last = engine.append("news", &["a"]).await.expect("appended").last;
        let end = engine.log.end(name("news"), data("bye")).await.expect("ended");
        assert!(end.seq > last.seq && end.millis >= last.millis);
        assert_eq!(engine.append("news", &["b"]).await, Err(AppendError::Ended));
        assert_eq!(engine.log.end(name("news"), data("again")).await, Err(AppendError::Ended));
        let page = engine.read(Range::After(ReadCursor::Id(last)), ALL).await.expect("a page");
        let closing = Some(Message { id: end, data: "bye".to_owned() });
        assert_eq!((texts(&page.messages), &page.end), (vec![], &closing));
        assert_eq!((page.head, page.more), (end, false));
        let after = engine.read(Range::After(ReadCursor::Id(end)), ALL).await.expect("a page");
        assert_eq!((texts(&after.messages), after.end), (vec![], closing));
        assert_eq!(texts(&followed_messages(&engine.log, follow).await), ["a", "bye"]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_stream_is_gone_and_can_be_created_again() {
    every_engine(|engine| async move {
        let follow = engine.follow("news").await;
        assert_eq!(engine.log.delete(name("news")).await, Err(AppendError::NoStream));
        let old = engine.append_with("news", &["a", "b"], Some("k")).await.expect("appended").last;
        let page = engine.read(Range::After(ReadCursor::Earliest), ALL).await.expect("a page");
        engine.log.delete(name("news")).await.expect("deleted");
        for cursor in [ReadCursor::Earliest, ReadCursor::Latest, ReadCursor::Id(old)] {
            assert_eq!(engine.read(Range::After(cursor), ALL).await, Err(ReadError::NoStream));
        }
        let new = engine.append_with("news", &["c", "d"], Some("k")).await.expect("appended");
        assert!(!new.replayed && new.last.seq > old.seq, "{new:?} after {old:?}");
        for cursor in [ReadCursor::Id(old), ReadCursor::Position(page.position)] {
            assert_eq!(engine.read(Range::After(cursor), ALL).await, Err(ReadError::UnknownCursor));
            assert_eq!(
                engine.read(Range::Before(cursor), ALL).await,
                Err(ReadError::UnknownCursor)
            );
        }
        assert_eq!(texts(&engine.all("news").await), ["c", "d"]);
        let streams = engine.log.streams(10).await.expect("streams");
        assert_eq!(streams.len(), 1);
        assert_eq!(texts(&followed_messages(&engine.log, follow).await), ["c", "d"]);
    })
    .await;
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps_in_both_directions() {
    every_engine(|engine| async move {
        let texts_of_all_lengths: Vec<_> = (0..40).map(|n| format!("{n:>0$}", n + 2)).collect();
        let texts_of_all_lengths: Vec<_> =
            texts_of_all_lengths.iter().map(String::as_str).collect();
        engine.append("news", &texts_of_all_lengths).await.expect("appended");
        let all = engine.all("news").await;
        for bound in [(1, usize::MAX), (7, usize::MAX), (40, 1), (1000, 100), (3, 60)] {
            let bound = Bound { messages: bound.0, bytes: bound.1 };
            let (mut forward, mut cursor) = (Vec::new(), ReadCursor::Earliest);
            loop {
                let page = engine.read(Range::After(cursor), bound).await.expect("a page");
                let bytes: usize =
                    page.messages.iter().skip(1).map(|message| message.data.len()).sum();
                assert!(page.messages.len() <= bound.messages, "{bound:?}");
                assert!(bytes <= bound.bytes.saturating_add(50), "{bound:?}");
                forward.extend(page.messages);
                // Both cursors continue after the page: the id of its last message, and its position.
                let last = forward.last().expect("a message");
                assert_eq!(page.position.seq, last.id.seq);
                cursor = match forward.len() % 2 {
                    0 => ReadCursor::Id(last.id),
                    _ => ReadCursor::Position(page.position),
                };
                if !page.more {
                    break;
                }
            }
            assert_eq!(forward, all, "{bound:?}");
            let (mut backward, mut cursor) = (Vec::new(), ReadCursor::Latest);
            loop {
                let mut page = engine.read(Range::Before(cursor), bound).await.expect("a page");
                cursor = ReadCursor::Id(page.messages[0].id);
                page.messages.append(&mut backward);
                backward = page.messages;
                if !page.more {
                    break;
                }
            }
            assert_eq!(backward, all, "{bound:?}");
        }
        let nothing = engine.read(Range::Before(ReadCursor::Earliest), ALL).await.expect("a page");
        assert_eq!((texts(&nothing.messages), nothing.more), (vec![], false));
        let nothing = engine.read(Range::After(ReadCursor::Latest), ALL).await.expect("a page");
        assert_eq!((texts(&nothing.messages), nothing.head), (vec![], all[all.len() - 1].id));
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_not_assigned_is_an_unknown_cursor() {
    every_engine(|engine| async move {
        let last = engine.append("news", &["a", "b", "c"]).await.expect("appended").last;
        for (millis, seq) in [(1, 0), (0, 1), (0, 0), (u64::MAX, 0), (0, u64::MAX)] {
            let id = EventId {
                millis: last.millis.wrapping_add(millis),
                seq: last.seq.wrapping_add(seq),
            };
            let found = engine.read(Range::After(ReadCursor::Id(id)), ALL).await;
            let is_assigned = engine.all("news").await.iter().any(|message| message.id == id);
            assert_eq!(found.is_ok(), is_assigned, "{id}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_number_of_streams_is_limited() {
    every_engine(|engine| async move {
        for n in 0..LIMITS.streams {
            engine.append(&format!("stream-{n}"), &["a"]).await.expect("appended");
        }
        assert_eq!(engine.append("one-more", &["a"]).await, Err(AppendError::TooManyStreams));
        engine.append("stream-7", &["b"]).await.expect("appended");
        let listed = engine.log.streams(5).await.expect("streams");
        assert_eq!(listed.len(), 5);
        let seventh = engine.log.streams(1000).await.expect("streams");
        assert_eq!(seventh.len() as u64, LIMITS.streams);
        let seventh = seventh.into_iter().find(|stream| stream.name.as_str() == "stream-7");
        let seventh = seventh.expect("it is listed");
        assert_eq!((seventh.messages, seventh.ended), (2, false));
        assert_eq!(seventh.last.expect("a message").data, "b");
    })
    .await;
}

#[tokio::test]
async fn a_closed_log_stores_nothing() {
    every_engine(|engine| async move {
        engine.append("news", &["a"]).await.expect("appended");
        engine.log.close().await;
        let late = engine.append("news", &["b"]).await;
        assert!(matches!(late, Err(AppendError::Unavailable(_))), "{late:?}");
    })
    .await;
}
