//! Another life of a stream: deleted, wiped, restored. An id from there must never be taken for a
//! place in this one.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{Events, NOW, TestApp, next};

/// Two hours.
const LATER: u64 = 2 * 60 * 60 * 1000;

/// The next event is a reset; gives back its reason and the oldest id there is.
async fn reset(reader: &mut Events) -> (String, Value) {
    let event = next(reader).await;
    assert_eq!(event.event, "reset", "{event:?}");
    let why: Value = serde_json::from_str(&event.data).expect("JSON");
    (why["reason"].as_str().expect("text").to_owned(), why["oldest"].clone())
}

/// The next events are these messages.
async fn says(reader: &mut Events, messages: &[(String, String)]) {
    for (id, text) in messages {
        let event = next(reader).await;
        assert_eq!((&event.id, &event.data), (id, text), "{event:?}");
    }
}

/// A reader that comes with any of these cursors is told that it is lost, and then gets all there
/// is.
async fn are_unknown(app: &TestApp, cursors: &[String]) {
    let log = app.log("news").await;
    for cursor in cursors {
        let mut reader = app.watch("news", cursor).await;
        let (reason, oldest) = reset(&mut reader).await;
        assert_eq!(reason, "unknown-cursor", "{cursor}");
        assert_eq!(oldest.as_str(), log.first().map(|(id, _)| id.as_str()), "{cursor}");
        says(&mut reader, &log).await;
        for side in ["after", "before"] {
            let answer = app.get(&format!("/streams/news/messages?{side}={cursor}")).await;
            assert_eq!(answer.status(), 404, "{side} {cursor}");
        }
    }
}

/// Publishes as many messages, and gives back their ids.
async fn publish(app: &TestApp, texts: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(app.publish("news", &format!("{texts} {n}")).await);
    }
    ids
}

/// Milliseconds and sequence.
fn parts(id: &str) -> (u64, u64) {
    let (millis, seq) = id.split_once('-').expect("an id");
    (millis.parse().expect("a number"), seq.parse().expect("a number"))
}

/// Copies the store: the file, and what is beside it.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[tokio::test]
async fn watchers_of_a_deleted_stream_are_told_and_get_its_next_life() {
    let app = TestApp::start(&[]).await;
    let old = publish(&app, "old", 3).await;
    let mut early = app.watch("news", "earliest").await;
    let mut late = app.watch("news", &old[2]).await;
    for text in ["old 0", "old 1", "old 2"] {
        assert_eq!(next(&mut early).await.data, text);
    }
    app.delete("news").await;
    for reader in [&mut early, &mut late] {
        assert_eq!(reset(reader).await, ("deleted".to_owned(), Value::Null));
    }
    publish(&app, "new", 3).await;
    let log = app.log("news").await;
    assert_eq!(log.len(), 3);
    for reader in [&mut early, &mut late] {
        says(reader, &log).await;
    }
}

#[tokio::test]
async fn a_cursor_of_a_deleted_stream_is_unknown_to_the_next() {
    let app = TestApp::start(&[]).await;
    let mut cursors = publish(&app, "old", 5).await;
    app.end("news").await;
    app.delete("news").await;
    are_unknown_to_nothing(&app, &cursors).await;
    // Fewer than before, then more.
    for _ in 0..2 {
        let new = publish(&app, "new", 3).await;
        are_unknown(&app, &cursors).await;
        app.delete("news").await;
        cursors.extend(new);
    }
}

/// The same, while there is no stream of that name.
async fn are_unknown_to_nothing(app: &TestApp, cursors: &[String]) {
    for cursor in cursors {
        let mut reader = app.watch("news", cursor).await;
        assert_eq!(reset(&mut reader).await, ("unknown-cursor".to_owned(), Value::Null));
    }
}

/// However often a stream begins anew, and wherever the clock stands: no id is given twice, and what
/// comes later is later, by its sequence always, and by its time within a generation.
#[tokio::test]
async fn ids_never_repeat_nor_go_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let mut generations: Vec<Vec<String>> = vec![Vec::new()];
    let clocks = [NOW, NOW - LATER, NOW - 2 * LATER, NOW + LATER, NOW, 0, NOW + LATER];
    for (n, clock) in clocks.into_iter().enumerate() {
        let app = TestApp::start_on(&file, clock, &[]).await;
        let before = publish(&app, "before", 3).await;
        generations.last_mut().expect("one").extend(before);
        if n % 2 == 1 {
            app.delete("news").await;
            generations.push(publish(&app, "after", 3).await);
            app.end("news").await;
            app.delete("news").await;
            generations.push(Vec::new());
        }
        app.stop().await;
    }
    for ids in &generations {
        for pair in ids.windows(2) {
            let ((millis, seq), (next_millis, next_seq)) = (parts(&pair[0]), parts(&pair[1]));
            assert!(millis <= next_millis && next_seq == seq + 1, "{pair:?}");
        }
    }
    let sequences: Vec<u64> = generations.iter().flatten().map(|id| parts(id).1).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
}

#[tokio::test]
async fn a_restart_is_no_other_life() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let ids = publish(&app, "hello", 5).await;
    app.stop().await;
    let app = TestApp::start_on(&file, NOW + LATER, &[]).await;
    publish(&app, "again", 2).await;
    let log = app.log("news").await;
    for (n, id) in ids.iter().enumerate() {
        says(&mut app.watch("news", id).await, &log[n + 1..]).await;
    }
}

#[tokio::test]
async fn a_cursor_of_a_wiped_store_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("one.db"), NOW, &[]).await;
    let cursors = publish(&app, "old", 5).await;
    app.stop().await;
    let app = TestApp::start_on(&folder.path().join("other.db"), NOW + LATER, &[]).await;
    are_unknown_to_nothing(&app, &cursors).await;
    publish(&app, "new", 8).await;
    are_unknown(&app, &cursors).await;
}

#[tokio::test]
async fn a_restored_copy_goes_on_from_what_it_holds_and_knows_nothing_later() {
    let (folder, backup) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir());
    let backup = backup.expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let kept = publish(&app, "kept", 4).await;
    app.stop().await;
    copy(folder.path(), backup.path());

    let app = TestApp::start_on(&file, NOW + LATER, &[]).await;
    let lost = publish(&app, "lost", 4).await;
    app.stop().await;
    copy(backup.path(), folder.path());

    let app = TestApp::start_on(&file, NOW + 2 * LATER, &[]).await;
    for published in [0, 2, 4] {
        publish(&app, "other", published).await;
        let log = app.log("news").await;
        are_unknown(&app, &lost).await;
        for (n, id) in kept.iter().enumerate() {
            says(&mut app.watch("news", id).await, &log[n + 1..]).await;
        }
    }
}

#[tokio::test]
async fn an_ended_stream_that_begins_anew_sends_nobody_away() {
    let app = TestApp::start(&[]).await;
    publish(&app, "old", 2).await;
    let response = app.post("/streams/news/end", "bye").await;
    let end: Value = response.json().await.expect("JSON");
    let end = end["id"].as_str().expect("an id");
    let path = "/streams/news/events";
    assert_eq!(app.get_with(path, &[("last-event-id", end)]).await.status(), 204);
    app.delete("news").await;
    are_unknown_to_nothing(&app, &[end.to_owned()]).await;
    publish(&app, "new", 4).await;
    are_unknown(&app, &[end.to_owned()]).await;
}
