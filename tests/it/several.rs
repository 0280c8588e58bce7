//! Several streams on one connection: merging, cursors, resets, ends, rights, and their page.

use std::collections::BTreeMap;

use eventsource_stream::Event;
use futures::StreamExt as _;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    NOW, TestApp, all_events, cookie_name, events, events_with_pings, lines, next,
};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const SECRET: &str = "a secret of a length that is enough";

/// The cursors in an id, the event's own first.
fn cursors(id: &str) -> Vec<(&str, &str)> {
    id.split(',').map(|entry| entry.split_once('=').expect("a name and an id")).collect()
}

/// The stream of an event, and its data.
fn named(event: &Event) -> (&str, &str) {
    (cursors(&event.id)[0].0, &event.data)
}

/// The reason, the stream and the oldest id of a reset.
fn reset(event: &Event) -> (String, String, Value) {
    assert_eq!(event.event, "reset", "{event:?}");
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    let text = |name: &str| data[name].as_str().expect("text").to_owned();
    (text("reason"), text("stream"), data["oldest"].clone())
}

/// Asserts that a response has these events, and no others.
async fn assert_follow(response: Response, expected: &[Event]) {
    let mut events = all_events(response).await;
    for event in &mut events {
        event.retry = None;
    }
    assert_eq!(events, expected);
}

/// Publishes texts, each to the stream that its first letter names, and each later than the one before;
/// returns their ids by text.
async fn publish_all(app: &TestApp, messages: &str) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    for message in messages.split_whitespace() {
        let id = app.publish(&message[..1], message).await;
        ids.insert(message.to_owned(), id);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    ids
}

#[tokio::test]
async fn the_history_is_merged_by_time_and_each_id_resumes_all_streams() {
    let app = TestApp::start(&[]).await;
    let ids = publish_all(&app, "a1 b1 b2 a2 c1 a3 b3").await;
    for name in ["a", "b", "c"] {
        app.end(name).await;
        // The order of what is accepted in the same millisecond is not defined. What is accepted in that in
        // which a reader comes is not history for it.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let mut all = all_events(app.get("/streams/a,b,c/events").await).await;
    for event in &mut all {
        event.retry = None;
    }
    let texts: Vec<_> = all.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(texts[..7], ["a1", "b1", "b2", "a2", "c1", "a3", "b3"]);
    let mut seen = BTreeMap::new();
    for (position, event) in all.iter().enumerate() {
        let cursors = cursors(&event.id);
        seen.insert(cursors[0].0, cursors[0].1);
        assert_eq!(cursors.iter().copied().collect::<BTreeMap<_, _>>(), seen, "{event:?}");
        if let Some(id) = ids.get(&event.data) {
            assert_eq!(cursors[0], (&event.data[..1], id.as_str()), "its own stream is the first");
        } else {
            assert_eq!(event.event, "end_event");
        }
        let headers = [("last-event-id", event.id.as_str())];
        let resumed = app.get_with("/streams/a,b,c/events", &headers).await;
        if position + 1 == all.len() {
            assert_eq!(resumed.status(), StatusCode::NO_CONTENT, "all have ended");
        } else {
            assert_follow(resumed, &all[position + 1..]).await;
        }
        let path = format!("/streams/a,b,c/events?last_event_id={}", event.id);
        assert_follow(app.get(&path).await, &all[position + 1..]).await;
    }
}

/// The wire contract, byte for byte.
#[tokio::test]
async fn the_frames_have_the_documented_bytes() {
    let app = TestApp::start(&[]).await;
    let ids = publish_all(&app, "a1 b1").await;
    app.delete("a").await;
    app.end("b").await;
    let old = format!("a={},b={}", ids["a1"], ids["b1"]);
    let mut reader = app.get_with("/streams/b,a/events", &[("last-event-id", &old)]).await;
    let mut text = String::new();
    while !text.contains("event: end_event") || !text.contains("id: b=") || !text.ends_with("\n\n")
    {
        text += str::from_utf8(&reader.chunk().await.expect("open").expect("more")).expect("UTF-8");
    }
    let end =
        text.split("id: b=").nth(1).expect("the end").split([',', '\n']).next().expect("an id");
    for part in [
        "retry: 15000\n".to_owned(),
        "event: reset\ndata: {\"stream\":\"a\",\"reason\":\"unknown-cursor\",\"oldest\":null}\n\n"
            .to_owned(),
        format!("event: end_event\nid: b={end},a="),
        "\ndata: End of the stream\n\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn new_messages_arrive_with_the_names_of_their_streams() {
    let app = TestApp::start(&[]).await;
    let mut reader = events(app.get("/streams/a,b,c/events").await);
    for message in ["b1", "a1", "c1", "b2"] {
        app.publish(&message[..1], message).await;
        let event = next(&mut reader).await;
        assert_eq!(named(&event), (&message[..1], message));
    }
}

#[tokio::test]
async fn a_first_ping_confirms_the_cursors_when_nothing_follows() {
    let app = TestApp::start(&[]).await;
    let ids = publish_all(&app, "a1 b1").await;
    let mut latest = events_with_pings(app.get("/streams/a,b,c/events?last_event_id=latest").await);
    let ping = next(&mut latest).await;
    assert_eq!(ping.event, "ping");
    let expected = [("a", ids["a1"].as_str()), ("b", &ids["b1"]), ("c", "0-0")];
    assert_eq!(cursors(&ping.id), expected);
    let mut resumed = events_with_pings(
        app.get_with("/streams/a,b,c/events", &[("last-event-id", &ping.id)]).await,
    );
    assert_eq!(next(&mut resumed).await.id, format!("a={},b={}", ids["a1"], ids["b1"]));
    app.publish("c", "c1").await;
    for reader in [&mut latest, &mut resumed] {
        let event = next(reader).await;
        assert_eq!(named(&event), ("c", "c1"));
        assert_eq!(cursors(&event.id)[1..], expected[..2]);
    }
    let nothing = events_with_pings(app.get("/streams/x,y/events").await).next().await;
    assert_eq!(nothing.expect("an event").expect("valid").id, "", "there is no cursor yet");
}

#[tokio::test]
async fn each_stream_is_reset_by_itself() {
    let app = TestApp::start(&[]).await;
    let ids = publish_all(&app, "a1 b1 a2 b2").await;
    let bad = format!("a={},b={}-9", ids["a1"], NOW);
    let mut reader = events(app.get_with("/streams/a,b/events", &[("last-event-id", &bad)]).await);
    let mut received = Vec::new();
    for _ in 0..4 {
        received.push(next(&mut reader).await);
    }
    let position = received.iter().position(|event| event.event == "reset").expect("a reset");
    let oldest = json!(ids["b1"]);
    assert_eq!(reset(&received.remove(position)), ("unknown-cursor".into(), "b".into(), oldest));
    let texts: Vec<_> = received.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(texts, ["b1", "a2", "b2"], "a continues after its cursor");
}

#[tokio::test]
async fn a_deleted_stream_leaves_the_others_as_they_are() {
    let app = TestApp::start(&[]).await;
    publish_all(&app, "a1 b1").await;
    let mut reader = events(app.get("/streams/a,b/events").await);
    for text in ["a1", "b1"] {
        assert_eq!(next(&mut reader).await.data, text);
    }
    app.delete("a").await;
    assert_eq!(reset(&next(&mut reader).await), ("deleted".into(), "a".into(), Value::Null));
    app.publish("b", "b2").await;
    let event = next(&mut reader).await;
    assert_eq!(named(&event), ("b", "b2"));
    app.publish("a", "a of the next generation").await;
    let last = next(&mut reader).await;
    assert_eq!(named(&last), ("a", "a of the next generation"));
    for id in [&event.id, &last.id] {
        let resumed = app.get_with("/streams/a,b/events", &[("last-event-id", id)]).await;
        let first = next(&mut events_with_pings(resumed)).await;
        assert_ne!(first.event, "reset", "{id} is known");
    }
}

#[tokio::test]
async fn the_connection_closes_when_all_streams_have_ended() {
    let app = TestApp::start(&[]).await;
    publish_all(&app, "a1 b1").await;
    let mut reader = events(app.get("/streams/a,b/events").await);
    for text in ["a1", "b1"] {
        assert_eq!(next(&mut reader).await.data, text);
    }
    app.end("a").await;
    let end = next(&mut reader).await;
    assert_eq!((end.event.as_str(), named(&end)), ("end_event", ("a", "End of the stream")));
    app.publish("b", "b2").await;
    assert_eq!(next(&mut reader).await.data, "b2");

    let headers = [("last-event-id", end.id.as_str())];
    let mut resumed = events(app.get_with("/streams/a,b/events", &headers).await);
    assert_eq!(next(&mut resumed).await.data, "b2", "b has not ended");
    app.end("b").await;
    for reader in [&mut reader, &mut resumed] {
        let last = next(reader).await;
        assert_eq!((last.event.as_str(), named(&last).0), ("end_event", "b"));
        assert!(reader.next().await.is_none(), "the server closes");
        let headers = [("last-event-id", last.id.as_str())];
        let again = app.get_with("/streams/a,b/events", &headers).await;
        assert_eq!(again.status(), StatusCode::NO_CONTENT);
    }
    app.wait_until_no_stream_is_open().await;
}

#[tokio::test]
async fn malformed_cursors_are_refused_in_the_query_and_unknown_in_the_header() {
    let app = TestApp::start(&[]).await;
    let ids = publish_all(&app, "a1 b1").await;
    let plain = ids["a1"].clone();
    let twice = format!("a={plain},a={plain}");
    for cursor in [plain.as_str(), "x", "a=1", &twice, "a=1-1;b=1-1", "a=latest"] {
        let response = app.get(&format!("/streams/a,b/events?last_event_id={cursor}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{cursor}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#malformed-cursor", "{cursor}");
        let headers = [("last-event-id", cursor)];
        let mut reader = events(app.get_with("/streams/a,b/events", &headers).await);
        let (mut resets, mut texts) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let event = next(&mut reader).await;
            if event.event == "reset" {
                let (reason, stream, oldest) = reset(&event);
                assert_eq!(
                    (reason.as_str(), &oldest),
                    ("unknown-cursor", &json!(ids[&format!("{stream}1")]))
                );
                resets.push(stream);
            } else {
                texts.push(event.data);
            }
        }
        resets.sort();
        texts.sort();
        assert_eq!((resets, texts), (vec!["a".into(), "b".into()], vec!["a1".into(), "b1".into()]));
    }
    // A reader may leave a stream out, and resume the others.
    let path = format!("/streams/a,c/events?last_event_id=b={},a={plain}", ids["b1"]);
    let mut fewer = events_with_pings(app.get(&path).await);
    assert_eq!(next(&mut fewer).await.id, format!("a={plain}"));
}

#[tokio::test]
async fn names_are_refused_with_a_sentence() {
    let app = TestApp::start(&[]).await;
    let names = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(",");
    for path in ["/events", ""] {
        let response = app.get(&format!("/streams/{}{path}", names(17))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        assert!(response.text().await.expect("text").contains("At most 16 streams"), "{path}");
        for names in ["a,", ",a", "a,,b", "a,B"] {
            let response = app.get(&format!("/streams/{names}{path}")).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{names}{path}");
        }
        let response = app.get(&format!("/streams/{}{path}", names(16))).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    for (method, path) in [
        (Method::POST, "/streams/a,b"),
        (Method::PUT, "/streams/a,b"),
        (Method::POST, "/streams/a,b?lines"),
        (Method::POST, "/streams/a,b/end"),
        (Method::DELETE, "/streams/a,b"),
        (Method::GET, "/streams/a,b/messages"),
    ] {
        let response = app.send(method.clone(), path, "x").await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{method} {path}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#malformed-name", "{method} {path}");
        assert_eq!(
            problem["detail"],
            "Name one stream. Several can be watched together, and nothing else."
        );
    }
    let form = app.post("/api/publish", "stream=a%2Cb&text=x").await;
    assert_eq!(form.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_name_that_is_repeated_counts_once() {
    let app = TestApp::start(&[]).await;
    let id = app.publish("a", "a1").await;
    let mut single = events(app.get("/streams/a,a/events").await);
    assert_eq!(next(&mut single).await.id, id, "one name is the stream itself");
    let mut several = events(app.get("/streams/a,b,a/events").await);
    assert_eq!(next(&mut several).await.id, format!("a={id}"));
    assert!(app.get("/streams/a,a").await.text().await.expect("text").contains("<h1>a</h1>"));
}

/// Messages that are larger than what a reader may hold without a reservation, from memory and from the
/// log.
#[tokio::test]
async fn large_messages_arrive_whole() {
    let app = TestApp::start(&[]).await;
    let large = |name: &str, n: usize| format!("{name}{n}\n").repeat(6_000);
    let mut live = events(app.get("/streams/a,b/events").await);
    let mut expected = Vec::new();
    for n in 1..=4 {
        for name in ["a", "b"] {
            app.publish(name, &large(name, n)).await;
            expected.push((name.to_owned(), large(name, n)));
            app.publish(name, "small").await;
            expected.push((name.to_owned(), "small".to_owned()));
        }
    }
    let mut late = events(app.get("/streams/a,b/events").await);
    for reader in [&mut live, &mut late] {
        let mut received = Vec::new();
        for _ in 0..expected.len() {
            let event = next(reader).await;
            received.push((named(&event).0.to_owned(), event.data));
        }
        for name in ["a", "b"] {
            let of = |all: &[(String, String)]| -> Vec<String> {
                all.iter().filter(|(of, _)| of == name).map(|(_, text)| text.clone()).collect()
            };
            assert!(of(&received) == of(&expected), "{name} differs");
        }
    }
}

/// A reader that takes nothing while one stream floods still gets everything, each stream in order; and
/// the flood does not hold the other stream back.
#[tokio::test]
async fn a_flood_starves_no_other_stream_and_a_slow_reader_loses_nothing() {
    const MESSAGES: usize = 40_000;
    let app = TestApp::start(&[]).await;
    let text = |n: usize| format!("{n:.>300}");
    let mut reader = events(app.get("/streams/flood,quiet/events").await);
    app.publish_lines("flood", lines((0..MESSAGES).map(text))).await;
    app.publish("quiet", "a word").await;
    let (mut flood, mut quiet_after) = (0, None);
    while flood < MESSAGES || quiet_after.is_none() {
        let event = next(&mut reader).await;
        match named(&event) {
            ("flood", data) => {
                assert_eq!(data, text(flood));
                flood += 1;
            }
            other => {
                assert_eq!(other, ("quiet", "a word"));
                quiet_after = Some(flood);
            }
        }
    }
    assert!(quiet_after < Some(MESSAGES), "the quiet stream waited for the end of the flood");
    drop(reader);
    app.wait_until_no_stream_is_open().await;
    let metrics = app.client.get(&app.metrics).send().await.expect("a response").text().await;
    let metrics = metrics.expect("text");
    for gauge in ["tidings_watchers{kind=\"stored\"} 0", "tidings_watched_streams 0"] {
        assert!(metrics.contains(gauge), "no {gauge} in {metrics}");
    }
}

/// A long history of several streams is one log, in the order of time.
#[tokio::test]
async fn a_long_history_is_in_the_order_of_time() {
    let app = TestApp::start(&[]).await;
    for n in 0..40 {
        for name in ["a", "b", "c"] {
            app.publish_lines(name, lines((0..40).map(|m| format!("{name} {n} {m} {:.>100}", ""))))
                .await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    // Nothing is newer than the reader.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let mut reader = events(app.get("/streams/c,b,a/events").await);
    let mut last = 0;
    for n in 0..40 * 40 * 3 {
        let event = next(&mut reader).await;
        let (millis, _) = cursors(&event.id)[0].1.split_once('-').expect("an id");
        let millis: u64 = millis.parse().expect("a number");
        assert!(millis >= last, "message {n}: {event:?} is earlier");
        last = millis;
    }
}

#[tokio::test]
async fn one_permit_is_taken_and_a_drain_closes_the_connection() {
    let app = TestApp::start(&["--max-watchers-per-address", "1"]).await;
    let id = app.publish("a", "a1").await;
    let response = app.get("/streams/a,b,c/events").await;
    assert_eq!(app.open_streams().await, 1);
    let refused = app.get("/streams/b/events").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let reading = tokio::spawn(response.text());
    app.stop().await;
    let text = reading.await.expect("no panic").expect("a complete response");
    let (first, last) = text.split_once("\n\n").expect("two blocks");
    assert_eq!(first, format!("retry: 15000\nevent: new_message\nid: a={id}\ndata: a1"));
    assert!(last.starts_with("retry: ") && last.ends_with("event: ping\ndata: {}\n\n"), "{last}");
}

fn token(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).expect("a token")
}

#[tokio::test]
async fn each_stream_must_be_one_that_the_token_may_watch() {
    let app = TestApp::start(&["--secret", SECRET, "--public", "open-*"]).await;
    let seconds = NOW / 1000;
    let bearer = |watch: &[&str], exp: u64| {
        let claims = json!({ "name": "x", "watch": watch, "publish": ["*"], "exp": seconds + exp });
        ("authorization", format!("Bearer {}", token(&claims)))
    };
    let get = async |path: &str, header: Option<&(&str, String)>| {
        let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        app.get_with(path, &headers).await
    };
    let ci = bearer(&["ci-*"], 3600);
    for (path, header, status) in [
        ("/streams/open-1,open-2/events", None, 200),
        ("/streams/open-1,ci-1/events", None, 401),
        ("/streams/open-1,ci-1,ci-2/events", Some(&ci), 200),
        ("/streams/ci-1,other/events", Some(&ci), 403),
        ("/streams/open-1,open-2", None, 200),
        ("/streams/open-1,ci-1", None, 401),
        ("/streams/ci-1,ci-2", Some(&ci), 200),
        ("/streams/ci-1,other", Some(&ci), 403),
    ] {
        assert_eq!(get(path, header).await.status(), status, "{path}");
    }
    let sign_in = app.get_with("/streams/open-1,ci-1?wall", &[BROWSER]).await;
    let sign_in = sign_in.text().await.expect("text");
    assert!(sign_in.contains("<h1>Sign in</h1>") && !sign_in.contains("role=\"log"), "{sign_in}");
    assert!(sign_in.contains("name=\"to\" value=\"/streams/open-1,ci-1?wall\""), "{sign_in}");
    let cookie = format!("{}=", cookie_name(SECRET));
    let expired = app.get_with("/streams/open-1,ci-1/events", &[("cookie", &cookie)]).await;
    assert_eq!(all_events(expired).await[0].data, r#"{"reason":"expired","oldest":null}"#);

    // The right for one of them expires.
    let soon = bearer(&["ci-1"], 40);
    let watching = get("/streams/open-1,ci-1/events", Some(&soon)).await;
    let reading = tokio::spawn(all_events(watching));
    tokio::time::pause();
    let received = reading.await.expect("no panic");
    tokio::time::resume();
    let data: Vec<_> = received.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, [r#"{"reason":"expired","oldest":null}"#]);
}

/// The part of a text between two others.
fn between<'text>(text: &'text str, before: &str, after: &str) -> &'text str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {rest}")).0
}

#[tokio::test]
async fn the_page_shows_the_newest_messages_of_each_and_resumes_after_them() {
    let app = TestApp::start(&["--base-path", "/t"]).await;
    for message in ["a1", "b1", "a2"] {
        let path = format!("/t/streams/{}", &message[..1]);
        app.post(&path, message).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    app.post("/t/streams/b/end", "the end of b").await;
    let html = app.get_with("/t/streams/b,a,c", &[BROWSER]).await.text().await.expect("text");
    let log = between(&html, r#"role="log""#, "</ol>");
    let rows: Vec<_> = log
        .split("<li ")
        .skip(1)
        .filter(|row| !row.contains("class=\"day\""))
        .map(|row| (between(row, "data-stream=\"", "\""), between(row, "dir=\"auto\">", "</p>")))
        .collect();
    assert_eq!(rows, [("1", "a1"), ("0", "b1"), ("1", "a2"), ("0", "the end of b")]);
    assert!(log.contains(r#"<a class="from" href="/t/streams/a">a</a>"#), "{log}");
    assert!(log.contains(r#"href="/t/streams/a?at="#), "{log}");
    assert_eq!(between(&html, "<title>", "</title>"), "b, a, c · Tidings");
    assert!(html.contains(r#"data-page="/t/streams/b,a,c""#), "{html}");
    assert!(!html.contains("<textarea") && !html.contains("<form"), "nothing is published here");
    assert!(html.contains("curl -N ") && html.contains("/t/streams/b,a,c/events</code>"), "{html}");

    let json = between(&html, r#"<script id="snapshot" type="application/json">"#, "</script>");
    let snapshot: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(snapshot["events"], "/t/streams/b,a,c/events");
    assert_eq!(snapshot["pages"], json!(["/t/streams/b", "/t/streams/a", "/t/streams/c"]));
    let merged = snapshot["messages"].as_array().expect("messages");
    let last = |stream: u64| {
        let of = merged
            .iter()
            .rev()
            .find(|message| message["stream"].as_u64().unwrap_or_default() == stream);
        of.expect("a message")["id"].as_str().expect("an id")
    };
    assert_eq!(merged.last().expect("the end")["end"], true);
    let path = format!("/t/streams/b,a,c/events?last_event_id=b={},a={}", last(0), last(1));
    let mut reader = events(app.get(&path).await);
    app.post("/t/streams/c", "c1").await;
    assert_eq!(named(&next(&mut reader).await), ("c", "c1"), "no gap, no repeat");
}

#[tokio::test]
async fn each_stream_has_its_share_of_a_page() {
    let app = TestApp::start(&[]).await;
    app.publish("quiet", "long ago").await;
    for n in 0..200 {
        app.publish("busy", &format!("busy {n}")).await;
    }
    let html = app.get("/streams/busy,quiet").await.text().await.expect("text");
    let log = between(&html, r#"role="log""#, "</ol>");
    assert_eq!(log.matches(r#"<li class="message""#).count(), 51);
    assert!(log.contains("long ago") && log.contains("busy 150") && !log.contains("busy 149"));
}

#[tokio::test]
async fn the_layout_is_in_the_address() {
    let app = TestApp::start(&[]).await;
    app.publish("a", "a1").await;
    for (path, present, absent) in [
        (
            "/streams/a,b",
            &["<header class=\"masthead\"", "Side by side", "?wall\""][..],
            &["data-columns", "<form"][..],
        ),
        (
            "/streams/a,b?side-by-side",
            &[
                "data-columns=\"2\"",
                "aria-label=\"Columns\"",
                ">Merged<",
                "?wall&amp;side-by-side\"",
            ],
            &[],
        ),
        ("/streams/a?side-by-side", &["<h1>a</h1>"], &["data-columns"]),
        (
            "/streams/a,b?embed",
            &["embedded several", "data-page=\"/streams/a,b?embed\""],
            &["masthead", "<footer", "wall"],
        ),
        (
            "/streams/a,b?wall",
            &["embedded wall several", "Leave the wall", "data-page=\"/streams/a,b?wall\""],
            &["masthead", "<footer", "<form", "<textarea"],
        ),
        (
            "/streams/a,b?wall&side-by-side&view=log",
            &[
                "data-columns=\"2\"",
                "data-page=\"/streams/a,b?wall&amp;side-by-side\"",
                "data-view=\"log\"",
            ],
            &["masthead"],
        ),
        (
            "/streams/a?wall",
            &["embedded wall\"", "Leave the wall", "role=\"status\""],
            &["masthead", "<footer", "<form", "<textarea"],
        ),
    ] {
        let response = app.get_with(path, &[BROWSER]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let html = response.text().await.expect("text");
        let body = &html[html.find("<body").expect("a body")..];
        for text in present {
            assert!(html.contains(text), "{path}: no {text} in {html}");
        }
        for text in absent {
            assert!(!body.contains(text), "{path}: {text} in {body}");
        }
        assert!(!html.contains(" style="), "{path}");
    }
    for query in ["at=1-1", "before=1-1"] {
        let response = app.get(&format!("/streams/a,b?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
    }
}
