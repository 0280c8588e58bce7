//! The list of the streams: pages of JSON, the live event stream, and the number of watchers.

use std::time::Duration;

use eventsource_stream::Event;
use futures::StreamExt as _;
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    Events, NOW, TestApp, all_events, cookie_name,
    deployment::{blocking, empty_database},
    events, next,
};

const JSON: (&str, &str) = ("accept", "application/json");
const SSE: (&str, &str) = ("accept", "text/event-stream");
const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn json_page(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Value {
    let response = app.get_with(path, &[&[JSON], headers].concat()).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.expect("JSON")
}

fn names(page: &Value) -> Vec<&str> {
    let streams = page["streams"].as_array().expect("streams");
    streams.iter().map(|stream| stream["name"].as_str().expect("a name")).collect()
}

async fn follow(app: &TestApp, cursor: &str) -> Events {
    follow_with(app, &[("last-event-id", cursor)]).await
}

async fn follow_with(app: &TestApp, headers: &[(&str, &str)]) -> Events {
    events(app.get_with("/streams", &[&[SSE], headers].concat()).await)
}

/// The stream in an event.
fn stream(event: &Event) -> Value {
    assert_eq!(event.event, "stream", "{event:?}");
    serde_json::from_str(&event.data).expect("JSON")
}

/// What a list says first: the names, and the cursor after them.
async fn listed(list: &mut Events) -> (Vec<String>, String) {
    let mut names = Vec::new();
    loop {
        let event = next(list).await;
        if event.event == "listed" {
            return (names, event.id);
        }
        names.push(stream(&event)["name"].as_str().expect("a name").to_owned());
    }
}

/// The next event about a stream that `is_it` accepts, with its cursor.
async fn until(list: &mut Events, is_it: impl Fn(&Value) -> bool) -> (Value, String) {
    loop {
        let event = next(list).await;
        let stream = stream(&event);
        if is_it(&stream) {
            return (stream, event.id);
        }
    }
}

fn token(name: &str, watch: &[&str], lifetime: u64) -> String {
    let exp = NOW / 1000 + lifetime;
    let claims = json!({ "name": name, "publish": ["*"], "watch": watch, "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

fn vary(response: &Response) -> String {
    let values = response.headers().get_all(header::VARY).iter();
    values.map(|value| value.to_str().expect("text")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_format_follows_the_accept_header() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "hello").await;
    for (accept, content_type) in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("image/png", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json, text/html;q=0.5", "text/html; charset=utf-8"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
    ] {
        let response = app.get_with("/streams", &[("accept", accept)]).await;
        assert_eq!(response.headers()["content-type"], content_type, "{accept}");
        assert!(vary(&response).contains("accept"), "{accept}");
    }
    // A stream may have any name.
    assert_eq!(app.get("/streams/events").await.status(), StatusCode::OK);
    for (accept, query) in
        [(JSON, "?before=a"), (JSON, "?limit=0"), (JSON, "?after=A"), (SSE, "?after=a")]
    {
        let refused = app.get_with(&format!("/streams{query}"), &[accept]).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(vary(&refused).contains("accept"));
        let problem: Value = refused.json().await.expect("a problem");
        assert_eq!(problem["type"], "/problems#malformed-query", "{query}");
    }
    let cursor = app.get_with("/streams?last_event_id=x", &[SSE]).await;
    let problem: Value = cursor.json().await.expect("a problem");
    assert_eq!(problem["type"], "/problems#malformed-cursor");
}

#[tokio::test]
async fn pages_of_json_are_in_the_order_of_names() {
    let app = TestApp::start(&[]).await;
    assert_eq!(json_page(&app, "/streams", &[]).await, json!({ "streams": [], "next": null }));
    for name in ["d", "a", "c", "b", "e"] {
        app.publish(name, &format!("to \"{name}\"\n{}", "x".repeat(500))).await;
    }
    app.end("b").await;
    let _watcher = app.watch("a", "").await;

    let response = app.get_with("/streams?limit=2", &[JSON]).await;
    assert_eq!(response.headers()["link"], "</streams?after=b&limit=2>; rel=\"next\"");
    let first: Value = response.json().await.expect("JSON");
    assert_eq!((names(&first), &first["next"]), (vec!["a", "b"], &json!("b")));
    let [a, b] = [&first["streams"][0], &first["streams"][1]];
    let text: String = format!("to \"a\"\n{}", "x".repeat(500)).chars().take(200).collect();
    assert_eq!(
        (&a["state"], &a["messages"], &a["watchers"]),
        (&json!("open"), &json!(1), &json!(1))
    );
    assert_eq!(a["last"]["data"], text);
    assert!(a["last"]["at"].as_str().expect("text").starts_with("2025-11-23T09:47:"));
    assert_eq!((&b["state"], &b["last"]["data"]), (&json!("ended"), &json!("End of the stream")));
    let second = json_page(&app, "/streams?limit=2&after=b", &[]).await;
    assert_eq!((names(&second), &second["next"]), (vec!["c", "d"], &json!("d")));
    let third = json_page(&app, "/streams?limit=2&after=d", &[]).await;
    assert_eq!((names(&third), &third["next"]), (vec!["e"], &Value::Null));
    // A name that does not exist is a place too.
    assert_eq!(names(&json_page(&app, "/streams?after=b0", &[]).await), ["c", "d", "e"]);
}

#[tokio::test]
async fn the_live_list_says_what_there_is_and_then_what_changes() {
    let app = TestApp::start(&[]).await;
    app.publish("old", "1").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    app.publish("new", "1").await;
    let mut list = follow(&app, "").await;
    let (names, cursor) = listed(&mut list).await;
    assert_eq!(names, ["new", "old"], "newest activity first");

    app.publish("old", "2").await;
    let (old, _) = until(&mut list, |stream| stream["messages"] == 2).await;
    assert_eq!((&old["name"], &old["last"]["data"]), (&json!("old"), &json!("2")));
    let watcher = app.watch("new", "").await;
    until(&mut list, |stream| stream["watchers"] == 1).await;
    drop(watcher);
    until(&mut list, |stream| stream["watchers"] == 0).await;
    app.publish("third", "1").await;
    until(&mut list, |stream| stream["name"] == "third").await;
    app.end("third").await;
    let (_, before_deletion) = until(&mut list, |stream| stream["state"] == "ended").await;
    app.delete("third").await;
    let deleted = next(&mut list).await;
    assert_eq!((deleted.event.as_str(), deleted.data.as_str()), ("deleted", "third"));

    // Any cursor of this list continues it: with the last state of what has changed since.
    let mut resumed = follow(&app, &before_deletion).await;
    assert_eq!(next(&mut resumed).await.event, "deleted");
    drop(resumed);
    let mut resumed = follow(&app, &cursor).await;
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let event = next(&mut resumed).await;
        let name =
            if event.event == "stream" { stream(&event)["name"].to_string() } else { event.data };
        kinds.push((event.event, name));
    }
    let expected = [("stream", "\"old\""), ("stream", "\"new\""), ("deleted", "third")]
        .map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(kinds, expected);
    let mut up_to_date = follow(&app, &deleted.id).await;
    app.publish("fourth", "1").await;
    assert_eq!(stream(&next(&mut up_to_date).await)["name"], "fourth");

    let latest = app.get_with("/streams?last_event_id=latest", &[SSE]).await;
    let mut latest = events(latest);
    app.publish("fifth", "1").await;
    assert_eq!(stream(&next(&mut latest).await)["name"], "fifth");
    drop((list, resumed, up_to_date, latest));
    app.wait_until_no_stream_is_open().await;
    let metrics = app.client.get(&app.metrics).send().await.expect("a response");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("tidings_watchers{kind=\"list\"} 0"), "{metrics}");
}

#[tokio::test]
async fn an_unknown_cursor_of_the_list_is_a_reset() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "1").await;
    let (_, cursor) = listed(&mut follow(&app, "").await).await;
    let (epoch, version) = cursor.split_once('-').expect("a cursor");
    let future = format!("{epoch}-{}", version.parse::<u64>().expect("a version") + 1);
    for unknown in ["7-1", "rubbish", &future] {
        let mut list = follow(&app, unknown).await;
        let reset = next(&mut list).await;
        assert_eq!(reset.event, "reset", "{unknown}");
        assert_eq!(reset.data, r#"{"reason":"unknown-cursor","oldest":null}"#);
        assert_eq!(listed(&mut list).await, (vec!["news".to_owned()], cursor.clone()));
    }
}

#[tokio::test]
async fn the_page_carries_the_cursor_of_the_list() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "1").await;
    let html = app.get("/streams").await.text().await.expect("text");
    let (_, rest) = html.split_once("\"cursor\":\"").expect("a cursor");
    let cursor = rest.split('"').next().expect("a cursor");
    app.publish("other", "1").await;
    let mut list = events(app.get_with(&format!("/streams?last_event_id={cursor}"), &[SSE]).await);
    assert_eq!(stream(&next(&mut list).await)["name"], "other");
}

/// More than a batch of frames.
#[tokio::test]
async fn a_long_list_is_complete_while_it_changes() {
    let app = TestApp::start(&[]).await;
    let mut expected: Vec<_> = (0..400).map(|n| format!("stream-{n:03}")).collect();
    for name in &expected {
        app.publish(name, &"x".repeat(200)).await;
    }
    let mut list = follow(&app, "").await;
    let mut first = Some(next(&mut list).await);
    app.publish("stream-000", "changed").await;
    app.delete("stream-001").await;
    let mut seen = std::collections::BTreeMap::new();
    loop {
        let event = match first.take() {
            Some(event) => event,
            None => next(&mut list).await,
        };
        match event.event.as_str() {
            "stream" => {
                let stream = stream(&event);
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                seen.insert(text(&stream["name"]), text(&stream["last"]["data"]));
            }
            "deleted" => drop(seen.remove(&event.data)),
            _ => assert_eq!(event.event, "listed"),
        }
        if seen.get("stream-000").is_some_and(|text| text == "changed")
            && !seen.contains_key("stream-001")
            && seen.len() == 399
        {
            break;
        }
    }
    expected.remove(1);
    assert!(seen.keys().eq(&expected));
}

#[tokio::test]
async fn a_list_has_what_its_reader_may_watch() {
    let app = TestApp::start(&["--secret", SECRET, "--public", "open-*"]).await;
    let all = format!("Bearer {}", token("all", &["*"], 3600));
    let some = format!("Bearer {}", token("some", &["mine-*"], 3600));
    let publish = async |stream: &str| {
        let request = app.client.post(format!("{}/streams/{stream}", app.url)).body("text");
        let response = request.header("authorization", &all).send().await.expect("a response");
        assert_eq!(response.status(), StatusCode::CREATED);
    };
    for stream in ["mine-1", "open-1", "other-1"] {
        publish(stream).await;
    }
    for (authorization, expected) in [
        (None, vec!["open-1"]),
        (Some(&some), vec!["mine-1", "open-1"]),
        (Some(&all), vec!["mine-1", "open-1", "other-1"]),
    ] {
        let headers: Vec<_> =
            authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        assert_eq!(names(&json_page(&app, "/streams", &headers).await), expected);
        let page = json_page(&app, "/streams?limit=1", &headers).await;
        assert_eq!(page["next"].is_null(), expected.len() == 1);
        let (mut names, _) = listed(&mut follow_with(&app, &headers).await).await;
        names.sort();
        assert_eq!(names, expected);
    }
    let mut list = follow_with(&app, &[("authorization", &some)]).await;
    let (_, cursor) = listed(&mut list).await;
    publish("other-2").await;
    publish("mine-2").await;
    assert_eq!(stream(&next(&mut list).await)["name"], "mine-2");

    // With other rights there are other streams: the cursor is of no use.
    let mut other = follow_with(&app, &[("last-event-id", &cursor)]).await;
    assert_eq!(next(&mut other).await.event, "reset");
    assert_eq!(listed(&mut other).await.0, ["open-1"]);
    let again = [("last-event-id", cursor.as_str()), ("authorization", some.as_str())];
    assert_eq!(stream(&next(&mut follow_with(&app, &again).await).await)["name"], "mine-2");

    // A token that is not valid gets nothing, not what is public.
    for accept in [JSON, SSE] {
        let refused = app.get_with("/streams", &[accept, ("authorization", "Bearer x")]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    let cookie = format!("{}=x", cookie_name(SECRET));
    let expired = all_events(app.get_with("/streams", &[SSE, ("cookie", &cookie)]).await).await;
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].data, r#"{"reason":"expired","oldest":null}"#);
}

#[tokio::test]
async fn a_list_ends_with_its_token() {
    let app = TestApp::start(&["--secret", SECRET]).await;
    let short = format!("Bearer {}", token("short", &["*"], 2));
    let response = app.get_with("/streams", &[SSE, ("authorization", &short)]).await;
    let received = all_events(response).await;
    let kinds: Vec<_> = received.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(kinds, ["listed", "reset"]);
    assert!(received[1].data.contains("expired"), "{received:?}");
}

#[tokio::test]
async fn a_list_counts_as_a_watcher_and_ends_with_the_server() {
    let app = TestApp::start(&["--max-watchers-per-address", "1"]).await;
    let mut list = follow(&app, "").await;
    listed(&mut list).await;
    let refused = app.get_with("/streams", &[SSE]).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(app.open_streams().await, 1);
    let rest = tokio::spawn(async move { list.collect::<Vec<_>>().await });
    app.stop().await;
    assert!(rest.await.expect("no panic").iter().all(Result::is_ok), "it ends at a frame");
}

#[tokio::test]
async fn readers_who_ask_are_told_the_number_of_watchers() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "1").await;
    let path = "/streams/news/events?watchers&last_event_id=latest";
    let mut page = events(app.get(path).await);
    let count = async |events: &mut Events, expected: &str| {
        loop {
            let event = next(events).await;
            assert_eq!((event.event.as_str(), event.id.contains('-')), ("watchers", true));
            if event.data == expected {
                return;
            }
        }
    };
    count(&mut page, "1").await;
    let mut plain = app.watch("news", "latest").await;
    count(&mut page, "2").await;
    let mut other = events(app.get(path).await);
    count(&mut other, "3").await;
    count(&mut page, "3").await;
    app.publish("news", "2").await;
    assert_eq!(next(&mut plain).await.data, "2", "readers who do not ask get what they got before");
    drop((plain, other));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "1") {
        let event = next(&mut page).await;
        if event.event == "watchers" {
            seen.push(event.data);
        }
    }
    assert!(seen.len() <= 2, "numbers are throttled: {seen:?}");
    app.end("news").await;
    let rest: Vec<_> = page.map(|event| event.expect("a valid stream").event).collect().await;
    assert_eq!(rest.last().map(String::as_str), Some("end_event"));
    let refused = app.get("/streams/news/events?watchers=1").await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    app.wait_until_no_stream_is_open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_that_of_all_servers() {
    let Some((_, url)) = blocking(|| empty_database("live_list")).await else { return };
    let one = TestApp::start(&["--data", &url]).await;
    let other = TestApp::start(&["--data", &url]).await;
    let mut list = follow(&one, "").await;
    let (_, cursor) = listed(&mut list).await;
    other.publish("news", "1").await;
    until(&mut list, |stream| stream["name"] == "news").await;
    let _watchers = [one.watch("news", "").await, other.watch("news", "").await];
    until(&mut list, |stream| stream["watchers"] == 2).await;
    // Each server has cursors of its own.
    let mut elsewhere = follow(&other, &cursor).await;
    assert_eq!(next(&mut elsewhere).await.event, "reset");
    assert_eq!(listed(&mut elsewhere).await.0, ["news"]);
    other.delete("news").await;
    assert_eq!(next(&mut list).await.event, "deleted");
}
