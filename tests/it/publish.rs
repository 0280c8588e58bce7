//! Publishing over time: uploads that go on, connections that break, servers that restart.

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

/// An upload whose pieces are sent one by one.
fn upload() -> (mpsc::Sender<Result<&'static str, std::io::Error>>, Body) {
    let (pieces, body) = mpsc::channel(0);
    (pieces, Body::wrap_stream(body))
}

/// The answer to an upload that is still going on.
fn sent(app: &TestApp, path: &str, body: Body) -> JoinHandle<reqwest::Result<Response>> {
    tokio::spawn(app.client.post(format!("{}{path}", app.url)).body(body).send())
}

/// The same with an idempotency key.
fn sent_with_key(app: &TestApp, key: &str, body: Body) -> JoinHandle<reqwest::Result<Response>> {
    let request = app.client.post(format!("{}/streams/log?lines", app.url));
    tokio::spawn(request.header("idempotency-key", key).body(body).send())
}

/// Sends bytes over a connection of its own and gives back the answer.
async fn raw(app: &TestApp, request: &[u8]) -> String {
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("text")
}

/// Publishes with a key; gives back the id, and whether it is the answer of an earlier request.
async fn with_key(app: &TestApp, key: &str, text: &'static str) -> (String, bool) {
    let request = app.client.post(format!("{}/streams/news", app.url)).body(text);
    let response = request.header("idempotency-key", key).send().await.expect("an answer");
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
async fn the_time_of_a_message_is_that_of_its_id() {
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
async fn lines_are_published_while_the_upload_goes_on() {
    let app = TestApp::start(&[]).await;
    let mut reader = app.watch("log", "").await;
    let (mut pieces, body) = upload();
    let answer = sent(&app, "/streams/log?lines", body);
    for (piece, lines) in [
        ("one\n", ["one"].as_slice()),
        ("tw", &[]),
        ("o", &[]),
        ("\r", &[]),
        ("\nthree\nfo", &["two", "three"]),
        ("ur\n\n\r\nfive \u{e9}\n", &["four", "five \u{e9}"]),
        ("six", &[]),
    ] {
        pieces.send(Ok(piece)).await.expect("sent");
        for line in lines {
            assert_eq!(next(&mut reader).await.data, *line);
        }
    }
    assert!(!answer.is_finished(), "the answer comes at the end of the upload");
    drop(pieces);
    let last = next(&mut reader).await;
    assert_eq!(last.data, "six");
    let answer = answer.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let taken: Value = answer.json().await.expect("JSON");
    assert_eq!((&taken["taken"], &taken["last_id"]), (&6.into(), &last.id.into()));
}

#[tokio::test]
async fn a_line_that_breaks_off_is_not_published() {
    let app = TestApp::start(&[]).await;
    let mut reader = app.watch("log", "").await;
    let (mut pieces, body) = upload();
    let answer = sent(&app, "/streams/log?lines", body);
    pieces.send(Ok("one\nhalf a li")).await.expect("sent");
    assert_eq!(next(&mut reader).await.data, "one");
    pieces.send(Err(std::io::Error::other("the cable is pulled"))).await.expect("sent");
    assert!(answer.await.expect("no panic").is_err());
    app.publish("log", "two").await;
    assert_eq!(next(&mut reader).await.data, "two");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_a_message() {
    let app = TestApp::start(&[]).await;
    for path in ["/streams/news", "/streams/news/end", "/streams/news?lines"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             5\r\nhello\r\nno length\r\n"
        );
        let answer = raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("/problems#incomplete-body"), "{answer}");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_measured_as_it_comes() {
    let app = TestApp::start(&["--max-message-bytes", "10", "--keep-bytes", "10"]).await;
    for (text, status) in [("0123456789", 201), ("0123456789a", 413)] {
        let (mut pieces, body) = upload();
        let answer = sent(&app, "/streams/news", body);
        for piece in text.split_inclusive('5') {
            pieces.send(Ok(piece)).await.expect("sent");
        }
        drop(pieces);
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day_through_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let (first, _) = with_key(&app, "k", "hello").await;
    app.stop().await;

    let app = TestApp::start_on(&file, NOW + DAY - 60_000, &[]).await;
    assert_eq!(with_key(&app, "k", "hello").await, (first.clone(), true), "a minute before");
    app.stop().await;

    let app = TestApp::start_on(&file, NOW + DAY + 60_000, &[]).await;
    let (second, replayed) = with_key(&app, "k", "something else").await;
    assert!(second != first && !replayed, "a minute after");
    assert_eq!(with_key(&app, "k", "something else").await, (second, true));
    assert_eq!(app.log("news").await.len(), 2);
}

#[tokio::test]
async fn retries_at_the_same_moment_are_one_message() {
    let app = TestApp::start(&[]).await;
    let retries = (0..50).map(|_| with_key(&app, "k", "hello"));
    let answers = futures::future::join_all(retries).await;
    let (id, _) = &answers[0];
    assert!(answers.iter().all(|(other, _)| other == id));
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(app.log("news").await, [(id.clone(), "hello".to_owned())]);
}

/// A client that was cut off sends the piece again with its key, whether it was stored or not.
#[tokio::test]
async fn an_upload_is_resumed_in_pieces() {
    let app = TestApp::start(&[]).await;
    let url = format!("{}/streams/log?lines", app.url);
    let send = async |key: &str, body: Body| {
        let request = app.client.post(&url).header("idempotency-key", key).body(body);
        request.send().await.expect("an answer")
    };
    let all: Vec<String> = (0..3_000).map(|n| format!("line {n}")).collect();
    for (n, piece) in all.chunks(1024).enumerate() {
        let key = format!("piece {n}");
        let (mut pieces, body) = upload();
        let cut = sent_with_key(&app, &key, body);
        pieces.send(Ok("line 0\nline 1\n")).await.expect("sent");
        pieces.send(Err(std::io::Error::other("cut"))).await.expect("sent");
        cut.await.expect("no panic").expect_err("it was cut off");
        for replayed in [false, true, true] {
            let answer = send(&key, lines(piece.iter().cloned()).into()).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers().contains_key("idempotency-replayed"), replayed);
            let stored: Value = answer.json().await.expect("JSON");
            assert_eq!(stored["taken"], piece.len());
        }
    }
    let stored: Vec<_> = app.log("log").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(stored, all);

    let too_many = lines((0..1025).map(|n| n.to_string()));
    let too_large = lines((0..20).map(|_| "x".repeat(60_000)));
    for body in [too_many, too_large] {
        let answer = send("all", body.into()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#too-much-for-a-key");
    }
    assert_eq!(app.log("log").await.len(), all.len(), "nothing of it was stored");
}

#[tokio::test]
async fn a_server_that_stops_takes_no_more() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "hello").await;
    let (mut pieces, body) = upload();
    let upload = sent(&app, "/streams/log?lines", body);
    let mut reader = app.watch("log", "").await;
    pieces.send(Ok("one\ntw")).await.expect("sent");
    let one = next(&mut reader).await;

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
    let broken_off = upload.await.expect("no panic").expect("an answer");
    assert_eq!(broken_off.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = broken_off.json().await.expect("JSON");
    assert_eq!((&problem["taken"], &problem["last_id"]), (&1.into(), &one.id.into()));
    let history = app.get("/streams/news/messages").await;
    assert_eq!(history.status(), StatusCode::OK, "who reads is still answered");
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test]
async fn a_form_that_is_sent_again_with_its_key_is_stored_once() {
    let app = TestApp::start(&[]).await;
    let send = async |key: &str, text: &str| {
        let form = app.client.post(format!("{}/api/publish", app.url));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let form = form.header("idempotency-key", key).body(format!("stream=news&text={text}"));
        form.send().await.expect("an answer").status()
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
async fn a_form_is_told_the_limit_of_a_message() {
    let app = TestApp::start(&["--max-message-bytes", "1KiB"]).await;
    // Encoded, a line break takes six bytes.
    for (text, status) in [
        ("%0D%0A".repeat(1024), StatusCode::OK),
        ("%0D%0A".repeat(1025), StatusCode::PAYLOAD_TOO_LARGE),
        ("x".repeat(250_000), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let form = app.client.post(format!("{}/api/publish", app.url));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let answer = form.body(format!("stream=news&text={text}")).send().await.expect("an answer");
        assert_eq!(answer.status(), status);
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let problem: Value = answer.json().await.expect("JSON");
            let detail = problem["detail"].as_str().expect("text");
            assert!(detail.contains("at most 1024 bytes"), "{detail}");
        }
    }
}
