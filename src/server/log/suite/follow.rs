//! Following: complete, or it ends.

use super::*;

/// A new follow starts here: at once, or as soon as what was acknowledged has been told to earlier
/// followers.
async fn starts(trial: &Trial, expected: impl Fn(Position) -> bool) -> Position {
    for _ in 0..1_000 {
        let start = trial.follow("news").await.start;
        if expected(start) {
            return start;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not start where the stream is");
}

#[tokio::test]
async fn a_follow_starts_where_the_stream_is() {
    every_engine(|trial| async move {
        starts(&trial, |start| start == Position::NOWHERE).await;
        let last = trial.append("news", &["a", "b"]).await.expect("appended").last;
        let first = starts(&trial, |start| start.seq == last.seq).await;
        let page = trial.read(Range::After(Place::Earliest), ALL).await.expect("a page");
        assert_eq!(page.position, first);
        let seq = trial.log.end(name("news"), data("bye")).await.expect("ended").seq;
        starts(&trial, |start| start == Position { seq, ..first }).await;
        trial.log.delete(name("news")).await.expect("deleted");
        starts(&trial, |start| start == Position::NOWHERE).await;
        trial.append("news", &["c"]).await.expect("appended");
        let of = |start: Position| start.generation;
        starts(&trial, |start| of(start).is_some() && of(start) != of(first)).await;
    })
    .await;
}

/// What is read up to the start, and what is told from there on, is everything once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_what_is_told_join() {
    every_engine(|trial| async move {
        let log = trial.log.clone();
        let publisher = tokio::spawn(async move {
            for n in 0..300 {
                log.append(name("news"), data(&n.to_string()), None).await.expect("appended");
            }
        });
        let mut follows = Vec::new();
        for _ in 0..20 {
            follows.push(trial.follow("news").await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        publisher.await.expect("no panic");
        let all = trial.all("news").await;
        trial.log.close().await;
        for mut follow in follows {
            let mut seen: Vec<_> =
                all.iter().filter(|one| one.id.seq <= follow.start.seq).cloned().collect();
            while let Some(changes) = follow.next().await {
                for change in changes {
                    let Change::Appended { after, messages, .. } = change else {
                        panic!("{change:?}")
                    };
                    // What was stored while the follow began may be in both.
                    if messages.iter().all(|one| one.id.seq <= follow.start.seq) {
                        continue;
                    }
                    assert_eq!(after, seen.last().map_or(0, |last| last.id.seq));
                    seen.extend(messages);
                }
            }
            assert_eq!(seen, all);
        }
    })
    .await;
}

/// Store, then acknowledge, then fan out: what is told is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_that_is_not_stored() {
    every_engine(|trial| async move {
        let mut follow = trial.follow("news").await;
        for n in 0..100 {
            let append = trial.log.append(name("news"), data(&n.to_string()), None);
            let (appended, seen) = tokio::join!(append, async {
                let told = follow.next().await.expect("told");
                let [Change::Appended { messages, .. }] = &told[..] else { panic!("{told:?}") };
                let place = Range::After(Place::Id(messages[0].id));
                trial.read(place, ALL).await.expect("it is stored");
                messages[0].id
            });
            assert_eq!(appended.expect("appended").last, seen);
        }
    })
    .await;
}

/// A follower that does not take what it is told costs a bounded amount of memory: its follow ends. The
/// others go on.
#[tokio::test]
async fn a_follow_that_is_not_taken_ends_and_skips_nothing() {
    every_engine(|trial| async move {
        let mut slow = trial.follow("news").await;
        let mut fast = trial.follow("news").await;
        let text = "x".repeat(1024 * 1024);
        let mut taken = 0;
        for _ in 0..8 {
            trial.append("news", &[&text]).await.expect("appended");
            taken += fast.next().await.expect("told").len();
        }
        assert_eq!(taken, 8);
        let mut last = slow.start.seq;
        while let Some(changes) = slow.next().await {
            for change in changes {
                let Change::Appended { after, messages, .. } = change else { panic!("an append") };
                assert_eq!(after, last);
                last = messages.last().expect("a message").id.seq;
            }
        }
        let head = trial.follow("news").await.start.seq;
        assert!(slow.start.seq < last && last < head, "{last} of {head}");
        trial.append("news", &["after"]).await.expect("appended");
        assert_eq!(fast.next().await.expect("told")[0].head(), head + 1);
    })
    .await;
}

/// A reader that came before the stream did has missed what was trimmed since.
#[tokio::test]
async fn a_place_that_was_trimmed_is_no_place() {
    every_engine_with(RetentionLimits { messages: 3, ..LIMITS }, |trial| async move {
        trial.append("news", &["a", "b"]).await.expect("appended");
        let early = trial.read(Range::After(Place::Earliest), ALL).await.expect("a page").position;
        for place in [Position::NOWHERE, Position { seq: 1, ..early }, early] {
            trial
                .read(Range::After(Place::Position(place)), ALL)
                .await
                .expect("nothing is missing");
        }
        trial.append("news", &["c", "d", "e", "f"]).await.expect("appended");
        for (place, found) in [
            (Position::NOWHERE, Err(ReadError::Trimmed)),
            (Position { seq: early.seq - 1, ..early }, Err(ReadError::Trimmed)),
            (Position { seq: early.seq + 1, ..early }, Ok(3)),
        ] {
            let page = trial.read(Range::After(Place::Position(place)), ALL).await;
            assert_eq!(page.map(|page| page.messages.len()), found, "{place:?}");
        }
    })
    .await;
}

/// Where the engine allows several servers, they have one log.
#[tokio::test]
async fn two_servers_have_one_log() {
    every_engine(|trial| async move {
        let Some(other) = &trial.other else { return };
        let mut follow = other.follow(&name("news")).await.expect("a follow");
        let first = trial.append_with("news", &["a"], Some("k")).await.expect("appended");
        let again = other.append(name("news"), data("a"), Some(IdempotencyKey("k".to_owned())));
        assert_eq!(again.await.expect("replayed"), Appended { replayed: true, ..first });
        let second = other.append(name("news"), data("b"), None).await.expect("appended");
        assert!(second.last.seq > first.last.seq);
        let page = other.read(&name("news"), Range::After(Place::Id(first.last)), ALL).await;
        let page = page.expect("a cursor of the one is good at the other");
        assert_eq!(texts(&page.messages), ["b"]);
        let here = trial.read(Range::After(Place::Position(page.position)), ALL).await;
        assert_eq!(here.expect("so is a position").position, page.position);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(follow.next().await.expect("told").iter().map(Change::head));
        }
        assert_eq!(seen, [first.last.seq, second.last.seq]);
        other.delete(name("news")).await.expect("deleted");
        trial.append("news", &["c"]).await.expect("a new generation");
        let gone = trial.read(Range::After(Place::Position(page.position)), ALL).await;
        assert_eq!(gone, Err(ReadError::UnknownPlace));
    })
    .await;
}
