//! Event streams over plain HTTP/1.1, whose connections leave hyper: what follows on them, and how a
//! watcher gets from the log to the fan-out and back.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{NOW, TestApp, events, lines, next};

const SECRET: &str = "a secret of a length that is enough";

/// More than the buffers of a socket and the newest messages that are held in memory.
const MANY: usize = 60_000;

/// A connection without an HTTP client.
struct Raw {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    async fn connect(app: &TestApp) -> Self {
        let address = app.address().parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        // Small, so that a client that does not read is noticed soon.
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        Self { socket: socket.connect(address).await.expect("a connection"), received: vec![] }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.expect("a connection");
    }

    async fn request(&mut self, target: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    }

    /// Reads until this text has arrived; returns everything up to its end.
    async fn read_to(&mut self, text: &str) -> String {
        loop {
            let found = self.received.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(start) = found {
                let read: Vec<u8> = self.received.drain(..start + text.len()).collect();
                return String::from_utf8(read).expect("UTF-8");
            }
            let read = timeout(Duration::from_mins(1), self.socket.read_buf(&mut self.received));
            let length = read.await.expect("more in time").expect("a connection");
            assert!(length > 0, "closed after {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Waits until the server closes the connection; returns what it has sent before.
    async fn read_to_end(mut self) -> String {
        let read = self.socket.read_to_end(&mut self.received);
        timeout(Duration::from_mins(1), read).await.expect("an end in time").expect("no reset");
        String::from_utf8(self.received).expect("UTF-8")
    }
}

/// The data of a response in chunks, up to the end.
fn from_chunks(mut body: &str) -> String {
    let mut data = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").expect("the head of a chunk");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let (chunk, rest) = rest.split_at(length);
        body = rest.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            assert_eq!(body, "", "nothing follows the end");
            return data;
        }
        data += chunk;
    }
}

#[tokio::test]
async fn a_response_in_chunks_ends_with_the_stream() {
    let app = TestApp::start(&[]).await;
    app.publish("s", "before").await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/streams/s/events").await;
    let head = raw.read_to("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for name in ["date", "x-request-id", "content-type", "cache-control", "x-accel-buffering"] {
        assert_eq!(head.matches(&format!("\r\n{name}: ")).count(), 1, "{name} in {head}");
    }
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    let first = raw.read_to("data: before\n\n\r\n").await;
    app.publish("s", "after").await;
    let second = raw.read_to("data: after\n\n\r\n").await;
    app.end("s").await;
    let rest = raw.read_to_end().await;
    let text = from_chunks(&format!("{first}{second}{rest}"));
    let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data[..2], ["before", "after"]);
    assert!(text.contains("event: end_event\n"));
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn a_connection_may_have_answered_other_requests_before() {
    let app = TestApp::start(&[]).await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/health/live").await;
    raw.read_to("\r\n\r\n").await;
    raw.send("HEAD /streams/s/events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = raw.read_to("\r\n\r\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    app.wait_until_no_stream_is_open().await;
    // Both at once: the second one is answered after the first.
    let twice = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /streams/s/events HTTP/1.1\r\nhost: x\r\n\r\n";
    raw.send(twice).await;
    let both = raw.read_to("event: ping\ndata: {}\n\n").await;
    assert_eq!(both.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{both}");
    app.publish("s", "message").await;
    raw.read_to("data: message\n\n").await;
    drop(raw);
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_yet_is_not_lost() {
    const ANSWERS: usize = 40;
    let app = TestApp::start(&["--open"]).await;
    app.publish_lines("long", lines((0..1000).map(|n| format!("{n:.>200}")))).await;
    let mut raw = Raw::connect(&app).await;
    let request = |path: &str| format!("GET /streams/{path} HTTP/1.1\r\nhost: x\r\n\r\n");
    // More than the buffers of the sockets hold.
    raw.send(&(request("long/messages?limit=1000").repeat(ANSWERS) + &request("s/events"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = raw.read_to("event: ping\ndata: {}\n\n").await;
    assert_eq!(all.matches("HTTP/1.1 200 OK\r\n").count(), ANSWERS + 1);
    assert_eq!(all.matches(&format!("{:.>200}", 999)).count(), ANSWERS);
    app.publish("s", "message").await;
    raw.read_to("data: message\n\n").await;
    drop(raw);
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn what_a_client_sends_on_is_discarded_within_a_limit() {
    let app = TestApp::start(&[]).await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/streams/s/events").await;
    raw.read_to("event: ping\n").await;
    for n in 0..10 {
        raw.request("/health/live").await;
        app.publish("s", &n.to_string()).await;
        let sent = raw.read_to(&format!("data: {n}\n\n")).await;
        assert!(!sent.contains("HTTP/1.1"), "{sent}");
    }
    assert_eq!(app.open_streams().await, 1);
    // It may be closed before all of it is sent.
    let _ = raw.socket.write_all(&vec![b'x'; 64 * 1024]).await;
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn http_1_0_has_no_chunks() {
    let app = TestApp::start(&[]).await;
    let mut raw = Raw::connect(&app).await;
    raw.send("GET /streams/s/events HTTP/1.0\r\nhost: x\r\n\r\n").await;
    let head = raw.read_to("\r\n\r\n").await.to_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    app.publish("s", "message").await;
    let body = raw.read_to("data: message\n\n").await;
    assert!(body.starts_with("retry: "), "{body}");
    app.end("s").await;
    raw.read_to_end().await;
    app.stop().await;
}

/// Out of the newest messages in memory, to the log, and back; several times, because it stops reading
/// again and again.
#[tokio::test]
async fn a_watcher_that_falls_behind_misses_nothing() {
    let app = TestApp::start(&["--open", "--keep-messages=1000000", "--publish-rate=0"]).await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/streams/s/events").await;
    raw.read_to("event: ping\ndata: {}\n\n").await;
    // Keeps up all the time.
    let mut beside = events(app.get("/streams/s/events").await);
    let text = |n: usize| format!("{n:.>150}");
    for round in 0..3 {
        let numbers = round * MANY / 3..(round + 1) * MANY / 3;
        app.publish_lines("s", lines(numbers.clone().map(text))).await;
        for n in numbers.clone() {
            assert_eq!(next(&mut beside).await.data, text(n));
        }
        for n in numbers {
            // The head of the next chunk may lie before it.
            let frame = raw.read_to(&format!("data: {}\n\n", text(n))).await;
            assert_eq!(frame.matches("event: new_message\n").count(), 1, "before {n}: {frame}");
        }
        app.publish("s", &format!("round {round}")).await;
        raw.read_to(&format!("data: round {round}\n\n")).await;
        assert_eq!(next(&mut beside).await.data, format!("round {round}"));
    }
    drop((raw, beside));
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

/// More watchers than one group has, which come and go while messages are published. They get the last one
/// although nothing follows it.
#[tokio::test]
async fn every_watcher_of_many_gets_every_message_once() {
    let app = TestApp::start(&["--open", "--max-watchers-per-address=1000"]).await;
    app.publish("s", "0").await;
    let mut crowd = Vec::new();
    for n in 1..=300 {
        crowd.push((n, events(app.get("/streams/s/events?last_event_id=latest").await)));
        if n % 3 == 0 {
            app.publish("s", &n.to_string()).await;
        }
        if n % 7 == 0 {
            drop(crowd.swap_remove(n % crowd.len()));
        }
    }
    for (joined, events) in &mut crowd {
        for n in (1..=300).filter(|n| n % 3 == 0 && n >= joined) {
            assert_eq!(next(events).await.data, n.to_string(), "of the watcher {joined}");
        }
    }
    app.end("s").await;
    for (joined, mut events) in crowd {
        assert_eq!(next(&mut events).await.event, "end_event", "of the watcher {joined}");
    }
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

/// A reader that stalls, and takes the rest at the moment when a message arrives for all.
#[tokio::test]
async fn a_reader_that_takes_the_rest_hides_no_message_from_others() {
    let app = TestApp::start(&["--open", "--keep-messages=1000000"]).await;
    let mut stalling = Raw::connect(&app).await;
    stalling.request("/streams/s/events").await;
    stalling.read_to("event: ping\n").await;
    let mut other = events(app.get("/streams/s/events").await);
    for round in 0..100 {
        let text = format!("{round:x>12000}");
        for _ in 0..8 {
            app.publish("s", &text).await;
            assert_eq!(next(&mut other).await.data, text);
        }
        let last = format!("last {round}");
        let reading = async {
            stalling.read_to(&format!("data: {text}\n\n")).await;
        };
        let (id, ()) = tokio::join!(app.publish("s", &last), reading);
        let event = next(&mut other).await;
        assert_eq!((event.data, event.id), (last, id), "nothing follows it");
    }
    drop((stalling, other));
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

/// The first message is larger than what a reader may hold without a reservation.
#[tokio::test]
async fn the_number_of_watchers_follows_a_large_first_message() {
    let app = TestApp::start(&["--open"]).await;
    let large = "x".repeat(40 * 1024);
    app.publish("s", &large).await;
    let mut page = events(app.get("/streams/s/events?watchers").await);
    assert_eq!(next(&mut page).await.data, large);
    let count = next(&mut page).await;
    assert_eq!((count.event.as_str(), count.data.as_str()), ("watchers", "1"));
    let small = "y".repeat(100);
    app.publish("s", &large).await;
    app.publish("s", &small).await;
    assert_eq!(next(&mut page).await.data, large, "live");
    assert_eq!(next(&mut page).await.data, small);
    drop(page);
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_no_watcher_any_more() {
    let app = TestApp::start(&[]).await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/streams/s/events").await;
    raw.read_to("event: ping\n").await;
    assert_eq!(app.open_streams().await, 1);
    raw.socket.shutdown().await.expect("a connection");
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_the_response() {
    let app = TestApp::start(&[]).await;
    let mut raw = Raw::connect(&app).await;
    raw.request("/streams/s/events").await;
    raw.read_to("data: {}\n\n\r\n").await;
    app.shutdown.begin();
    let rest = from_chunks(&raw.read_to_end().await);
    assert!(rest.starts_with("retry: ") && rest.ends_with("\nevent: ping\ndata: {}\n\n"), "{rest}");
    app.stop().await;
}

/// The stream is left, deleted, and watched again before what served it before has noticed.
#[tokio::test]
async fn a_stream_that_is_watched_again_begins_anew() {
    let app = TestApp::start(&["--open"]).await;
    for round in 0..50 {
        let mut raw = Raw::connect(&app).await;
        raw.request("/streams/s/events").await;
        raw.read_to("event: ping\n").await;
        app.publish("s", &format!("old {round}")).await;
        raw.read_to(&format!("data: old {round}\n\n")).await;
        app.delete("s").await;
        drop(raw);
        let mut raw = Raw::connect(&app).await;
        raw.request("/streams/s/events").await;
        app.publish("s", &format!("new {round}")).await;
        let seen = raw.read_to(&format!("data: new {round}\n\n")).await;
        assert!(!seen.contains("old"), "{seen}");
        app.delete("s").await;
    }
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}

/// Its token expires while it does not read: nothing that was not on its way follows.
#[tokio::test]
async fn a_reader_that_stalls_gets_no_message_after_its_token_has_expired() {
    let app = TestApp::start(&["--secret", SECRET]).await;
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = |seconds: u64| {
        let exp = NOW / 1000 + seconds;
        let claims = json!({ "name": "x", "watch": ["*"], "publish": ["*"], "exp": exp });
        jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
    };
    let (authorization, reader) = (format!("Bearer {}", token(3600)), token(3));
    let mut raw = Raw::connect(&app).await;
    raw.send(&format!(
        "GET /streams/s/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {reader}\r\n\r\n"
    ))
    .await;
    raw.read_to("event: ping\n").await;
    let publish = async |text: String| {
        let request = app.client.post(format!("{}/streams/s?lines", app.url));
        let request = request.header("authorization", &authorization).body(text);
        assert!(request.send().await.expect("a response").status().is_success());
    };
    publish(lines((0..MANY).map(|n| format!("{n:.>150}")))).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    publish(lines(std::iter::once("too late".to_owned()))).await;
    let rest = raw.read_to_end().await;
    assert!(rest.contains("\ndata: {\"reason\":\"expired\",\"oldest\":null}\n\n"));
    assert!(!rest.contains("too late"));
    app.wait_until_no_stream_is_open().await;
    app.stop().await;
}
