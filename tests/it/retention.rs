//! Retention: the oldest messages go, and who stood there is told.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::support::{Events, NOW, TestApp, lines, next};

/// In milliseconds, as clocks have it.
const MINUTE: u64 = 60 * 1000;
/// As long as an idempotency key is remembered, and with it its stream.
const DAY: u64 = 24 * 60 * MINUTE;

/// Publishes numbered messages of some twenty bytes.
async fn publish(app: &TestApp, stream: &str, numbers: std::ops::Range<u32>) {
    app.publish_lines(stream, lines(numbers.map(|n| format!("{n:020}")))).await;
}

/// The numbers that a stream still has.
async fn numbers(app: &TestApp, stream: &str) -> Vec<u32> {
    let log = app.log(stream).await;
    log.iter().map(|(_, text)| text.parse().expect("a number")).collect()
}

/// Waits until the history of a stream is answered like this; minutes pass in no time.
async fn until(app: &TestApp, stream: &str, status: u16, count: usize) {
    tokio::time::pause();
    let mut messages = Vec::new();
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = app.get(&format!("/streams/{stream}/messages?limit=1000")).await;
        let as_expected = answer.status() == status;
        let page: Value = answer.json().await.expect("JSON");
        messages = page["messages"].as_array().cloned().unwrap_or_default();
        if as_expected && messages.len() == count {
            tokio::time::resume();
            return;
        }
    }
    panic!("{} messages stay", messages.len());
}

async fn next_reset(reader: &mut Events) -> Value {
    loop {
        let event = next(reader).await;
        if event.event != "ping" {
            assert_eq!(event.event, "reset", "{event:?}");
            return serde_json::from_str(&event.data).expect("JSON");
        }
    }
}

/// A server on a store that was filled `age` milliseconds ago.
async fn aged(file: &Path, age: u64, arguments: &[&str]) -> TestApp {
    let app = TestApp::start_on(file, NOW, &[]).await;
    publish(&app, "news", 0..5).await;
    publish(&app, "over", 0..5).await;
    app.end("over").await;
    app.stop().await;
    TestApp::start_on(file, NOW + age, arguments).await
}

#[tokio::test]
async fn as_many_messages_are_kept_as_configured() {
    let app = TestApp::start(&["--keep-messages", "10"]).await;
    for n in 0..30 {
        publish(&app, "news", n..n + 1).await;
    }
    assert_eq!(numbers(&app, "news").await, (20..30).collect::<Vec<_>>());
    publish(&app, "news", 30..300).await;
    assert_eq!(numbers(&app, "news").await, (290..300).collect::<Vec<_>>());
    publish(&app, "other", 0..5).await;
    assert_eq!(numbers(&app, "other").await.len(), 5, "each stream has a limit of its own");
}

#[tokio::test]
async fn as_many_bytes_are_kept_as_configured() {
    let app = TestApp::start(&["--keep-bytes", "100", "--max-message-bytes", "100"]).await;
    publish(&app, "news", 0..30).await;
    assert_eq!(numbers(&app, "news").await, [25, 26, 27, 28, 29]);
    app.publish("news", &"x".repeat(100)).await;
    assert_eq!(app.log("news").await.len(), 1, "the largest message there may be is kept");
    app.publish("news", "y").await;
    assert_eq!(app.log("news").await.len(), 1);
    app.publish("news", &"\0".repeat(98)).await;
    assert_eq!(app.log("news").await.len(), 2, "bytes are bytes");
}

#[tokio::test]
async fn messages_are_kept_as_long_as_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = aged(&file, 10 * MINUTE, &["--keep-age", "15m"]).await;
    publish(&app, "news", 5..10).await;
    assert_eq!(numbers(&app, "news").await.len(), 10, "young enough");
    app.stop().await;
    let app = TestApp::start_on(&file, NOW + 20 * MINUTE, &["--keep-age", "15m"]).await;
    until(&app, "news", 200, 5).await;
    assert_eq!(numbers(&app, "news").await, [5, 6, 7, 8, 9], "nobody had to publish for that");
}

#[tokio::test]
async fn a_silent_stream_is_forgotten_ended_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = aged(&file, DAY + 20 * MINUTE, &["--keep-age", "15m", "--max-streams", "2"]).await;
    let mut reader = app.watch("news", "latest").await;
    for stream in ["news", "over"] {
        until(&app, stream, 404, 0).await;
    }
    assert_eq!(next_reset(&mut reader).await["reason"], "deleted");
    app.publish("over", "a new life").await;
    app.publish("another", "for which there is room").await;
}

#[tokio::test]
async fn a_reader_whose_place_was_trimmed_is_told() {
    let app = TestApp::start(&["--keep-messages", "10"]).await;
    publish(&app, "news", 0..30).await;
    let first = app.log("news").await[0].0.clone();
    let mut reader = app.watch("news", &first).await;
    assert_eq!(next(&mut reader).await.data, format!("{:020}", 21));

    publish(&app, "news", 30..60).await;
    let log = app.log("news").await;
    let mut late = app.watch("news", &first).await;
    let why = next_reset(&mut late).await;
    assert_eq!((&why["reason"], &why["oldest"]), (&"unknown-cursor".into(), &log[0].0[..].into()));
    for (id, text) in log {
        let event = next(&mut late).await;
        assert_eq!((event.id, event.data), (id, text));
    }
    for n in 22..60 {
        assert_eq!(
            next(&mut reader).await.data,
            format!("{n:020}"),
            "who was there misses nothing"
        );
    }
}

/// Nothing is missing after the last message that was trimmed.
#[tokio::test]
async fn a_reader_at_the_last_message_trimmed_has_missed_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let keep = ["--keep-messages", "10"];
    let app = TestApp::start_on(&file, NOW, &keep).await;
    publish(&app, "news", 0..20).await;
    let last_trimmed = app.log("news").await[0].0.clone();
    publish(&app, "news", 20..21).await;
    let resumes = async |app: &TestApp| {
        let log = app.log("news").await;
        assert_eq!(log[0].1, format!("{:020}", 11));
        let mut reader = app.watch("news", &last_trimmed).await;
        for (id, text) in log {
            let event = next(&mut reader).await;
            assert_eq!((&*event.event, event.id, event.data), ("new_message", id, text));
        }
        let after = app.get(&format!("/streams/news/messages?after={last_trimmed}")).await;
        assert_eq!(after.status(), 200);
        let before = app.get(&format!("/streams/news/messages?before={last_trimmed}")).await;
        let page: Value = before.json().await.expect("JSON");
        assert_eq!(page["messages"], Value::Array(vec![]), "what is before it is trimmed");
    };
    resumes(&app).await;
    app.stop().await;
    let app = TestApp::start_on(&file, NOW, &keep).await;
    resumes(&app).await;
    // One place that is as near, and was never given.
    let (millis, seq) = last_trimmed.split_once('-').expect("an id");
    let other = format!("{}-{seq}", millis.parse::<u64>().expect("a number") + 1);
    assert_eq!(next_reset(&mut app.watch("news", &other).await).await["reason"], "unknown-cursor");
}

/// How many idempotency keys a store remembers.
fn keys(file: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(file, flags).expect("a store");
    store.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).expect("a number")
}

/// Publishes with an idempotency key; tells whether it had been used.
async fn is_replayed(app: &TestApp, stream: &str, key: u32) -> bool {
    let request = app.client.post(format!("{}/streams/{stream}", app.url));
    let request = request.header("idempotency-key", key.to_string()).body(format!("{key:020}"));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    response.headers().contains_key("idempotency-replayed")
}

#[tokio::test]
async fn as_many_idempotency_keys_are_kept_as_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let keep = ["--keep-keys", "100", "--keep-keys-total", "250", "--keep-messages", "5"];
    let app = TestApp::start_on(&file, NOW, &keep).await;
    // Whatever is forgotten is forgotten some at a time.
    let some = 64;
    for key in 0..400 {
        assert!(!is_replayed(&app, "one", key).await, "{key}");
        assert!(keys(&file) <= 100 + some, "{key}");
    }
    for key in [399, 350, 301] {
        assert!(is_replayed(&app, "one", key).await, "{key}: its message is trimmed, it is not");
    }
    assert!(!is_replayed(&app, "one", 0).await, "the oldest goes first");
    for stream in ["two", "three", "four"] {
        for key in 0..100 {
            assert!(!is_replayed(&app, stream, key).await, "{key}");
            assert!(keys(&file) <= 250 + some, "{key}");
        }
    }
    assert!(is_replayed(&app, "four", 0).await);
    assert!(!is_replayed(&app, "one", 399).await, "the oldest of all goes first");
    let app = {
        app.stop().await;
        TestApp::start_on(&file, NOW, &keep).await
    };
    assert!(is_replayed(&app, "four", 99).await, "through a restart");
    for stream in ["one", "two", "three", "four"] {
        app.delete(stream).await;
    }
    until(&app, "four", 404, 0).await;
    assert!(!is_replayed(&app, "four", 99).await);
    tokio::time::pause();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if keys(&file) == 1 {
            return;
        }
    }
    panic!("{} keys stay", keys(&file));
}

/// One that reads so slowly that its place is trimmed gets what there is, and is told that it is
/// not all.
#[tokio::test]
async fn a_reader_that_is_left_behind_is_told_what_it_missed() {
    const MESSAGES: u32 = 20_000;
    let app = TestApp::start(&["--keep-messages", "100"]).await;
    let mut reader = app.watch("news", "").await;
    for from in (0..MESSAGES).step_by(500) {
        let lines = lines((from..from + 500).map(|n| format!("{n:01000}")));
        app.publish_lines("news", lines).await;
    }
    // A window that opens once more may let it see that it is behind earlier than at the end.
    let (mut expected, mut resets) = (0, 0);
    while expected < MESSAGES {
        let mut event = next(&mut reader).await;
        if event.event == "reset" {
            let why: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!(why["reason"], "trimmed");
            event = next(&mut reader).await;
            assert_eq!(why["oldest"], event.id, "what it says follows");
            let oldest = event.data.parse().expect("a number");
            assert!(expected > 0 && oldest > expected, "{oldest} was there after {expected}");
            (expected, resets) = (oldest, resets + 1);
        }
        assert_eq!(event.data, format!("{expected:01000}"), "nothing else is missing");
        expected += 1;
    }
    assert!(resets > 0, "it was not left behind");
}

#[tokio::test]
async fn lower_limits_are_kept_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    publish(&app, "news", 0..5_000).await;
    publish(&app, "over", 0..5_000).await;
    app.end("over").await;
    app.stop().await;

    let app = TestApp::start_on(&file, NOW, &["--keep-messages", "50"]).await;
    publish(&app, "news", 5_000..5_001).await;
    assert!(app.log("news").await.len() > 1_000, "nobody has to wait for all of it");
    for (stream, newest) in [("news", 5_001), ("over", 5_000)] {
        until(&app, stream, 200, 50).await;
        assert_eq!(numbers(&app, stream).await, (newest - 50..newest).collect::<Vec<_>>());
    }
}
