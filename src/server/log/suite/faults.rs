//! What an engine still promises when something goes wrong. Engines in which nothing can be made to go
//! wrong pass by.

use super::*;
use crate::server::log::faulty::Faults;

/// What was not told is found in the log, from where the last follow ended.
#[tokio::test]
async fn a_follow_that_breaks_in_the_middle_is_taken_up_without_a_gap() {
    every_engine(|trial| async move {
        let Some(faults) = &trial.faults else { return };
        let mut follow = trial.follow("news").await;
        trial.append("news", &["a", "b"]).await.expect("appended");
        let first = follow.next().await.expect("told");
        trial.append("news", &["c"]).await.expect("appended");
        faults.break_follows();
        trial.append("news", &["d"]).await.expect("appended");
        let mut seen: Vec<u64> = first.iter().map(Change::head).collect();
        while let Some(changes) = follow.next().await {
            seen.extend(changes.iter().map(Change::head));
        }
        assert!(seen.is_sorted() && seen.len() < 3, "{seen:?}");
        let mut next = trial.follow("news").await;
        let position = Position { seq: seen[seen.len() - 1], ..next.start };
        let page = trial.read(Range::After(Place::Position(position)), ALL).await.expect("a page");
        assert_eq!(page.position, next.start, "what is in between is in the log");
        let last = trial.append("news", &["e"]).await.expect("appended").last;
        let told = next.next().await.expect("told");
        let after = next.start.seq;
        assert!(matches!(told[..], [Change::Appended { after: of, .. }] if of == after));
        assert_eq!(told[0].head(), last.seq);
    })
    .await;
}

/// It may have been stored; with a key it is stored once whatever happened.
#[tokio::test(start_paused = true)]
async fn an_append_whose_answer_is_lost_is_repeated_with_its_key() {
    every_engine(|trial| async move {
        let Some(faults) = &trial.faults else { return };
        for n in 0..50 {
            let (text, key) = (format!("{n}"), format!("key-{n}"));
            faults.set_faults(Faults { lost_answers: 100, ..Faults::default() });
            let lost = trial.append_with("news", &[&text, "and"], Some(&key)).await;
            assert!(matches!(lost, Err(AppendError::Unknown(_))), "{lost:?}");
            faults.set_faults(Faults::default());
            let known =
                trial.append_with("news", &[&text, "and"], Some(&key)).await.expect("known");
            let again =
                trial.append_with("news", &[&text, "and"], Some(&key)).await.expect("known");
            assert_eq!(again, Appended { replayed: true, ..known });
        }
        // What was under way may still appear, or it may not: never twice.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let all = trial.all("news").await;
        let expected: Vec<_> = (0..50).flat_map(|n| [n.to_string(), "and".to_owned()]).collect();
        assert_eq!(texts(&all), expected);
    })
    .await;
}

/// What is refused is not stored, and what is stored in part is the first part.
#[tokio::test]
async fn a_part_of_a_batch_is_its_first_part() {
    every_engine(|trial| async move {
        let Some(faults) = &trial.faults else { return };
        faults.set_faults(Faults { partly: 100, ..Faults::default() });
        let batch = ["a", "b", "c", "d"].map(data).to_vec();
        let partly = trial.log.append_all(name("news"), batch.clone(), None).await;
        let partly = partly.expect_err("not all of it");
        let all = trial.all("news").await;
        assert_eq!(texts(&all), ["a", "b", "c", "d"][..partly.stored]);
        assert_eq!(all.last().map(|last| last.id), partly.last);
        let key = Some(IdempotencyKey("k".to_owned()));
        let whole = trial.log.append_all(name("news"), batch, key).await;
        assert_eq!(whole.map(|_| ()), Ok(()), "with a key it is whole");
        faults.set_faults(Faults { refused: 100, ..Faults::default() });
        assert!(matches!(trial.append("news", &["e"]).await, Err(AppendError::Unavailable(_))));
        assert_eq!(trial.all("news").await.len(), partly.stored + 4);
    })
    .await;
}

/// A page may end early; nothing is denied.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_behind_says_so_where_it_cannot_be_sure() {
    every_engine(|trial| async move {
        let Some(faults) = &trial.faults else { return };
        let early = trial.append("news", &["a"]).await.expect("appended").last;
        tokio::time::advance(Duration::from_millis(10)).await;
        faults.freeze_reads(true);
        tokio::time::advance(Duration::from_millis(10)).await;
        let late = trial.append("news", &["b"]).await.expect("appended").last;
        trial.append("fresh", &["x"]).await.expect("appended");
        let start = trial.follow("news").await.start;
        assert_eq!(start.seq, late.seq, "where a follow starts is exact");
        let page = trial.read(Range::After(Place::Id(early)), ALL).await.expect("a page");
        assert_eq!((page.messages.len(), page.position.seq), (0, early.seq));
        let page = trial.read(Range::After(Place::Position(start)), ALL).await.expect("a page");
        assert_eq!(page.position, start, "no reader goes back");
        assert_eq!(trial.read(Range::After(Place::Id(late)), ALL).await, Err(ReadError::Behind));
        let fresh = trial.log.read(&name("fresh"), Range::After(Place::Earliest), ALL).await;
        assert_eq!(fresh, Err(ReadError::Behind));
        faults.freeze_reads(false);
        let page = trial.read(Range::After(Place::Id(early)), ALL).await.expect("a page");
        assert_eq!(page.position, start);
    })
    .await;
}
