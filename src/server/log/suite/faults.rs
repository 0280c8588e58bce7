//! Conformance tests with fault injection, which only the model supports.

use super::*;
use crate::server::log::faulty::Faults;

async fn faulty_engine_only<F: Future<Output = ()>>(test: impl Fn(TestEngine) -> F) {
    let engine = faulty_engine(LIMITS);
    let log = engine.log.clone();
    test(engine).await;
    log.close().await;
}

/// Changes that a follow did not deliver are read from the log, from where the follow ended.
#[tokio::test]
async fn a_follow_that_breaks_is_resumed_without_a_gap() {
    faulty_engine_only(|engine| async move {
        let faults = engine.faults.as_ref().expect("faults");
        let mut follow = engine.follow("news").await;
        engine.append("news", &["a", "b"]).await.expect("appended");
        let first = follow.next().await.expect("changes");
        engine.append("news", &["c"]).await.expect("appended");
        faults.break_follows();
        engine.append("news", &["d"]).await.expect("appended");
        let mut received: Vec<u64> = first.iter().map(Change::head).collect();
        while let Some(changes) = follow.next().await {
            received.extend(changes.iter().map(Change::head));
        }
        assert!(received.is_sorted() && received.len() < 3, "{received:?}");
        let mut next = engine.follow("news").await;
        let position = Position { seq: received[received.len() - 1], ..next.start };
        let page =
            engine.read(Range::After(ReadCursor::Position(position)), ALL).await.expect("a page");
        assert_eq!(page.position, next.start, "the log has the messages between the follows");
        let last = engine.append("news", &["e"]).await.expect("appended").last;
        let changes = next.next().await.expect("changes");
        let after = next.start.seq;
        assert!(matches!(changes[..], [Change::Appended { after: seq, .. }] if seq == after));
        assert_eq!(changes[0].head(), last.seq);
    })
    .await;
}

/// The append may have been stored; with a key it is stored exactly once.
#[tokio::test(start_paused = true)]
async fn an_append_whose_reply_is_lost_can_be_retried_with_its_key() {
    faulty_engine_only(|engine| async move {
        let faults = engine.faults.as_ref().expect("faults");
        for n in 0..50 {
            let (text, key) = (format!("{n}"), format!("key-{n}"));
            faults.set_faults(Faults { lost_replies: 100, ..Faults::default() });
            let lost = engine.append_with("news", &[&text, "and"], Some(&key)).await;
            assert!(matches!(lost, Err(AppendError::Unknown(_))), "{lost:?}");
            faults.set_faults(Faults::default());
            let known =
                engine.append_with("news", &[&text, "and"], Some(&key)).await.expect("known");
            let again =
                engine.append_with("news", &[&text, "and"], Some(&key)).await.expect("known");
            assert_eq!(again, Appended { replayed: true, ..known });
        }
        // A delayed append may still be applied: nothing is stored twice.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let all = engine.all("news").await;
        let expected: Vec<_> = (0..50).flat_map(|n| [n.to_string(), "and".to_owned()]).collect();
        assert_eq!(texts(&all), expected);
    })
    .await;
}

/// A refused append stores nothing; a partial one stores a prefix.
#[tokio::test]
async fn a_partially_stored_batch_is_a_prefix() {
    faulty_engine_only(|engine| async move {
        let faults = engine.faults.as_ref().expect("faults");
        faults.set_faults(Faults { partial_batches: 100, ..Faults::default() });
        let batch = ["a", "b", "c", "d"].map(data).to_vec();
        let partial = engine.log.append_all(name("news"), batch.clone(), None).await;
        let partial = partial.expect_err("not all of it");
        let all = engine.all("news").await;
        assert_eq!(texts(&all), ["a", "b", "c", "d"][..partial.stored]);
        assert_eq!(all.last().map(|last| last.id), partial.last);
        let key = Some(IdempotencyKey("k".to_owned()));
        let keyed = engine.log.append_all(name("news"), batch, key).await;
        assert_eq!(keyed.map(|_| ()), Ok(()), "with a key it is whole");
        faults.set_faults(Faults { refused: 100, ..Faults::default() });
        assert!(matches!(engine.append("news", &["e"]).await, Err(AppendError::Unavailable(_))));
        assert_eq!(engine.all("news").await.len(), partial.stored + 4);
    })
    .await;
}

/// A stale page may end early; a stale read returns no other error.
#[tokio::test(start_paused = true)]
async fn a_stale_read_returns_behind_where_it_is_not_certain() {
    faulty_engine_only(|engine| async move {
        let faults = engine.faults.as_ref().expect("faults");
        let early = engine.append("news", &["a"]).await.expect("appended").last;
        tokio::time::advance(Duration::from_millis(10)).await;
        faults.freeze_reads(true);
        tokio::time::advance(Duration::from_millis(10)).await;
        let late = engine.append("news", &["b"]).await.expect("appended").last;
        engine.append("fresh", &["x"]).await.expect("appended");
        let start = engine.follow("news").await.start;
        assert_eq!(start.seq, late.seq, "the start of a follow is exact");
        let page = engine.read(Range::After(ReadCursor::Id(early)), ALL).await.expect("a page");
        assert_eq!((page.messages.len(), page.position.seq), (0, early.seq));
        let page =
            engine.read(Range::After(ReadCursor::Position(start)), ALL).await.expect("a page");
        assert_eq!(page.position, start, "a position never moves back");
        assert_eq!(
            engine.read(Range::After(ReadCursor::Id(late)), ALL).await,
            Err(ReadError::Behind)
        );
        let fresh = engine.log.read(&name("fresh"), Range::After(ReadCursor::Earliest), ALL).await;
        assert_eq!(fresh, Err(ReadError::Behind));
        faults.freeze_reads(false);
        let page = engine.read(Range::After(ReadCursor::Id(early)), ALL).await.expect("a page");
        assert_eq!(page.position, start);
    })
    .await;
}
