//! The request log: one line per request, as text and as JSON, without secrets.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::{Client, Method};
use serde_json::Value;

use crate::support::{
    built_site, events, next,
    process::{Server, start_refused, tidings},
};

/// A secret that must not appear in the log or in a response, wherever it was sent.
const SECRET: &str = "s3cr3t-marker-7f1d";

/// A server whose log is read when it has stopped.
struct LoggedServer {
    server: Server,
    client: Client,
    _site: tempfile::TempDir,
}

impl LoggedServer {
    fn start(arguments: &[&str]) -> Self {
        let site = built_site();
        let server = Server::start(site.path(), arguments);
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { server, client, _site: site }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Sends a request, and returns the status and the request id of the response.
    async fn send(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = self.client.request(method, self.url(path)).body(body.to_owned());
        let response = request.send().await.expect("a response");
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        (response.status().as_u16(), id)
    }

    /// Stops the server and returns its whole log.
    fn stop(mut self) -> String {
        let mut output = self.server.process.stderr.take().expect("a log");
        // Read in a thread, because a full pipe would make the server drop lines.
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            output.read_to_string(&mut log).expect("text");
            log
        });
        self.server.signal("TERM");
        self.server.process.wait().expect("an end");
        log.join().expect("a log")
    }
}

/// The lines of a JSON log that have this request id.
fn lines_of<'log>(log: &'log [Value], id: &str) -> Vec<&'log Value> {
    log.iter().filter(|line| line["span"]["id"] == id).collect()
}

#[tokio::test]
async fn every_request_is_logged_in_one_line() {
    let logged = LoggedServer::start(&["--log-format", "json"]);
    let publish = logged.send(Method::POST, "/streams/news", "hello").await;
    let request = logged.client.get(logged.url("/streams/news/events?last_event_id=earliest"));
    let watched = request.send().await.expect("a response");
    let watch = watched.headers()["x-request-id"].to_str().expect("text").to_owned();
    let mut reader = events(watched);
    assert_eq!(next(&mut reader).await.data, "hello");
    let end = logged.send(Method::POST, "/streams/news/end?why", "").await;
    assert_eq!(next(&mut reader).await.event, "end_event");
    drop(reader);
    let conflict = logged.send(Method::POST, "/streams/news?lines", "more").await;
    let malformed = logged.send(Method::GET, "/streams/news/messages?limit=none", "").await;
    let not_found = logged.send(Method::GET, "/not/here", "").await;
    let health = logged.send(Method::GET, "/health/ready", "").await;
    let file = logged.send(Method::GET, "/favicon.svg", "").await;

    let log = logged.stop();
    let log: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (request, status, method, route, level, message, problem) in [
        (&publish, 201, "POST", "/streams/{name}", "INFO", "answered", None),
        (&end, 200, "POST", "/streams/{name}/end", "INFO", "answered", None),
        (&conflict, 409, "POST", "/streams/{name}", "INFO", "refused", Some("stream-ended")),
        (
            &malformed,
            400,
            "GET",
            "/streams/{name}/messages",
            "INFO",
            "refused",
            Some("malformed-query"),
        ),
        (&not_found, 404, "GET", "none", "INFO", "refused", Some("not-found")),
    ] {
        assert_eq!(request.0, status);
        let lines = lines_of(&log, &request.1);
        assert_eq!(lines.len(), 1, "one line for {method} {route}: {lines:?}");
        let (span, fields) = (&lines[0]["span"], &lines[0]["fields"]);
        assert_eq!((&span["method"], &span["route"]), (&method.into(), &route.into()));
        assert_eq!((&lines[0]["level"], &fields["message"]), (&level.into(), &message.into()));
        assert_eq!(fields["status"], status);
        assert!(fields["duration_ms"].as_f64().is_some_and(|millis| millis > 0.0), "{fields}");
        assert_eq!(fields["problem"].as_str(), problem, "{fields}");
    }
    for minor in [&health, &file] {
        assert_eq!((minor.0, lines_of(&log, &minor.1).len()), (200, 0), "not logged at this level");
    }
    let lines = lines_of(&log, &watch);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields = &lines[0]["fields"];
    assert_eq!(lines[0]["span"]["route"], "/streams/{name}/events");
    assert_eq!(fields["message"], "the event stream was closed");
    assert_eq!(
        (&fields["messages"], &fields["why"]),
        (&2.into(), &"the stream has no more events".into())
    );
    assert!(fields["bytes"].as_u64().is_some_and(|bytes| bytes > 60), "{fields}");
}

#[tokio::test]
async fn an_event_stream_is_logged_when_it_closes() {
    let logged = LoggedServer::start(&["--log-format", "json", "--counter-delay", "1h"]);
    let mut ids = Vec::new();
    for path in ["/stream", "/streams/news/events", "/stream"] {
        let response = logged.client.get(logged.url(path)).send().await.expect("a response");
        ids.push(response.headers()["x-request-id"].to_str().expect("text").to_owned());
        if ids.len() < 3 {
            continue;
        }
        // The third stays open until the server stops.
        let mut reader = events(response);
        next(&mut reader).await;
        let log = logged.stop();
        let log: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for (id, why) in ids.iter().zip([
            "the reader disconnected",
            "the reader disconnected",
            "the server is shutting down",
        ]) {
            let lines = lines_of(&log, id);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0]["fields"]["why"], why);
        }
        return;
    }
}

#[tokio::test]
async fn a_line_of_the_text_format_has_the_same_fields() {
    let logged = LoggedServer::start(&[]);
    let (_, id) = logged.send(Method::POST, "/streams/news?lines", "hello").await;
    let log = logged.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&id)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["INFO", "method=\"POST\"", "route=\"/streams/{name}\"", "answered", "status=200"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

#[tokio::test]
async fn a_request_id_of_an_untrusted_client_is_ignored() {
    let logged = LoggedServer::start(&["--log-format", "json"]);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let request = logged.client.get(logged.url("/streams/news/messages"));
        let response = request.header("x-request-id", SECRET).send().await.expect("a response");
        ids.push(response.headers()["x-request-id"].to_str().expect("text").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "each request has its own id");
    assert!(!ids.iter().any(|id| id == SECRET) && !logged.stop().contains(SECRET));
}

/// Whether it is refused or cancelled, it is logged.
#[tokio::test]
async fn an_incomplete_request_is_logged() {
    let logged = LoggedServer::start(&[]);
    let incomplete = b"POST /streams/broken HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nbeg";
    let mut connection = TcpStream::connect(&logged.server.address).expect("a connection");
    connection.write_all(incomplete).expect("sent");
    drop(connection);
    // Later requests are handled after it.
    for _ in 0..20 {
        logged.send(Method::GET, "/health/live", "").await;
    }
    let log = logged.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("method=\"POST\"")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("incomplete-body") || lines[0].contains("gone"), "{}", lines[0]);
}

/// So that the logs of the proxy and the server can be correlated.
#[tokio::test]
async fn a_valid_request_id_of_a_trusted_proxy_is_used() {
    let logged =
        LoggedServer::start(&["--log-format", "json", "--open", "--trusted-proxy", "127.0.0.1/32"]);
    let longest = "x".repeat(64);
    for (id, is_used) in [
        ("Proxy-1.a_b", true),
        (longest.as_str(), true),
        ("with a space", false),
        ("line\tbreak", false),
        (&format!("{longest}x"), false),
        ("", false),
    ] {
        let request = logged.client.get(logged.url("/streams/news/messages"));
        let response = request.header("x-request-id", id).send().await.expect("a response");
        assert_eq!(response.headers()["x-request-id"] == id, is_used, "{id:?}");
    }
    assert!(logged.stop().contains("\"id\":\"Proxy-1.a_b\""));
}

/// Sends raw bytes and returns the response.
fn send_raw(server: &Server, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(&server.address).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    connection.write_all(bytes).expect("sent");
    let mut response = Vec::new();
    // After an invalid request the server closes or resets the connection.
    let _ = connection.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_in_a_response() {
    for format in ["text", "json"] {
        let logged = LoggedServer::start(&["--log", "trace", "--log-format", format]);
        let mut responses = Vec::new();
        for (method, path, name, value) in [
            ("GET", "/streams", "authorization", format!("Bearer {SECRET}")),
            ("POST", "/streams/news", "authorization", format!("Bearer {SECRET}")),
            ("POST", "/streams/Bad", "authorization", format!("Basic {SECRET}")),
            ("GET", "/streams/news", "cookie", format!("tidings={SECRET}; other={SECRET}")),
            ("GET", "/streams/news/messages", "cookie", SECRET.to_owned()),
            ("POST", "/streams/news", "idempotency-key", format!("{SECRET}\u{e9}")),
            ("GET", "/nowhere", "referer", format!("http://x/?token={SECRET}")),
            ("GET", "/streams/news/messages", "last-event-id", SECRET.to_owned()),
            ("DELETE", "/streams/other", "x-request-id", SECRET.to_owned()),
        ] {
            let method: Method = method.parse().expect("a method");
            let request = logged.client.request(method, logged.url(path)).header(name, value);
            responses.push(request.body("hello").send().await.expect("a response"));
        }
        for path in [
            format!("/streams/news/messages?token={SECRET}"),
            format!("/streams/news/messages?limit={SECRET}"),
            format!("/streams/news/messages?after={SECRET}&before={SECRET}"),
            format!("/streams/news/messages?after=1&after={SECRET}"),
            format!("/streams/news/messages?after=%ff{SECRET}"),
            format!("/streams/news/events?last_event_id={SECRET}"),
            format!("/streams/news?before={SECRET}&at={SECRET}"),
            format!("/streams/news?at=%ff&at={SECRET}"),
            format!("/streams/{SECRET}%20/messages"),
            format!("/{SECRET}"),
            format!("/pkg/{SECRET}.js"),
        ] {
            let request = logged.client.get(logged.url(&path)).header("accept", "application/json");
            responses.push(request.send().await.expect("a response"));
        }
        let form = ("content-type", "application/x-www-form-urlencoded");
        for body in [format!("token={SECRET}&to=/"), format!("stream={SECRET}%20&text=x")] {
            let request = logged.client.post(logged.url("/api/publish")).header(form.0, form.1);
            responses.push(request.body(body).send().await.expect("a response"));
        }
        let mut texts = Vec::new();
        for response in responses {
            texts.push(format!("{:?}", response.headers()));
            texts.push(response.text().await.expect("text"));
        }
        for head in [
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\0\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: x\r\n{SECRET} : y\r\n\r\n"),
            format!("GET /{SECRET} HTTP/9.9\r\nhost: x\r\n\r\n"),
            format!("{SECRET}\r\n\r\n"),
            format!("{SECRET} /streams/news HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ] {
            texts.push(send_raw(&logged.server, head.as_bytes()));
        }
        for text in texts {
            assert!(!text.contains(SECRET), "{text}");
        }
        let log = logged.stop();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "everything was logged");
        let line = log.lines().find(|line| line.contains(SECRET));
        assert_eq!(line, None, "in the log ({format})");
    }
}

#[test]
fn a_metrics_port_in_use_is_reported_in_one_line() {
    let site = built_site();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = tidings();
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", &address, "--site-root"]);
    let (output, stderr) = start_refused(command.arg(site.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--metrics-listen"), "{stderr}");
}
