//! Conformance tests of follows: a follow is complete, or it ends.

use super::*;

/// Waits until a new follow starts as expected: at once, or after the changes before it have been
/// delivered to earlier followers.
async fn starts(engine: &TestEngine, expected: impl Fn(Position) -> bool) -> Position {
    for _ in 0..1_000 {
        let start = engine.follow("news").await.start;
        if expected(start) {
            return start;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the follow does not start at the head of the stream");
}

#[tokio::test]
async fn a_follow_starts_at_the_head_of_the_stream() {
    every_engine(|engine| async move {
        starts(&engine, |start| start == Position::NO_STREAM).await;
        let last = engine.append("news", &["a", "b"]).await.expect("appended").last;
        let first = starts(&engine, |start| start.seq == last.seq).await;
        let page = engine.read(Range::After(ReadCursor::Earliest), ALL).await.expect("a page");
        assert_eq!(page.position, first);
        let seq = engine.log.end(name("news"), data("bye")).await.expect("ended").seq;
        starts(&engine, |start| start == Position { seq, ..first }).await;
        engine.log.delete(name("news")).await.expect("deleted");
        starts(&engine, |start| start == Position::NO_STREAM).await;
        engine.append("news", &["c"]).await.expect("appended");
        let is_new = |start: Position| start.generation != first.generation;
        starts(&engine, |start| start.generation.is_some() && is_new(start)).await;
    })
    .await;
}

/// A read up to the start and the changes after it have every message once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_follows_have_no_gap_and_no_overlap() {
    every_engine(|engine| async move {
        let log = engine.log.clone();
        let publisher = tokio::spawn(async move {
            for n in 0..300 {
                log.append(name("news"), data(&n.to_string()), None).await.expect("appended");
            }
        });
        let mut follows = Vec::new();
        for _ in 0..20 {
            follows.push(engine.follow("news").await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        publisher.await.expect("no panic");
        let all = engine.all("news").await;
        engine.log.close().await;
        for mut follow in follows {
            let mut received: Vec<_> =
                all.iter().filter(|message| message.id.seq <= follow.start.seq).cloned().collect();
            while let Some(changes) = follow.next().await {
                for change in changes {
                    let Change::Appended { after, messages, .. } = change else {
                        panic!("{change:?}")
                    };
                    // Messages that were stored while the follow began may be in both.
                    if messages.iter().all(|message| message.id.seq <= follow.start.seq) {
                        continue;
                    }
                    assert_eq!(after, received.last().map_or(0, |last| last.id.seq));
                    received.extend(messages);
                }
            }
            assert_eq!(received, all);
        }
    })
    .await;
}

/// Store, then acknowledge, then fan out: delivered changes are in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_stored_changes_are_delivered() {
    every_engine(|engine| async move {
        let mut follow = engine.follow("news").await;
        for n in 0..100 {
            let append = engine.log.append(name("news"), data(&n.to_string()), None);
            let (appended, received) = tokio::join!(append, async {
                let changes = follow.next().await.expect("changes");
                let [Change::Appended { messages, .. }] = &changes[..] else {
                    panic!("{changes:?}")
                };
                let range = Range::After(ReadCursor::Id(messages[0].id));
                engine.read(range, ALL).await.expect("it is stored");
                messages[0].id
            });
            assert_eq!(appended.expect("appended").last, received);
        }
    })
    .await;
}

/// The memory of a follower that receives nothing is bounded: its follow ends. Other follows continue.
#[tokio::test]
async fn a_follow_that_is_too_slow_ends_and_skips_nothing() {
    every_engine(|engine| async move {
        let mut slow = engine.follow("news").await;
        let mut fast = engine.follow("news").await;
        let text = "x".repeat(1024 * 1024);
        let mut received_changes = 0;
        for _ in 0..8 {
            engine.append("news", &[&text]).await.expect("appended");
            received_changes += fast.next().await.expect("changes").len();
        }
        assert_eq!(received_changes, 8);
        let mut last = slow.start.seq;
        while let Some(changes) = slow.next().await {
            for change in changes {
                let Change::Appended { after, messages, .. } = change else { panic!("an append") };
                assert_eq!(after, last);
                last = messages.last().expect("a message").id.seq;
            }
        }
        let head = engine.follow("news").await.start.seq;
        assert!(slow.start.seq < last && last < head, "{last} of {head}");
        engine.append("news", &["after"]).await.expect("appended");
        assert_eq!(fast.next().await.expect("changes")[0].head(), head + 1);
    })
    .await;
}

/// A reader that waited for the stream to begin has missed the messages that were trimmed since.
#[tokio::test]
async fn a_position_before_the_trimmed_messages_is_an_error() {
    every_engine_with(RetentionLimits { messages: 3, ..LIMITS }, |engine| async move {
        engine.append("news", &["a", "b"]).await.expect("appended");
        let early =
            engine.read(Range::After(ReadCursor::Earliest), ALL).await.expect("a page").position;
        for cursor in [Position::NO_STREAM, Position { seq: 1, ..early }, early] {
            engine
                .read(Range::After(ReadCursor::Position(cursor)), ALL)
                .await
                .expect("nothing is missing");
        }
        engine.append("news", &["c", "d", "e", "f"]).await.expect("appended");
        for (cursor, found) in [
            (Position::NO_STREAM, Err(ReadError::Trimmed)),
            (Position { seq: early.seq - 1, ..early }, Err(ReadError::Trimmed)),
            (Position { seq: early.seq + 1, ..early }, Ok(3)),
        ] {
            let page = engine.read(Range::After(ReadCursor::Position(cursor)), ALL).await;
            assert_eq!(page.map(|page| page.messages.len()), found, "{cursor:?}");
        }
    })
    .await;
}

/// Servers on the same store have one log, where the engine supports several.
#[tokio::test]
async fn two_servers_share_one_log() {
    every_engine(|engine| async move {
        let Some(other) = &engine.other else { return };
        let mut follow = other.follow(&name("news")).await.expect("a follow");
        let first = engine.append_with("news", &["a"], Some("k")).await.expect("appended");
        let again = other.append(name("news"), data("a"), Some(IdempotencyKey("k".to_owned())));
        assert_eq!(again.await.expect("replayed"), Appended { replayed: true, ..first });
        let second = other.append(name("news"), data("b"), None).await.expect("appended");
        assert!(second.last.seq > first.last.seq);
        let page = other.read(&name("news"), Range::After(ReadCursor::Id(first.last)), ALL).await;
        let page = page.expect("a cursor is valid at both servers");
        assert_eq!(texts(&page.messages), ["b"]);
        let same = engine.read(Range::After(ReadCursor::Position(page.position)), ALL).await;
        assert_eq!(same.expect("so is a position").position, page.position);
        // The two may come as one change.
        let mut received = Vec::new();
        while received.len() < 2 {
            for change in follow.next().await.expect("changes") {
                let Change::Appended { messages, .. } = change else { panic!("{change:?}") };
                received.extend(messages.iter().map(|message| message.id.seq));
            }
        }
        assert_eq!(received, [first.last.seq, second.last.seq]);
        other.delete(name("news")).await.expect("deleted");
        engine.append("news", &["c"]).await.expect("a new generation");
        let unknown = engine.read(Range::After(ReadCursor::Position(page.position)), ALL).await;
        assert_eq!(unknown, Err(ReadError::UnknownCursor));
    })
    .await;
}
