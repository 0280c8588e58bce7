//! The log: a line for each request, in words and in fields, and nothing in it that is nobody's
//! business.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::{Client, Method};
use serde_json::Value;

use crate::support::{
    built_site, events, next,
    process::{Server, refused, tidings},
};

/// What must not be seen again, wherever it was sent.
const SECRET: &str = "s3cr3t-marker-7f1d";

/// A server whose log is read when it has stopped.
struct Logged {
    server: Server,
    client: Client,
    _site: tempfile::TempDir,
}

impl Logged {
    fn start(arguments: &[&str]) -> Self {
        let site = built_site();
        let server = Server::start(site.path(), arguments);
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { server, client, _site: site }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Asks, and gives back the status and the id of the request.
    async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = self.client.request(method, self.at(path)).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
        (answer.status().as_u16(), id)
    }

    /// Everything that was logged until the end.
    fn stop(mut self) -> String {
        let mut output = self.server.process.stderr.take().expect("a log");
        // It is read meanwhile: a pipe that is full would stop the server.
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

/// The lines of a log in JSON that have this id.
fn of<'log>(log: &'log [Value], id: &str) -> Vec<&'log Value> {
    log.iter().filter(|line| line["span"]["id"] == id).collect()
}

#[tokio::test]
async fn every_request_has_its_line() {
    let logged = Logged::start(&["--log-format", "json"]);
    let publish = logged.ask(Method::POST, "/streams/news", "hello").await;
    let watched = logged.client.get(logged.at("/streams/news/events?last_event_id=earliest"));
    let watched = watched.send().await.expect("an answer");
    let watch = watched.headers()["x-request-id"].to_str().expect("text").to_owned();
    let mut reader = events(watched);
    assert_eq!(next(&mut reader).await.data, "hello");
    let end = logged.ask(Method::POST, "/streams/news/end?why", "").await;
    assert_eq!(next(&mut reader).await.event, "end_event");
    drop(reader);
    let refused = logged.ask(Method::POST, "/streams/news?lines", "more").await;
    let malformed = logged.ask(Method::GET, "/streams/news/messages?limit=none", "").await;
    let lost = logged.ask(Method::GET, "/not/here", "").await;
    let health = logged.ask(Method::GET, "/health/ready", "").await;
    let file = logged.ask(Method::GET, "/favicon.svg", "").await;

    let log = logged.stop();
    let log: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (asked, status, method, route, level, says, problem) in [
        (&publish, 201, "POST", "/streams/{name}", "INFO", "answered", None),
        (&end, 200, "POST", "/streams/{name}/end", "INFO", "answered", None),
        (&refused, 409, "POST", "/streams/{name}", "INFO", "refused", Some("stream-ended")),
        (
            &malformed,
            400,
            "GET",
            "/streams/{name}/messages",
            "INFO",
            "refused",
            Some("malformed-query"),
        ),
        (&lost, 404, "GET", "none", "INFO", "refused", Some("not-found")),
    ] {
        assert_eq!(asked.0, status);
        let lines = of(&log, &asked.1);
        assert_eq!(lines.len(), 1, "one line for {method} {route}: {lines:?}");
        let (span, fields) = (&lines[0]["span"], &lines[0]["fields"]);
        assert_eq!((&span["method"], &span["route"]), (&method.into(), &route.into()));
        assert_eq!((&lines[0]["level"], &fields["message"]), (&level.into(), &says.into()));
        assert_eq!(fields["status"], status);
        assert!(fields["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{fields}");
        assert_eq!(fields["problem"].as_str(), problem, "{fields}");
    }
    for minor in [&health, &file] {
        assert_eq!((minor.0, of(&log, &minor.1).len()), (200, 0), "not worth a line");
    }
    let lines = of(&log, &watch);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields = &lines[0]["fields"];
    assert_eq!(lines[0]["span"]["route"], "/streams/{name}/events");
    assert_eq!(fields["message"], "the event stream was closed");
    assert_eq!((&fields["messages"], &fields["why"]), (&2.into(), &"there is nothing more".into()));
    assert!(fields["bytes"].as_u64().is_some_and(|bytes| bytes > 60), "{fields}");
}

#[tokio::test]
async fn an_event_stream_has_its_line_when_it_closes() {
    let logged = Logged::start(&["--log-format", "json", "--counter-delay", "1h"]);
    let mut ids = Vec::new();
    for path in ["/stream", "/streams/news/events", "/stream"] {
        let answer = logged.client.get(logged.at(path)).send().await.expect("an answer");
        ids.push(answer.headers()["x-request-id"].to_str().expect("text").to_owned());
        if ids.len() < 3 {
            continue;
        }
        // The third stays until the server lets it go.
        let mut reader = events(answer);
        next(&mut reader).await;
        let log = logged.stop();
        let log: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for (id, why) in
            ids.iter().zip(["the reader has gone", "the reader has gone", "the server stops"])
        {
            let lines = of(&log, id);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0]["fields"]["why"], why);
        }
        return;
    }
}

#[tokio::test]
async fn a_line_for_people_says_the_same() {
    let logged = Logged::start(&[]);
    let (_, id) = logged.ask(Method::POST, "/streams/news?lines", "hello").await;
    let log = logged.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&id)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["INFO", "method=\"POST\"", "route=\"/streams/{name}\"", "answered", "status=200"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

#[tokio::test]
async fn ids_are_made_here() {
    let logged = Logged::start(&["--log-format", "json"]);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let request = logged.client.get(logged.at("/streams/news/messages"));
        let answer = request.header("x-request-id", SECRET).send().await.expect("an answer");
        ids.push(answer.headers()["x-request-id"].to_str().expect("text").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "each has its own");
    assert!(!ids.iter().any(|id| id == SECRET) && !logged.stop().contains(SECRET));
}

/// Whatever came of it, there is a line that says so.
#[tokio::test]
async fn a_request_that_breaks_off_has_its_line() {
    let logged = Logged::start(&[]);
    let begun = b"POST /streams/broken HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nbeg";
    let mut connection = TcpStream::connect(&logged.server.address).expect("a connection");
    connection.write_all(begun).expect("sent");
    drop(connection);
    // What is asked afterwards is answered after it.
    for _ in 0..20 {
        logged.ask(Method::GET, "/health/live", "").await;
    }
    let log = logged.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("method=\"POST\"")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("incomplete-body") || lines[0].contains("gone"), "{}", lines[0]);
}

/// So that the logs of both can be read together.
#[tokio::test]
async fn the_id_of_a_trusted_proxy_is_taken_over() {
    let logged =
        Logged::start(&["--log-format", "json", "--open", "--trusted-proxy", "127.0.0.1/32"]);
    let longest = "x".repeat(64);
    for (given, is_taken) in [
        ("Proxy-1.a_b", true),
        (longest.as_str(), true),
        ("with a space", false),
        ("line\tbreak", false),
        (&format!("{longest}x"), false),
        ("", false),
    ] {
        let request = logged.client.get(logged.at("/streams/news/messages"));
        let answer = request.header("x-request-id", given).send().await.expect("an answer");
        assert_eq!(answer.headers()["x-request-id"] == given, is_taken, "{given:?}");
    }
    assert!(logged.stop().contains("\"id\":\"Proxy-1.a_b\""));
}

/// Sends bytes as they are, and gives back what is answered.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(&server.address).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_mins(1))).expect("a time-out");
    connection.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    // An answer to what is not HTTP ends with the connection, at once or broken off.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_secret_is_in_the_log_nor_in_an_answer() {
    for format in ["text", "json"] {
        let logged = Logged::start(&["--log", "trace", "--log-format", format]);
        let mut answers = Vec::new();
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
            let request = logged.client.request(method, logged.at(path)).header(name, value);
            answers.push(request.body("hello").send().await.expect("an answer"));
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
            let request = logged.client.get(logged.at(&path)).header("accept", "application/json");
            answers.push(request.send().await.expect("an answer"));
        }
        let form = ("content-type", "application/x-www-form-urlencoded");
        for body in [format!("token={SECRET}&to=/"), format!("stream={SECRET}%20&text=x")] {
            let request = logged.client.post(logged.at("/api/publish")).header(form.0, form.1);
            answers.push(request.body(body).send().await.expect("an answer"));
        }
        let mut said = Vec::new();
        for answer in answers {
            said.push(format!("{:?}", answer.headers()));
            said.push(answer.text().await.expect("text"));
        }
        for head in [
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\0\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: x\r\n{SECRET} : y\r\n\r\n"),
            format!("GET /{SECRET} HTTP/9.9\r\nhost: x\r\n\r\n"),
            format!("{SECRET}\r\n\r\n"),
            format!("{SECRET} /streams/news HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ] {
            said.push(raw(&logged.server, head.as_bytes()));
        }
        for answer in said {
            assert!(!answer.contains(SECRET), "{answer}");
        }
        let log = logged.stop();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "it was as talkative as can be");
        let line = log.lines().find(|line| line.contains(SECRET));
        assert_eq!(line, None, "in the log ({format})");
    }
}

#[test]
fn a_port_for_metrics_that_is_taken_is_one_clear_line() {
    let site = built_site();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = tidings();
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", &address, "--site-root"]);
    let (output, said) = refused(command.arg(site.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&address) && said.contains("--metrics-listen"), "{said}");
}
