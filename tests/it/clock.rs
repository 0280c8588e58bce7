//! The clock was wrong: ids are right again as soon as it is, as far as the order within one stream
//! allows, and what is too old goes.

use std::{path::Path, time::Duration};

use crate::support::{NOW, TestApp};

/// Ten years.
const AHEAD: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
const MINUTE: u64 = 60 * 1000;

fn parts(id: &str) -> (u64, u64) {
    let (millis, seq) = id.split_once('-').expect("an id");
    (millis.parse().expect("a number"), seq.parse().expect("a number"))
}

/// A store into which somebody published while the clock was ten years ahead.
async fn written_ahead(file: &Path) -> String {
    let app = TestApp::start_on(file, NOW + AHEAD, &[]).await;
    let id = app.publish("news", "from the future").await;
    app.stop().await;
    id
}

#[tokio::test]
async fn new_streams_take_the_time_of_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let wrong = written_ahead(&file).await;
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let before = parts(&app.publish("before", "a stream of its own").await).0;
    let held = app.publish("news", "within a stream time does not go back").await;
    assert_eq!(parts(&held).0, parts(&wrong).0);
    app.delete("news").await;
    let again = app.publish("news", "another generation").await;
    let after = app.publish("after", "another stream").await;
    for millis in [before, parts(&again).0, parts(&after).0] {
        assert!((NOW..NOW + MINUTE).contains(&millis), "{millis}");
    }
    assert!(parts(&again).1 > parts(&held).1, "sequences go on: {again} after {held}");
    for old in [wrong, held] {
        assert_eq!(app.get(&format!("/streams/news/messages?after={old}")).await.status(), 404);
    }
}

/// Waits until a stream holds so many messages, or is gone; minutes pass in no time.
async fn until(app: &TestApp, stream: &str, count: Option<usize>) {
    tokio::time::pause();
    let mut messages = None;
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = app.get(&format!("/streams/{stream}/messages")).await;
        let found = answer.status() == 200;
        let page: serde_json::Value = answer.json().await.expect("JSON");
        messages = page["messages"].as_array().map(Vec::len).filter(|_| found);
        if messages == count {
            tokio::time::resume();
            return;
        }
    }
    panic!("{messages:?} messages stay");
}

#[tokio::test]
async fn what_is_dated_ahead_goes_by_its_age_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    written_ahead(&file).await;
    let keep = ["--keep-age", "15m"];
    // Two sweeps: time enough to see that ids are ahead of the clock.
    let start = async |after: u64| {
        let app = TestApp::start_on(&file, NOW + after, &keep).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(130)).await;
        tokio::time::resume();
        app
    };
    let app = start(0).await;
    assert_eq!(app.log("news").await.len(), 1, "it is young, for all that is known");
    app.stop().await;
    let app = start(10 * MINUTE).await;
    app.publish("news", "later").await;
    assert_eq!(app.log("news").await.len(), 2);
    app.stop().await;
    let app = start(20 * MINUTE).await;
    until(&app, "news", Some(1)).await;
    assert_eq!(app.log("news").await[0].1, "later");
    app.stop().await;
    let app = start(40 * MINUTE).await;
    until(&app, "news", Some(0)).await;
    app.stop().await;
    let app = start(3 * 24 * 60 * MINUTE).await;
    until(&app, "news", None).await;
}

/// While the clock is behind, and when it is right again, nothing goes before its time.
#[tokio::test]
async fn a_clock_that_was_behind_costs_no_message() {
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
