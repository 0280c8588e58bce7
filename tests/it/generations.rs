//! Generations of a stream: deleted, wiped, restored. An id of another generation must never be taken for
//! a position in this one.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{Events, NOW, TestApp, next};

/// Two hours, in milliseconds.
const LATER: u64 = 2 * 60 * 60 * 1000;

/// Asserts that the next event is a `reset`; returns its reason and the oldest id in it.
async fn next_reset(reader: &mut Events) -> (String, Value) {
    let event = next(reader).await;
    assert_eq!(event.event, "reset", "{event:?}");
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    (data["reason"].as_str().expect("text").to_owned(), data["oldest"].clone())
}

/// Asserts that the next events are these messages.
async fn assert_next(reader: &mut Events, messages: &[(String, String)]) {
    for (id, text) in messages {
        let event = next(reader).await;
        assert_eq!((&event.id, &event.data), (id, text), "{event:?}");
    }
}

/// Asserts that a reader with any of these cursors gets a `reset` and then all messages, and that the
/// history returns 404.
async fn assert_unknown(app: &TestApp, cursors: &[String]) {
    let log = app.log("news").await;
    for cursor in cursors {
        let mut reader = app.watch("news", cursor).await;
        let (reason, oldest) = next_reset(&mut reader).await;
        assert_eq!(reason, "unknown-cursor", "{cursor}");
        assert_eq!(oldest.as_str(), log.first().map(|(id, _)| id.as_str()), "{cursor}");
        assert_next(&mut reader, &log).await;
        for side in ["after", "before"] {
            let response = app.get(&format!("/streams/news/messages?{side}={cursor}")).await;
            assert_eq!(response.status(), 404, "{side} {cursor}");
        }
    }
}

/// Publishes `count` messages and returns their ids.
async fn publish(app: &TestApp, texts: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(app.publish("news", &format!("{texts} {n}")).await);
    }
    ids
}

/// The milliseconds and the sequence of an id.
fn parts(id: &str) -> (u64, u64) {
    let (millis, seq) = id.split_once('-').expect("an id");
    (millis.parse().expect("a number"), seq.parse().expect("a number"))
}

/// Copies all files of a store.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[tokio::test]
async fn watchers_of_a_deleted_stream_get_a_reset_and_the_next_generation() {
    let app = TestApp::start(&[]).await;
    let old = publish(&app, "old", 3).await;
    let mut early = app.watch("news", "earliest").await;
    let mut late = app.watch("news", &old[2]).await;
    for text in ["old 0", "old 1", "old 2"] {
        assert_eq!(next(&mut early).await.data, text);
    }
    app.delete("news").await;
    for reader in [&mut early, &mut late] {
        assert_eq!(next_reset(reader).await, ("deleted".to_owned(), Value::Null));
    }
    publish(&app, "new", 3).await;
    let log = app.log("news").await;
    assert_eq!(log.len(), 3);
    for reader in [&mut early, &mut late] {
        assert_next(reader, &log).await;
    }
}

#[tokio::test]
async fn a_cursor_of_a_deleted_stream_is_unknown_in_the_next_generation() {
    let app = TestApp::start(&[]).await;
    let mut cursors = publish(&app, "old", 5).await;
    app.end("news").await;
    app.delete("news").await;
    assert_unknown_without_a_stream(&app, &cursors).await;
    // Fewer than before, then more.
    for _ in 0..2 {
        let new = publish(&app, "new", 3).await;
        assert_unknown(&app, &cursors).await;
        app.delete("news").await;
        cursors.extend(new);
    }
}

/// Asserts that a reader with any of these cursors gets a `reset` while the stream does not exist.
async fn assert_unknown_without_a_stream(app: &TestApp, cursors: &[String]) {
    for cursor in cursors {
        let mut reader = app.watch("news", cursor).await;
        assert_eq!(next_reset(&mut reader).await, ("unknown-cursor".to_owned(), Value::Null));
    }
}

/// However often a stream is created again, and whatever the clock shows: no id is used twice, sequences
/// always rise, and times never go back within a generation.
#[tokio::test]
async fn ids_never_repeat_or_go_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let mut generations: Vec<Vec<String>> = vec![Vec::new()];
    let clocks = [NOW, NOW - LATER, NOW - 2 * LATER, NOW + LATER, NOW, 0, NOW + LATER];
    for (n, clock) in clocks.into_iter().enumerate() {
        let app = TestApp::start_on(&file, clock, &[]).await;
        let before = publish(&app, "before", 3).await;
        generations.last_mut().expect("a generation").extend(before);
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
    assert!(sequences.is_sorted_by(|id, next| id < next), "{sequences:?}");
}

#[tokio::test]
async fn a_restart_does_not_begin_a_generation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let ids = publish(&app, "hello", 5).await;
    app.stop().await;
    let app = TestApp::start_on(&file, NOW + LATER, &[]).await;
    publish(&app, "again", 2).await;
    let log = app.log("news").await;
    for (n, id) in ids.iter().enumerate() {
        assert_next(&mut app.watch("news", id).await, &log[n + 1..]).await;
    }
}

#[tokio::test]
async fn a_cursor_of_a_wiped_store_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("one.db"), NOW, &[]).await;
    let cursors = publish(&app, "old", 5).await;
    app.stop().await;
    let app = TestApp::start_on(&folder.path().join("other.db"), NOW + LATER, &[]).await;
    assert_unknown_without_a_stream(&app, &cursors).await;
    publish(&app, "new", 8).await;
    assert_unknown(&app, &cursors).await;
}

#[tokio::test]
async fn a_restored_copy_resumes_its_own_ids_and_refuses_later_ones() {
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
        assert_unknown(&app, &lost).await;
        for (n, id) in kept.iter().enumerate() {
            assert_next(&mut app.watch("news", id).await, &log[n + 1..]).await;
        }
    }
}

#[tokio::test]
async fn the_end_of_a_deleted_stream_is_an_unknown_cursor() {
    let app = TestApp::start(&[]).await;
    publish(&app, "old", 2).await;
    let response = app.post("/streams/news/end", "bye").await;
    let end: Value = response.json().await.expect("JSON");
    let end = end["id"].as_str().expect("an id");
    let path = "/streams/news/events";
    assert_eq!(app.get_with(path, &[("last-event-id", end)]).await.status(), 204);
    app.delete("news").await;
    assert_unknown_without_a_stream(&app, &[end.to_owned()]).await;
    publish(&app, "new", 4).await;
    assert_unknown(&app, &[end.to_owned()]).await;
}
