//! Fuzzing of requests: random bytes get a success or a problem, never a failure of the server.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{TestApp, seeded_rng};

const REQUESTS: usize = 4_000;
/// The parts of random requests: tokens with a meaning somewhere in the interface.
const PARTS: [&str; 44] = [
    "news",
    "over",
    "streams",
    "messages",
    "events",
    "end",
    "earliest",
    "latest",
    "lines",
    "after",
    "before",
    "limit",
    "last_event_id",
    "/",
    "//",
    "..",
    ".",
    "-",
    "_",
    "?",
    "&",
    "=",
    "+",
    "#",
    "%",
    "%2F",
    "%00",
    "%ff",
    "%C3%BC",
    "%0d%0a",
    "%25",
    "%u0041",
    "0",
    "1",
    "-1",
    "1000",
    "1001",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "1763891234567-1",
    "01-1",
    ";",
    "~!$'()*,:@[]",
];

fn random_parts(parts: &[&str], max: usize, rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(0..=max)).map(|_| parts[rng.usize(0..parts.len())]).collect()
}

/// A random header value: any bytes that are valid in one.
fn random_value(rng: &mut fastrand::Rng) -> Vec<u8> {
    if rng.bool() {
        return random_parts(&PARTS, 3, rng).into_bytes();
    }
    let bytes = (0..rng.usize(0..300)).map(|_| rng.u8(b' '..=255));
    bytes.filter(|byte| *byte != 127).collect()
}

/// A random path with a query, and the method that it supports.
fn random_path(rng: &mut fastrand::Rng) -> (&'static str, String) {
    let stream = match rng.u8(0..3) {
        0 => random_parts(&PARTS, 4, rng).replace(['?', '#'], ""),
        1 => "news".to_owned(),
        _ => "over".to_owned(),
    };
    let query = random_parts(&PARTS, 6, rng);
    match rng.u8(0..8) {
        0 => ("GET", format!("/{query}")),
        1 => ("POST", format!("/streams/{stream}?{query}")),
        2 => ("POST", format!("/streams/{stream}")),
        3 => ("GET", format!("/streams/{stream}/messages?{query}")),
        4 => {
            let (name, other_name) = (PARTS[rng.usize(9..12)], PARTS[rng.usize(9..12)]);
            let (value, other_value) = (random_parts(&PARTS, 2, rng), random_parts(&PARTS, 2, rng));
            ("GET", format!("/streams/{stream}/messages?{name}={value}&{other_name}={other_value}"))
        }
        5 => ("GET", format!("/streams/{stream}/events?last_event_id={query}")),
        6 => ("DELETE", format!("/streams/{stream}")),
        _ => ("POST", format!("/streams/{stream}/end")),
    }
}

fn random_request(rng: &mut fastrand::Rng) -> Vec<u8> {
    let (supported, path) = random_path(rng);
    let any_method = ["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"][rng.usize(0..6)];
    let method = if rng.u8(0..4) == 0 { any_method } else { supported };
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n").into_bytes();
    for name in ["idempotency-key", "last-event-id", "accept", "content-type", "user-agent"] {
        if rng.u8(0..4) == 0 {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend(random_value(rng));
            request.extend_from_slice(b"\r\n");
        }
    }
    let body: Vec<u8> = match rng.u8(0..3) {
        0 => (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect(),
        _ => random_parts(&PARTS, 5, rng).into_bytes(),
    };
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend(body);
    request
}

/// Sends a request on a new connection and returns the head of the response.
async fn response_head(address: &str, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(request).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = connection.read_u8().await;
        let Ok(byte) = byte else {
            panic!("{:?} gets no response", String::from_utf8_lossy(request));
        };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn any_request_gets_a_success_or_a_problem() {
    let mut rng = seeded_rng();
    let app = TestApp::start(&["--max-streams", "50"]).await;
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for n in 0..REQUESTS {
        if n % 20 == 0 {
            // A random request may have deleted them.
            app.post("/streams/news?lines", "one\ntwo\n").await;
            app.post("/streams/over", "one").await;
            app.post("/streams/over/end", "").await;
        }
        let request = random_request(&mut rng);
        let head = response_head(address, &request).await;
        let exchange = format!("{}\n{head}", String::from_utf8_lossy(&request));
        let status: u16 = head[9..12].parse().expect("a status");
        assert!((200..500).contains(&status), "{exchange}");
        // hyper refuses what is not HTTP before a handler could return a problem.
        let is_http = !head.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n");
        let page = head.contains("content-type: text/html");
        let problem = head.contains("content-type: application/problem+json");
        assert!(status < 400 || problem || page || !is_http, "{exchange}");
        *seen.entry(if is_http { status } else { 0 }).or_default() += 1;
    }
    println!("{seen:?}");
    for status in [200, 201, 204, 400, 404, 405, 409] {
        assert!(seen.get(&status).is_some_and(|count| *count > 10), "{status}: {seen:?}");
    }
    assert!(seen.get(&0).is_none_or(|count| *count < REQUESTS / 4), "{seen:?}");
    app.wait_until_no_stream_is_open().await;
}
