//! Whatever bytes a request is made of, it is answered: well, or with a problem.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{TestApp, chance};

const REQUESTS: usize = 4_000;
/// What requests are made of: things that mean something somewhere.
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

fn some_of(parts: &[&str], most: usize, chance: &mut fastrand::Rng) -> String {
    (0..chance.usize(0..=most)).map(|_| parts[chance.usize(0..parts.len())]).collect()
}

/// The value of a header: any bytes that may stand in one.
fn value(chance: &mut fastrand::Rng) -> Vec<u8> {
    if chance.bool() {
        return some_of(&PARTS, 3, chance).into_bytes();
    }
    let any = (0..chance.usize(0..300)).map(|_| chance.u8(b' '..=255));
    any.filter(|byte| *byte != 127).collect()
}

/// A path, and the method that is meant for it.
fn path(chance: &mut fastrand::Rng) -> (&'static str, String) {
    let stream = match chance.u8(0..3) {
        0 => some_of(&PARTS, 4, chance).replace(['?', '#'], ""),
        1 => "news".to_owned(),
        _ => "over".to_owned(),
    };
    let query = some_of(&PARTS, 6, chance);
    match chance.u8(0..8) {
        0 => ("GET", format!("/{query}")),
        1 => ("POST", format!("/streams/{stream}?{query}")),
        2 => ("POST", format!("/streams/{stream}")),
        3 => ("GET", format!("/streams/{stream}/messages?{query}")),
        4 => {
            let (one, other) = (PARTS[chance.usize(9..12)], PARTS[chance.usize(9..12)]);
            let (of_one, of_other) = (some_of(&PARTS, 2, chance), some_of(&PARTS, 2, chance));
            ("GET", format!("/streams/{stream}/messages?{one}={of_one}&{other}={of_other}"))
        }
        5 => ("GET", format!("/streams/{stream}/events?last_event_id={query}")),
        6 => ("DELETE", format!("/streams/{stream}")),
        _ => ("POST", format!("/streams/{stream}/end")),
    }
}

fn request(chance: &mut fastrand::Rng) -> Vec<u8> {
    let (fitting, path) = path(chance);
    let any = ["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"][chance.usize(0..6)];
    let method = if chance.u8(0..4) == 0 { any } else { fitting };
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n").into_bytes();
    for name in ["idempotency-key", "last-event-id", "accept", "content-type", "user-agent"] {
        if chance.u8(0..4) == 0 {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend(value(chance));
            request.extend_from_slice(b"\r\n");
        }
    }
    let body: Vec<u8> = match chance.u8(0..3) {
        0 => (0..chance.usize(0..40)).map(|_| chance.u8(..)).collect(),
        _ => some_of(&PARTS, 5, chance).into_bytes(),
    };
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend(body);
    request
}

/// The head of the answer.
async fn head(address: &str, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(request).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = connection.read_u8().await;
        let Ok(byte) = byte else {
            panic!("{:?} is not answered", String::from_utf8_lossy(request));
        };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn any_request_is_answered_well_or_with_a_problem() {
    let mut chance = chance();
    let app = TestApp::start(&["--max-streams", "50"]).await;
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for n in 0..REQUESTS {
        if n % 20 == 0 {
            // They may have been deleted, and may be again.
            app.post("/streams/news?lines", "one\ntwo\n").await;
            app.post("/streams/over", "one").await;
            app.post("/streams/over/end", "").await;
        }
        let request = request(&mut chance);
        let head = head(address, &request).await;
        let said = format!("{}\n{head}", String::from_utf8_lossy(&request));
        let status: u16 = head[9..12].parse().expect("a status");
        assert!((200..500).contains(&status), "{said}");
        // What is no HTTP never comes so far that it could be told what is wrong.
        let is_http = !head.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n");
        let page = head.contains("content-type: text/html");
        let problem = head.contains("content-type: application/problem+json");
        assert!(status < 400 || problem || page || !is_http, "{said}");
        *seen.entry(if is_http { status } else { 0 }).or_default() += 1;
    }
    println!("{seen:?}");
    for status in [200, 201, 204, 400, 404, 405, 409] {
        assert!(seen.get(&status).is_some_and(|count| *count > 10), "{status}: {seen:?}");
    }
    assert!(seen.get(&0).is_none_or(|count| *count < REQUESTS / 4), "{seen:?}");
    app.until_none_is_open().await;
}
