//! Publishing: long uploads, incomplete bodies, idempotency keys, restarts, and forms.

use futures::{SinkExt as _, channel::mpsc};
use reqwest::{Body, Response, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::{NOW, TestApp, lines, next};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// A request body that is sent in parts: the sender, and the body.
fn streaming_body() -> (mpsc::Sender<Result<&'static str, std::io::Error>>, Body) {
    let (parts, body) = mpsc::channel(0);
    (parts, Body::wrap_stream(body))
}

/// Starts a request; its response can be awaited while the body is still being sent.
fn start_post(app: &TestApp, path: &str, body: Body) -> JoinHandle<reqwest::Result<Response>> {
    tokio::spawn(app.client.post(format!("{}{path}", app.url)).body(body).send())
}

/// Starts an upload of lines with an idempotency key.
fn start_upload_with_key(
    app: &TestApp,
    key: &str,
    body: Body,
) -> JoinHandle<reqwest::Result<Response>> {
    let request = app.client.post(format!("{}/streams/log?lines", app.url));
    tokio::spawn(request.header("idempotency-key", key).body(body).send())
}

/// Sends raw bytes on a new connection and returns the response.
async fn send_raw(app: &TestApp, request: &[u8]) -> String {
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(request).await.expect("sent");
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await.expect("a response");
    String::from_utf8(response).expect("text")
}

/// Publishes with an idempotency key; returns the id, and whether the response was replayed.
async fn publish_with_key(app: &TestApp, key: &str, text: &'static str) -> (String, bool) {
    let request = app.client.post(format!("{}/streams/news", app.url)).body(text);
    let response = request.header("idempotency-key", key).send().await.expect("a response");
    assert_eq!(response.status(), StatusCode::CREATED);
    let replayed = response.headers().contains_key("idempotency-replayed");
    let accepted: Value = response.json().await.expect("JSON");
    (accepted["id"].as_str().expect("an id").to_owned(), replayed)
}

#[tokio::test]
async fn a_reader_can_wait_for_a_stream_that_does_not_exist() {
    let app = TestApp::start(&[]).await;
    for cursor in ["", "latest"] {
        let mut reader = app.watch("news", cursor).await;
        let id = app.publish("news", "hello").await;
        let event = next(&mut reader).await;
        assert_eq!((event.event.as_str(), event.data.as_str()), ("new_message", "hello"));
        assert_eq!(event.id, id);
        app.delete("news").await;
    }
}

#[tokio::test]
async fn the_time_of_a_message_is_the_time_in_its_id() {
    let app = TestApp::start(&[]).await;
    let response = app.post("/streams/news", "hello").await;
    let accepted: Value = response.json().await.expect("JSON");
    let (id, at) = (accepted["id"].as_str().expect("text"), accepted["at"].as_str().expect("text"));
    let (millis, _) = id.split_once('-').expect("an id");
    assert!((NOW..NOW + 600_000).contains(&millis.parse().expect("a number")), "{id}");
    assert!(at.starts_with("2025-11-23T09:") && at.ends_with('Z'), "{at}");
    assert_eq!(at[at.len() - 4..at.len() - 1], millis[millis.len() - 3..]);
}

#[tokio::test]
async fn lines_are_published_during_the_upload() {
    let app = TestApp::start(&[]).await;
    let mut reader = app.watch("log", "").await;
    let (mut parts, body) = streaming_body();
    let response = start_post(&app, "/streams/log?lines", body);
    for (part, lines) in [
        ("one\n", ["one"].as_slice()),
        ("tw", &[]),
        ("o", &[]),
        ("\r", &[]),
        ("\nthree\nfo", &["two", "three"]),
        ("ur\n\n\r\nfive \u{e9}\n", &["four", "five \u{e9}"]),
        ("six", &[]),
    ] {
        parts.send(Ok(part)).await.expect("sent");
        for line in lines {
            assert_eq!(next(&mut reader).await.data, *line);
        }
    }
    assert!(!response.is_finished(), "the response comes at the end of the upload");
    drop(parts);
    let last = next(&mut reader).await;
    assert_eq!(last.data, "six");
    let response = response.await.expect("no panic").expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    let result: Value = response.json().await.expect("JSON");
    assert_eq!((&result["taken"], &result["last_id"]), (&6.into(), &last.id.into()));
}

#[tokio::test]
async fn an_incomplete_line_is_not_published() {
    let app = TestApp::start(&[]).await;
    let mut reader = app.watch("log", "").await;
    let (mut parts, body) = streaming_body();
    let response = start_post(&app, "/streams/log?lines", body);
    parts.send(Ok("one\nhalf a li")).await.expect("sent");
    assert_eq!(next(&mut reader).await.data, "one");
    parts.send(Err(std::io::Error::other("the connection is lost"))).await.expect("sent");
    assert!(response.await.expect("no panic").is_err());
    app.publish("log", "two").await;
    assert_eq!(next(&mut reader).await.data, "two");
}

#[tokio::test]
async fn an_incomplete_body_is_not_published() {
    let app = TestApp::start(&[]).await;
    for path in ["/streams/news", "/streams/news/end", "/streams/news?lines"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             5\r\nhello\r\nno length\r\n"
        );
        let response = send_raw(&app, request.as_bytes()).await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains("/problems#incomplete-body"), "{response}");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_limit_applies_to_a_body_of_unknown_length() {
    let app = TestApp::start(&["--max-message-bytes", "10", "--keep-bytes", "10"]).await;
    for (text, status) in [("0123456789", 201), ("0123456789a", 413)] {
        let (mut parts, body) = streaming_body();
        let response = start_post(&app, "/streams/news", body);
        for part in text.split_inclusive('5') {
            parts.send(Ok(part)).await.expect("sent");
        }
        drop(parts);
        let response = response.await.expect("no panic").expect("a response");
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_kept_for_a_day_through_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let (first, _) = publish_with_key(&app, "k", "hello").await;
    app.stop().await;

    let app = TestApp::start_on(&file, NOW + DAY - 60_000, &[]).await;
    assert_eq!(
        publish_with_key(&app, "k", "hello").await,
        (first.clone(), true),
        "a minute before it expires"
    );
    app.stop().await;

    let app = TestApp::start_on(&file, NOW + DAY + 60_000, &[]).await;
    let (second, replayed) = publish_with_key(&app, "k", "something else").await;
    assert!(second != first && !replayed, "a minute after it has expired");
    assert_eq!(publish_with_key(&app, "k", "something else").await, (second, true));
    assert_eq!(app.log("news").await.len(), 2);
}

#[tokio::test]
async fn concurrent_retries_are_one_message() {
    let app = TestApp::start(&[]).await;
    let retries = (0..50).map(|_| publish_with_key(&app, "k", "hello"));
    let results = futures::future::join_all(retries).await;
    let (id, _) = &results[0];
    assert!(results.iter().all(|(other, _)| other == id));
    assert_eq!(results.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(app.log("news").await, [(id.clone(), "hello".to_owned())]);
}

/// A client that was cut off sends the part again with its key, whether it was stored or not.
#[tokio::test]
async fn an_upload_is_resumed_in_parts_with_keys() {
    let app = TestApp::start(&[]).await;
    let url = format!("{}/streams/log?lines", app.url);
    let send = async |key: &str, body: Body| {
        let request = app.client.post(&url).header("idempotency-key", key).body(body);
        request.send().await.expect("a response")
    };
    let all: Vec<String> = (0..3_000).map(|n| format!("line {n}")).collect();
    for (n, part) in all.chunks(1024).enumerate() {
        let key = format!("part {n}");
        let (mut parts, body) = streaming_body();
        let cut = start_upload_with_key(&app, &key, body);
        parts.send(Ok("line 0\nline 1\n")).await.expect("sent");
        parts.send(Err(std::io::Error::other("cut"))).await.expect("sent");
        cut.await.expect("no panic").expect_err("it was cut off");
        for replayed in [false, true, true] {
            let response = send(&key, lines(part.iter().cloned()).into()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers().contains_key("idempotency-replayed"), replayed);
            let stored: Value = response.json().await.expect("JSON");
            assert_eq!(stored["taken"], part.len());
        }
    }
    let stored: Vec<_> = app.log("log").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(stored, all);

    let too_many = lines((0..1025).map(|n| n.to_string()));
    let too_large = lines((0..20).map(|_| "x".repeat(60_000)));
    for body in [too_many, too_large] {
        let response = send("all", body.into()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#too-much-for-a-key");
    }
    assert_eq!(app.log("log").await.len(), all.len(), "no line of them was stored");
}

#[tokio::test]
async fn a_stopping_server_refuses_to_publish() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "hello").await;
    let (mut parts, body) = streaming_body();
    let upload = start_post(&app, "/streams/log?lines", body);
    let mut reader = app.watch("log", "").await;
    parts.send(Ok("one\ntw")).await.expect("sent");
    let first = next(&mut reader).await;

    app.shutdown.begin();
    for (method, path) in [
        ("POST", "/streams/news"),
        ("POST", "/streams/news?lines"),
        ("POST", "/streams/news/end"),
        ("DELETE", "/streams/news"),
    ] {
        let method = method.parse().expect("a method");
        let response = app.send(method, path, "late").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#draining", "{path}");
    }
    let stopped = upload.await.expect("no panic").expect("a response");
    assert_eq!(stopped.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = stopped.json().await.expect("JSON");
    assert_eq!((&problem["taken"], &problem["last_id"]), (&1.into(), &first.id.into()));
    let history = app.get("/streams/news/messages").await;
    assert_eq!(history.status(), StatusCode::OK, "reading is still possible");
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test]
async fn a_form_resent_with_its_key_is_stored_once() {
    let app = TestApp::start(&[]).await;
    let send = async |key: &str, text: &str| {
        let form = app.client.post(format!("{}/api/publish", app.url));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let form = form.header("idempotency-key", key).body(format!("stream=news&text={text}"));
        form.send().await.expect("a response").status()
    };
    for _ in 0..3 {
        assert_eq!(send("k", "hello").await, StatusCode::OK);
    }
    assert_eq!(send("k", "other").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send("", "hello").await, StatusCode::BAD_REQUEST);
    assert_eq!(send("l", "hello").await, StatusCode::OK);
    assert_eq!(app.log("news").await.len(), 2);
}

#[tokio::test]
async fn the_refusal_of_a_large_form_states_the_limit() {
    let app = TestApp::start(&["--max-message-bytes", "1KiB"]).await;
    // A URL-encoded line break takes six bytes.
    for (text, status) in [
        ("%0D%0A".repeat(1024), StatusCode::OK),
        ("%0D%0A".repeat(1025), StatusCode::PAYLOAD_TOO_LARGE),
        ("x".repeat(250_000), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let form = app.client.post(format!("{}/api/publish", app.url));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let response =
            form.body(format!("stream=news&text={text}")).send().await.expect("a response");
        assert_eq!(response.status(), status);
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let problem: Value = response.json().await.expect("JSON");
            let detail = problem["detail"].as_str().expect("text");
            assert!(detail.contains("at most 1024 bytes"), "{detail}");
        }
    }
}
