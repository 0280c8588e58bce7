//! A clock that was wrong: once it is right, ids have the right time again, as far as the order within
//! a stream allows, and retention by age works.

use std::{path::Path, time::Duration};

use crate::support::{NOW, TestApp};

/// Ten years, in milliseconds.
const AHEAD: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
const MINUTE: u64 = 60 * 1000;

fn parts(id: &str) -> (u64, u64) {
    let (millis, seq) = id.split_once('-').expect("an id");
    (millis.parse().expect("a number"), seq.parse().expect("a number"))
}

/// Publishes into a store while the clock is ten years ahead; returns the id.
async fn publish_ahead_of_time(file: &Path) -> String {
    let app = TestApp::start_on(file, NOW + AHEAD, &[]).await;
    let id = app.publish("news", "from the future").await;
    app.stop().await;
    id
}

#[tokio::test]
async fn new_streams_use_the_corrected_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let wrong = publish_ahead_of_time(&file).await;
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let before = parts(&app.publish("before", "a stream of its own").await).0;
    let clamped = app.publish("news", "time does not go back within a stream").await;
    assert_eq!(parts(&clamped).0, parts(&wrong).0);
    app.delete("news").await;
    let recreated = app.publish("news", "another generation").await;
    let after = app.publish("after", "another stream").await;
    for millis in [before, parts(&recreated).0, parts(&after).0] {
        assert!((NOW..NOW + MINUTE).contains(&millis), "{millis}");
    }
    assert!(parts(&recreated).1 > parts(&clamped).1, "{recreated} after {clamped}");
    for old in [wrong, clamped] {
        assert_eq!(app.get(&format!("/streams/news/messages?after={old}")).await.status(), 404);
    }
}

/// Waits until a stream holds `count` messages, or does not exist (`None`); the clock is paused, so that
/// minutes take milliseconds.
async fn wait_for_count(app: &TestApp, stream: &str, count: Option<usize>) {
    tokio::time::pause();
    let mut messages = None;
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let response = app.get(&format!("/streams/{stream}/messages")).await;
        let found = response.status() == 200;
        let page: serde_json::Value = response.json().await.expect("JSON");
        messages = page["messages"].as_array().map(Vec::len).filter(|_| found);
        if messages == count {
            tokio::time::resume();
            return;
        }
    }
    panic!("{messages:?} messages remain");
}

#[tokio::test]
async fn messages_with_ids_in_the_future_are_removed_by_their_age() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    publish_ahead_of_time(&file).await;
    let keep = ["--keep-age", "15m"];
    // Time for two sweeps, in which the server detects that ids are ahead of the clock.
    let start = async |after: u64| {
        let app = TestApp::start_on(&file, NOW + after, &keep).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(130)).await;
        tokio::time::resume();
        app
    };
    let app = start(0).await;
    assert_eq!(app.log("news").await.len(), 1, "it is not known to be too old");
    app.stop().await;
    let app = start(10 * MINUTE).await;
    app.publish("news", "later").await;
    assert_eq!(app.log("news").await.len(), 2);
    app.stop().await;
    let app = start(20 * MINUTE).await;
    wait_for_count(&app, "news", Some(1)).await;
    assert_eq!(app.log("news").await[0].1, "later");
    app.stop().await;
    let app = start(40 * MINUTE).await;
    wait_for_count(&app, "news", Some(0)).await;
    app.stop().await;
    let app = start(3 * 24 * 60 * MINUTE).await;
    wait_for_count(&app, "news", None).await;
}

/// No message is removed too early while the clock is behind, or when it is right again.
#[tokio::test]
async fn a_clock_that_was_behind_removes_no_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let keep = ["--keep-age", "15m"];
    for (clock, count) in [(NOW, 1), (0, 2), (NOW + MINUTE, 3), (NOW + 2 * MINUTE, 4)] {
        let app = TestApp::start_on(&file, clock, &keep).await;
        app.publish("news", "hello").await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(130)).await;
        tokio::time::resume();
        app.publish("news", "hello").await;
        assert_eq!(app.log("news").await.len(), 2 * count, "{clock}");
        app.stop().await;
    }
}
