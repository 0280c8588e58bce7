//! The contract of the log, as tests that every engine has to pass.
//!
//! An engine comes in with a line in [`ENGINES`].

mod faults;
mod follow;

use std::future::Future;

use futures::future::BoxFuture;
use tempfile::TempDir;

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

/// How each engine is opened.
const ENGINES: [fn(RetentionLimits) -> BoxFuture<'static, Trial>; 3] = [
    |limits| Box::pin(sqlite(false, limits)),
    |limits| Box::pin(sqlite(true, limits)),
    |limits| Box::pin(std::future::ready(model(limits))),
];

/// A log that is tried.
struct Trial {
    log: Log,
    /// The same store as another server has it, where the engine allows more than one.
    other: Option<Log>,
    /// What makes things go wrong, where they can be made to.
    faults: Option<Faulty>,
    _folder: Option<TempDir>,
}

async fn sqlite(in_file: bool, limits: RetentionLimits) -> Trial {
    let folder = TempDir::new().expect("a folder");
    let store = if in_file { Store::File(folder.path().join("log.db")) } else { Store::Memory };
    let clock = Clock::Following { millis: NOW, origin: tokio::time::Instant::now() };
    // What it finds is of no interest here.
    let supervisor = Supervisor::new(Shutdown::default());
    let log = Log::open(store, limits, clock, &supervisor).await.expect("a log");
    Trial { log, other: None, faults: None, _folder: Some(folder) }
}

fn model(limits: RetentionLimits) -> Trial {
    let engine = Faulty::new(0, limits, true);
    let log = Log::Faulty(engine.clone());
    Trial { other: Some(log.clone()), log, faults: Some(engine), _folder: None }
}

/// Runs a test on each engine.
async fn every_engine<F: Future<Output = ()>>(test: impl Fn(Trial) -> F) {
    every_engine_with(LIMITS, test).await;
}

async fn every_engine_with<F: Future<Output = ()>>(
    limits: RetentionLimits,
    test: impl Fn(Trial) -> F,
) {
    for open in ENGINES {
        let trial = open(limits).await;
        let log = trial.log.clone();
        test(trial).await;
        log.close().await;
    }
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a name")
}

fn data(text: &str) -> MessageText {
    MessageText::new(text.as_bytes().to_vec(), usize::MAX).expect("data")
}

impl Trial {
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
        let page = self.log.read(&name(stream), Range::After(Place::Earliest), ALL).await;
        page.expect("a page").messages
    }

    async fn follow(&self, stream: &str) -> Follow {
        self.log.follow(&name(stream)).await.expect("a follow")
    }
}

/// What a follow told, once the log is closed: the messages and the end, each change checked to join
/// the one before it.
async fn told(log: &Log, mut follow: Follow) -> Vec<Message> {
    log.close().await;
    let (mut position, mut seen) = (follow.start, Vec::new());
    while let Some(changes) = follow.next().await {
        for change in changes {
            let (of, comes_after, messages) = match change {
                Change::Appended { generation, after, messages } => (generation, after, messages),
                Change::Ended { generation, after, end } => (generation, after, vec![end]),
                Change::Deleted { generation } => {
                    assert_eq!(position.generation, Some(generation));
                    position = Position::NOWHERE;
                    seen.clear();
                    continue;
                }
            };
            assert!(position.generation.is_none_or(|generation| generation == of));
            assert_eq!(comes_after, position.seq);
            let last = messages.last().expect("a message").id.seq;
            position = Position { generation: Some(of), seq: last };
            seen.extend(messages);
        }
    }
    seen
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.data.as_str()).collect()
}

#[tokio::test]
async fn what_is_appended_is_there_in_order() {
    every_engine(|trial| async move {
        let follow = trial.follow("news").await;
        let first = trial.append("news", &["a"]).await.expect("appended");
        let second = trial.append("news", &["b", "c", "d"]).await.expect("appended");
        trial.append("other", &["x"]).await.expect("appended");
        let all = trial.all("news").await;
        assert_eq!(texts(&all), ["a", "b", "c", "d"]);
        assert_eq!((all[0].id, all[3].id), (first.last, second.last));
        assert!(!first.replayed && !second.replayed);
        for pair in all.windows(2) {
            assert!(pair[0].id.seq < pair[1].id.seq && pair[0].id.millis <= pair[1].id.millis);
        }
        assert_eq!(texts(&trial.all("other").await), ["x"]);
        assert_eq!(told(&trial.log, follow).await, all);
    })
    .await;
}

/// Whoever publishes at the same moment does not come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_many_publishers_are_whole_and_each_in_its_order() {
    every_engine(|trial| async move {
        let follow = trial.follow("news").await;
        let publish = |publisher: usize| {
            let log = trial.log.clone();
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
        let all = trial.all("news").await;
        assert_eq!(all.len(), 8 * 50 * 3);
        for batch in all.chunks(3) {
            let (of, _) = batch[0].data.rsplit_once('/').expect("a part");
            let expected = [0, 1, 2].map(|part| format!("{of}/{part}"));
            assert_eq!(texts(batch), expected);
        }
        for publisher in 0..8 {
            let own = all.iter().filter(|one| one.data.starts_with(&format!("{publisher}/")));
            let expected = (0..50).flat_map(|batch| (0..3).map(move |part| (batch, part)));
            let expected = expected.map(|(batch, part)| format!("{publisher}/{batch}/{part}"));
            assert!(own.map(|message| message.data.clone()).eq(expected));
        }
        assert_eq!(told(&trial.log, follow).await, all);
    })
    .await;
}

#[tokio::test]
async fn a_key_stands_for_one_batch() {
    every_engine(|trial| async move {
        let follow = trial.follow("news").await;
        let first = trial.append_with("news", &["a", "b"], Some("k")).await.expect("appended");
        let again = trial.append_with("news", &["a", "b"], Some("k")).await.expect("replayed");
        assert_eq!(again, Appended { replayed: true, ..first });
        for other in [&["ab"][..], &["a", "b", "c"], &["a"], &["b", "a"], &["a", "b "]] {
            let refused = trial.append_with("news", other, Some("k")).await;
            assert_eq!(refused, Err(AppendError::KeyReused), "{other:?}");
        }
        let elsewhere = trial.append_with("other", &["c"], Some("k")).await.expect("appended");
        assert!(!elsewhere.replayed);
        trial.log.end(name("news"), data("bye")).await.expect("ended");
        let late = trial.append_with("news", &["a", "b"], Some("k")).await.expect("replayed");
        assert_eq!(late, again, "what is done is done");
        let new = trial.append_with("news", &["a", "b"], Some("l")).await;
        assert_eq!(new, Err(AppendError::Ended));
        assert_eq!(texts(&trial.all("news").await), ["a", "b"]);
        let told = told(&trial.log, follow).await;
        assert_eq!(texts(&told), ["a", "b", "bye"], "nothing is told twice");
    })
    .await;
}

#[tokio::test]
async fn an_end_is_the_last_thing() {
    every_engine(|trial| async move {
        let follow = trial.follow("news").await;
        let end = trial.log.end(name("news"), data("bye")).await;
        assert_eq!(end, Err(AppendError::NoStream), "what is not there cannot end");
        let last = trial.append("news", &["a"]).await.expect("appended").last;
        let end = trial.log.end(name("news"), data("bye")).await.expect("ended");
        assert!(end.seq > last.seq && end.millis >= last.millis);
        assert_eq!(trial.append("news", &["b"]).await, Err(AppendError::Ended));
        assert_eq!(trial.log.end(name("news"), data("again")).await, Err(AppendError::Ended));
        let page = trial.read(Range::After(Place::Id(last)), ALL).await.expect("a page");
        let closing = Some(Message { id: end, data: "bye".to_owned() });
        assert_eq!((texts(&page.messages), &page.end), (vec![], &closing));
        assert_eq!((page.head, page.more), (end, false));
        let after = trial.read(Range::After(Place::Id(end)), ALL).await.expect("a page");
        assert_eq!((texts(&after.messages), after.end), (vec![], closing));
        assert_eq!(texts(&told(&trial.log, follow).await), ["a", "bye"]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_stream_is_gone_and_begins_anew() {
    every_engine(|trial| async move {
        let follow = trial.follow("news").await;
        assert_eq!(trial.log.delete(name("news")).await, Err(AppendError::NoStream));
        let old = trial.append_with("news", &["a", "b"], Some("k")).await.expect("appended").last;
        let page = trial.read(Range::After(Place::Earliest), ALL).await.expect("a page");
        trial.log.delete(name("news")).await.expect("deleted");
        for place in [Place::Earliest, Place::Latest, Place::Id(old)] {
            assert_eq!(trial.read(Range::After(place), ALL).await, Err(ReadError::NoStream));
        }
        let new = trial.append_with("news", &["c", "d"], Some("k")).await.expect("appended");
        assert!(!new.replayed && new.last.seq > old.seq, "{new:?} after {old:?}");
        for place in [Place::Id(old), Place::Position(page.position)] {
            assert_eq!(trial.read(Range::After(place), ALL).await, Err(ReadError::UnknownPlace));
            assert_eq!(trial.read(Range::Before(place), ALL).await, Err(ReadError::UnknownPlace));
        }
        assert_eq!(texts(&trial.all("news").await), ["c", "d"]);
        let streams = trial.log.streams(10).await.expect("streams");
        assert_eq!(streams.len(), 1);
        assert_eq!(texts(&told(&trial.log, follow).await), ["c", "d"]);
    })
    .await;
}

#[tokio::test]
async fn pages_join_without_gap_in_both_directions() {
    every_engine(|trial| async move {
        let longs: Vec<_> = (0..40).map(|n| format!("{n:>0$}", n + 2)).collect();
        let longs: Vec<_> = longs.iter().map(String::as_str).collect();
        trial.append("news", &longs).await.expect("appended");
        let all = trial.all("news").await;
        for bound in [(1, usize::MAX), (7, usize::MAX), (40, 1), (1000, 100), (3, 60)] {
            let bound = Bound { messages: bound.0, bytes: bound.1 };
            let (mut forth, mut place) = (Vec::new(), Place::Earliest);
            loop {
                let page = trial.read(Range::After(place), bound).await.expect("a page");
                let bytes: usize = page.messages.iter().skip(1).map(|one| one.data.len()).sum();
                assert!(page.messages.len() <= bound.messages, "{bound:?}");
                assert!(bytes <= bound.bytes.saturating_add(50), "{bound:?}");
                forth.extend(page.messages);
                // By id, and by what the page says of itself: both go on there.
                let last = forth.last().expect("a message");
                assert_eq!(page.position.seq, last.id.seq);
                place = match forth.len() % 2 {
                    0 => Place::Id(last.id),
                    _ => Place::Position(page.position),
                };
                if !page.more {
                    break;
                }
            }
            assert_eq!(forth, all, "{bound:?}");
            let (mut back, mut place) = (Vec::new(), Place::Latest);
            loop {
                let mut page = trial.read(Range::Before(place), bound).await.expect("a page");
                place = Place::Id(page.messages[0].id);
                page.messages.append(&mut back);
                back = page.messages;
                if !page.more {
                    break;
                }
            }
            assert_eq!(back, all, "{bound:?}");
        }
        let nothing = trial.read(Range::Before(Place::Earliest), ALL).await.expect("a page");
        assert_eq!((texts(&nothing.messages), nothing.more), (vec![], false));
        let nothing = trial.read(Range::After(Place::Latest), ALL).await.expect("a page");
        assert_eq!((texts(&nothing.messages), nothing.head), (vec![], all[all.len() - 1].id));
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_not_given_is_no_place() {
    every_engine(|trial| async move {
        let last = trial.append("news", &["a", "b", "c"]).await.expect("appended").last;
        for (millis, seq) in [(1, 0), (0, 1), (0, 0), (u64::MAX, 0), (0, u64::MAX)] {
            let id = EventId {
                millis: last.millis.wrapping_add(millis),
                seq: last.seq.wrapping_add(seq),
            };
            let found = trial.read(Range::After(Place::Id(id)), ALL).await;
            let given = trial.all("news").await.iter().any(|message| message.id == id);
            assert_eq!(found.is_ok(), given, "{id}");
        }
    })
    .await;
}

#[tokio::test]
async fn there_are_as_many_streams_as_there_may_be() {
    every_engine(|trial| async move {
        for n in 0..LIMITS.streams {
            trial.append(&format!("stream-{n}"), &["a"]).await.expect("appended");
        }
        assert_eq!(trial.append("one-more", &["a"]).await, Err(AppendError::TooManyStreams));
        trial.append("stream-7", &["b"]).await.expect("appended");
        let listed = trial.log.streams(5).await.expect("streams");
        assert_eq!(listed.len(), 5);
        let seventh = trial.log.streams(1000).await.expect("streams");
        assert_eq!(seventh.len() as u64, LIMITS.streams);
        let seventh = seventh.into_iter().find(|one| one.name.as_str() == "stream-7");
        let seventh = seventh.expect("it is listed");
        assert_eq!((seventh.messages, seventh.ended), (2, false));
        assert_eq!(seventh.last.expect("a message").data, "b");
    })
    .await;
}

#[tokio::test]
async fn a_log_that_is_closed_stores_nothing() {
    every_engine(|trial| async move {
        trial.append("news", &["a"]).await.expect("appended");
        trial.log.close().await;
        let late = trial.append("news", &["b"]).await;
        assert!(matches!(late, Err(AppendError::Unavailable(_))), "{late:?}");
    })
    .await;
}
