//! Resuming the counter from a cursor.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{NOW, TestApp, all_events, events, sequences};

const LAST_EVENT_ID: &str = "last-event-id";

/// The id of value `n` in a run that began an hour ago, all of whose values are due.
fn past_id(n: u64) -> String {
    format!("{}-{n}", NOW - 3_600_000)
}

#[tokio::test(start_paused = true)]
async fn a_run_resumes_after_any_value() {
    let app = TestApp::start(&[]).await;
    for n in 1..=20 {
        let expected: Vec<_> = (n + 1..=21).collect();
        let by_header = app.get_with("/stream", &[(LAST_EVENT_ID, &past_id(n))]).await;
        assert_eq!(sequences(&all_events(by_header).await), expected);
        let by_query = app.get(&format!("/stream?last_event_id={}", past_id(n))).await;
        assert_eq!(sequences(&all_events(by_query).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_takes_precedence_over_the_query() {
    let app = TestApp::start(&[]).await;
    for query in [past_id(3).as_str(), "garbage", "earliest"] {
        let path = format!("/stream?last_event_id={query}");
        let events = all_events(app.get_with(&path, &[(LAST_EVENT_ID, &past_id(18))]).await).await;
        assert_eq!(sequences(&events), [19, 20, 21], "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_sends_each_value_when_it_is_due() {
    let app = TestApp::start(&[]).await;
    // Value 6 was due half a second ago, value 7 is due in half a second.
    let id = |n: u64| format!("{}-{n}", NOW - 6_500 + n * 1000);
    let begin = Instant::now();
    let mut stream = events(app.get_with("/stream", &[(LAST_EVENT_ID, &id(2))]).await);
    for n in 3..=21_u64 {
        let event = stream.next().await.expect("an event").expect("valid");
        assert_eq!(event.id, id(n));
        let due = if n <= 6 { 0 } else { 500 + (n - 7) * 1000 };
        let late = begin.elapsed().as_millis().saturating_sub(u128::from(due));
        assert!(begin.elapsed() >= Duration::from_millis(due) && late < 10, "value {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_confirmed_with_a_ping_before_the_next_value() {
    let app = TestApp::start(&[]).await;
    let response = app.get(&format!("/stream?last_event_id={NOW}-1")).await;
    let text = response.text().await.expect("text");
    let expected = format!(
        "retry: 15000\nevent: ping\nid: {NOW}-1\ndata: {{}}\n\nevent: new_message\nid: {}-2\n",
        NOW + 1000
    );
    assert!(text.starts_with(&expected), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_cursor_earliest_and_latest_start_a_new_run() {
    let app = TestApp::start(&[]).await;
    for query in
        ["", "?last_event_id=", "?last_event_id=earliest", "?last_event_id=latest", "?lastEventId="]
    {
        let mut stream = events(app.get(&format!("/stream{query}")).await);
        let event = stream.next().await.expect("an event").expect("valid");
        assert_eq!(
            (event.event.as_str(), event.id),
            ("new_message", format!("{NOW}-1")),
            "{query}"
        );
    }
    let empty = events(app.get_with("/stream", &[(LAST_EVENT_ID, "")]).await).next().await;
    assert_eq!(empty.expect("an event").expect("valid").event, "new_message");
}

#[tokio::test]
async fn a_reader_with_the_id_of_the_end_gets_204() {
    let app = TestApp::start(&[]).await;
    let by_header = app.get_with("/stream", &[(LAST_EVENT_ID, &past_id(21))]).await;
    assert_eq!(by_header.status(), StatusCode::NO_CONTENT);
    let by_query = app.get(&format!("/stream?last_event_id={}", past_id(21))).await;
    assert_eq!(by_query.status(), StatusCode::NO_CONTENT);
}

/// Cursors that no counter has sent: garbage, other spellings, ids of the future and of other streams.
fn bad_cursors() -> Vec<String> {
    let foreign = [format!("{NOW}-0"), past_id(22), format!("{NOW}-18446744073709551615")];
    let future = [format!("{}-1", NOW + 60_000), "18446744073709551615-1".to_owned()];
    let garbage = ["x", "1", "-", "1-", "-1", "1-1-1", "01-1", "Earliest", "0x1-1", "1.5-2"];
    garbage.iter().map(ToString::to_string).chain(foreign).chain(future).collect()
}

#[tokio::test]
async fn a_bad_cursor_in_the_query_is_refused() {
    let app = TestApp::start(&[]).await;
    for cursor in bad_cursors() {
        let response = app.get(&format!("/stream?last_event_id={cursor}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{cursor}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#malformed-cursor", "{cursor}");
        assert_eq!(problem["status"], 400);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("last_event_id") || detail.contains("cursor")));
    }
    for (query, kind) in [
        ("last_event_id=1-1&last_event_id=1-1", "/problems#malformed-query"),
        ("last_event_id=%ff", "/problems#malformed-cursor"),
        ("last_event_id=%00", "/problems#malformed-cursor"),
    ] {
        let problem: Value = app.get(&format!("/stream?{query}")).await.json().await.expect("JSON");
        assert_eq!(problem["type"], kind, "{query}");
    }
}

#[tokio::test]
async fn a_bad_cursor_in_the_header_is_answered_with_a_reset() {
    let app = TestApp::start(&[]).await;
    for cursor in bad_cursors().iter().map(String::as_str).chain(["\u{e9}", " \t x"]) {
        let mut stream = events(app.get_with("/stream", &[(LAST_EVENT_ID, cursor)]).await);
        let reset = stream.next().await.expect("an event").expect("valid");
        assert_eq!((reset.event.as_str(), reset.id.as_str()), ("reset", ""), "{cursor}");
        let data: Value = serde_json::from_str(&reset.data).expect("JSON");
        assert_eq!(data["reason"], "unknown-cursor");
        let first = stream.next().await.expect("an event").expect("valid");
        assert_eq!(first.data, "Counter value 1");
        assert_eq!(data["oldest"], first.id, "a whole run follows");
    }
}
