//! Retention: the oldest messages are removed, and readers that were behind them get a `reset`.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::support::{Events, NOW, TestApp, lines, next};

/// A minute, in milliseconds.
const MINUTE: u64 = 60 * 1000;
/// A day, in milliseconds: how long an idempotency key, and with it its stream, is kept.
const DAY: u64 = 24 * 60 * MINUTE;

/// Publishes numbered messages of 20 bytes each.
async fn publish(app: &TestApp, stream: &str, numbers: std::ops::Range<u32>) {
    app.publish_lines(stream, lines(numbers.map(|n| format!("{n:020}")))).await;
}

/// The numbers of the messages that a stream holds.
async fn numbers(app: &TestApp, stream: &str) -> Vec<u32> {
    let log = app.log(stream).await;
    log.iter().map(|(_, text)| text.parse().expect("a number")).collect()
}

/// Waits until the history of a stream has this status and number of messages; the clock is paused, so
/// that minutes take milliseconds.
async fn wait_for_history(app: &TestApp, stream: &str, status: u16, count: usize) {
    tokio::time::pause();
    let mut messages = Vec::new();
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let response = app.get(&format!("/streams/{stream}/messages?limit=1000")).await;
        let has_status = response.status() == status;
        let page: Value = response.json().await.expect("JSON");
        messages = page["messages"].as_array().cloned().unwrap_or_default();
        if has_status && messages.len() == count {
            tokio::time::resume();
            return;
        }
    }
    panic!("{} messages remain", messages.len());
}

/// The data of the next event that is not a ping, which must be a `reset`.
async fn next_reset(reader: &mut Events) -> Value {
    loop {
        let event = next(reader).await;
        if event.event != "ping" {
            assert_eq!(event.event, "reset", "{event:?}");
            return serde_json::from_str(&event.data).expect("JSON");
        }
    }
}

/// A server on a store whose messages are `age` milliseconds old.
async fn start_with_age(file: &Path, age: u64, arguments: &[&str]) -> TestApp {
    let app = TestApp::start_on(file, NOW, &[]).await;
    publish(&app, "news", 0..5).await;
    publish(&app, "over", 0..5).await;
    app.end("over").await;
    app.stop().await;
    TestApp::start_on(file, NOW + age, arguments).await
}

#[tokio::test]
async fn keep_messages_limits_the_messages_of_each_stream() {
    let app = TestApp::start(&["--keep-messages", "10"]).await;
    for n in 0..30 {
        publish(&app, "news", n..n + 1).await;
    }
    assert_eq!(numbers(&app, "news").await, (20..30).collect::<Vec<_>>());
    publish(&app, "news", 30..300).await;
    assert_eq!(numbers(&app, "news").await, (290..300).collect::<Vec<_>>());
    publish(&app, "other", 0..5).await;
    assert_eq!(numbers(&app, "other").await.len(), 5, "the limit is per stream");
}

#[tokio::test]
async fn keep_bytes_limits_the_bytes_of_each_stream() {
    let app = TestApp::start(&["--keep-bytes", "100", "--max-message-bytes", "100"]).await;
    publish(&app, "news", 0..30).await;
    assert_eq!(numbers(&app, "news").await, [25, 26, 27, 28, 29]);
    app.publish("news", &"x".repeat(100)).await;
    assert_eq!(app.log("news").await.len(), 1, "a message of the maximum size is kept");
    app.publish("news", "y").await;
    assert_eq!(app.log("news").await.len(), 1);
    app.publish("news", &"\0".repeat(98)).await;
    assert_eq!(app.log("news").await.len(), 2, "NUL bytes count as one byte each");
}

#[tokio::test]
async fn keep_age_limits_the_age_of_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = start_with_age(&file, 10 * MINUTE, &["--keep-age", "15m"]).await;
    publish(&app, "news", 5..10).await;
    assert_eq!(numbers(&app, "news").await.len(), 10, "young enough");
    app.stop().await;
    let app = TestApp::start_on(&file, NOW + 20 * MINUTE, &["--keep-age", "15m"]).await;
    wait_for_history(&app, "news", 200, 5).await;
    assert_eq!(numbers(&app, "news").await, [5, 6, 7, 8, 9], "without a new message");
}

#[tokio::test]
async fn a_stream_without_messages_is_deleted_ended_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app =
        start_with_age(&file, DAY + 20 * MINUTE, &["--keep-age", "15m", "--max-streams", "2"])
            .await;
    let mut reader = app.watch("news", "latest").await;
    for stream in ["news", "over"] {
        wait_for_history(&app, stream, 404, 0).await;
    }
    assert_eq!(next_reset(&mut reader).await["reason"], "deleted");
    app.publish("over", "created again").await;
    app.publish("another", "within the limit of two streams").await;
}

#[tokio::test]
async fn a_cursor_that_was_trimmed_gets_a_reset() {
    let app = TestApp::start(&["--keep-messages", "10"]).await;
    publish(&app, "news", 0..30).await;
    let first = app.log("news").await[0].0.clone();
    let mut reader = app.watch("news", &first).await;
    assert_eq!(next(&mut reader).await.data, format!("{:020}", 21));

    publish(&app, "news", 30..60).await;
    let log = app.log("news").await;
    let mut late = app.watch("news", &first).await;
    let reset = next_reset(&mut late).await;
    assert_eq!(
        (&reset["reason"], &reset["oldest"]),
        (&"unknown-cursor".into(), &log[0].0[..].into())
    );
    for (id, text) in log {
        let event = next(&mut late).await;
        assert_eq!((event.id, event.data), (id, text));
    }
    for n in 22..60 {
        assert_eq!(
            next(&mut reader).await.data,
            format!("{n:020}"),
            "a connected reader misses nothing"
        );
    }
}

/// The last trimmed message is a valid cursor, because no message after it is missing.
#[tokio::test]
async fn the_last_trimmed_message_is_a_valid_cursor() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let keep = ["--keep-messages", "10"];
    let app = TestApp::start_on(&file, NOW, &keep).await;
    publish(&app, "news", 0..20).await;
    let last_trimmed = app.log("news").await[0].0.clone();
    publish(&app, "news", 20..21).await;
    let assert_resumes = async |app: &TestApp| {
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
        assert_eq!(page["messages"], Value::Array(vec![]), "the messages before it are trimmed");
    };
    assert_resumes(&app).await;
    app.stop().await;
    let app = TestApp::start_on(&file, NOW, &keep).await;
    assert_resumes(&app).await;
    // An id with the same sequence that was never used.
    let (millis, seq) = last_trimmed.split_once('-').expect("an id");
    let other = format!("{}-{seq}", millis.parse::<u64>().expect("a number") + 1);
    assert_eq!(next_reset(&mut app.watch("news", &other).await).await["reason"], "unknown-cursor");
}

/// The number of idempotency keys in a store.
fn count_keys(file: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(file, flags).expect("a store");
    store.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).expect("a number")
}

/// Publishes with an idempotency key; returns whether the response was replayed.
async fn is_replayed(app: &TestApp, stream: &str, key: u32) -> bool {
    let request = app.client.post(format!("{}/streams/{stream}", app.url));
    let request = request.header("idempotency-key", key.to_string()).body(format!("{key:020}"));
    let response = request.send().await.expect("a response");
    assert_eq!(response.status(), 201);
    response.headers().contains_key("idempotency-replayed")
}

#[tokio::test]
async fn idempotency_keys_are_limited_per_stream_and_in_total() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let keep = ["--keep-keys", "100", "--keep-keys-total", "250", "--keep-messages", "5"];
    let app = TestApp::start_on(&file, NOW, &keep).await;
    // Keys are removed in batches.
    let batch = 64;
    for key in 0..400 {
        assert!(!is_replayed(&app, "one", key).await, "{key}");
        assert!(count_keys(&file) <= 100 + batch, "{key}");
    }
    for key in [399, 350, 301] {
        assert!(
            is_replayed(&app, "one", key).await,
            "{key}: its message is trimmed, the key is kept"
        );
    }
    assert!(!is_replayed(&app, "one", 0).await, "the oldest key is removed first");
    for stream in ["two", "three", "four"] {
        for key in 0..100 {
            assert!(!is_replayed(&app, stream, key).await, "{key}");
            assert!(count_keys(&file) <= 250 + batch, "{key}");
        }
    }
    assert!(is_replayed(&app, "four", 0).await);
    assert!(!is_replayed(&app, "one", 399).await, "the oldest key of all streams is removed first");
    let app = {
        app.stop().await;
        TestApp::start_on(&file, NOW, &keep).await
    };
    assert!(is_replayed(&app, "four", 99).await, "kept through a restart");
    for stream in ["one", "two", "three", "four"] {
        app.delete(stream).await;
    }
    wait_for_history(&app, "four", 404, 0).await;
    assert!(!is_replayed(&app, "four", 99).await);
    tokio::time::pause();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if count_keys(&file) == 1 {
            return;
        }
    }
    panic!("{} keys remain", count_keys(&file));
}

/// A reader so slow that its position is trimmed gets a `reset` and then the messages that remain.
#[tokio::test]
async fn a_slow_reader_gets_a_reset_when_its_position_is_trimmed() {
    const MESSAGES: u32 = 20_000;
    let app = TestApp::start(&["--keep-messages", "100"]).await;
    let mut reader = app.watch("news", "").await;
    for from in (0..MESSAGES).step_by(500) {
        let lines = lines((from..from + 500).map(|n| format!("{n:01000}")));
        app.publish_lines("news", lines).await;
    }
    // When a TCP window opens again, it may get a reset before it has read all messages, and another one.
    let (mut expected, mut resets) = (0, 0);
    while expected < MESSAGES {
        let mut event = next(&mut reader).await;
        if event.event == "reset" {
            let reset: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!(reset["reason"], "trimmed");
            event = next(&mut reader).await;
            assert_eq!(reset["oldest"], event.id, "the oldest message follows");
            let oldest = event.data.parse().expect("a number");
            assert!(expected > 0 && oldest > expected, "{oldest} after {expected}");
            (expected, resets) = (oldest, resets + 1);
        }
        assert_eq!(event.data, format!("{expected:01000}"), "no other message is missing");
        expected += 1;
    }
    assert!(resets > 0, "no reset was sent");
}

#[tokio::test]
async fn lower_limits_apply_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    publish(&app, "news", 0..5_000).await;
    publish(&app, "over", 0..5_000).await;
    app.end("over").await;
    app.stop().await;

    let app = TestApp::start_on(&file, NOW, &["--keep-messages", "50"]).await;
    publish(&app, "news", 5_000..5_001).await;
    assert!(
        app.log("news").await.len() > 1_000,
        "a publisher does not wait until everything is trimmed"
    );
    for (stream, newest) in [("news", 5_001), ("over", 5_000)] {
        wait_for_history(&app, stream, 200, 50).await;
        assert_eq!(numbers(&app, stream).await, (newest - 50..newest).collect::<Vec<_>>());
    }
}
