//! What is not HTTP, or not quite: refused as the sender's fault, or cut, and harmless.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::TestApp;

/// What comes back until the server closes, and whether it closes.
async fn answers(app: &TestApp, request: &[u8]) -> (String, bool) {
    let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
    // It may be closed while we are still sending.
    let _ = connection.write_all(request).await;
    let mut answer = Vec::new();
    let reading = connection.read_to_end(&mut answer);
    let closed = tokio::time::timeout(Duration::from_mins(1), reading).await.is_ok();
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

fn statuses(answer: &str) -> Vec<&str> {
    let heads = answer.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head.get(..3).unwrap_or(head)).collect()
}

/// The server may say that the client is wrong, once, or nothing; then it closes.
#[tokio::test]
async fn what_is_not_http_is_refused_or_cut() {
    let app = TestApp::start(&["--header-timeout", "500ms", "--body-timeout", "500ms"]).await;
    let huge = "x".repeat(20_000);
    let many = (0..200).fold(String::new(), |many, n| many + &format!("a{n}: b\r\n"));
    let begin = "POST /streams/news HTTP/1.1\r\nhost: x\r\n";
    for request in [
        // The first line.
        "\0".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1 \r\nhost: x\r\n\r\n".to_owned(),
        "GET / / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "G\0T / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET relative HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET http:// HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET http://[::1/ HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(),
        "\x16\x03\x01\0\x05hello".to_owned(),
        format!("{huge} / HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nhost: x\r\n\r\n"),
        // Headers.
        format!("GET / HTTP/1.1\r\nhost: x\r\na: {huge}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{huge}: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        "GET / HTTP/1.1\r\nhost x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\na : b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n".to_owned(),
        // How long the body is.
        format!("{begin}content-length: -1\r\n\r\nx"),
        format!("{begin}content-length: 1x\r\n\r\nx"),
        format!("{begin}content-length: +1\r\n\r\nx"),
        format!("{begin}content-length: 99999999999999999999999\r\n\r\nx"),
        format!("{begin}content-length: 1\r\ncontent-length: 2\r\n\r\nxy"),
        format!("{begin}content-length: 1, 2\r\n\r\nxy"),
        format!("{begin}transfer-encoding: gzip\r\n\r\nx"),
        format!("{begin}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        format!("{begin}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        // The body.
        format!("{begin}transfer-encoding: chunked\r\n\r\nnumber\r\n"),
        format!("{begin}transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n"),
        format!("{begin}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"),
        format!("{begin}transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n"),
        format!("{begin}transfer-encoding: chunked\r\n\r\n1;{huge}\r\nx\r\n0\r\n\r\n"),
        format!("{begin}transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n"),
        format!("{begin}content-length: 5\r\n\r\nx"),
    ] {
        let (answer, closed) = answers(&app, request.as_bytes()).await;
        let shown: String = request.chars().take(100).collect();
        assert!(closed, "it stays open: {shown:?}");
        let statuses = statuses(&answer);
        assert!(statuses.len() <= 1, "{shown:?}: {answer}");
        assert!(statuses.iter().all(|status| status.starts_with('4')), "{shown:?}: {answer}");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(app.get("/health/ready").await.status(), StatusCode::OK);
}

/// Where two could understand something else by the same bytes, there is one request or none: what
/// was smuggled in behind it is not carried out.
#[tokio::test]
async fn nothing_is_smuggled_in() {
    let app = TestApp::start(&["--header-timeout", "500ms", "--body-timeout", "500ms"]).await;
    let inner = "POST /streams/smuggled HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
    let begin = "POST /streams/news HTTP/1.1\r\nhost: x\r\n";
    for request in [
        format!("{begin}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{begin}transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{inner}"),
        format!(
            "{begin}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{inner}"
        ),
        format!("{begin}transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{begin}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{begin}content-length: 0\r\ncontent-length: 70\r\n\r\n{inner}"),
        format!("{begin}content-length: 0, 70\r\n\r\n{inner}"),
        format!("{begin}transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\nz\r\n\r\n{inner}"),
        format!("GET / HTTP/1.1\r\nhost: x\r\na: b\r\r\n\r\n{inner}"),
    ] {
        let (answer, closed) = answers(&app, request.as_bytes()).await;
        assert!(closed, "it stays open: {request:?}");
        assert!(
            !answer.contains("HTTP/1.1 201 ") && !answer.contains("HTTP/1.1 5"),
            "{request:?}: {answer}"
        );
        let smuggled = app.get("/streams/smuggled/messages").await;
        assert_eq!(smuggled.status(), StatusCode::NOT_FOUND, "{request:?}: {answer}");
    }
}

/// Odd, but HTTP: answered as anything else.
#[tokio::test]
async fn what_is_merely_odd_is_answered() {
    let app = TestApp::start(&[]).await;
    for (request, status) in [
        ("GET /health/live HTTP/1.0\r\n\r\n", "200"),
        ("\r\n\r\nGET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "200"),
        ("GET /health/live HTTP/1.1\nhost: x\nconnection: close\n\n", "200"),
        (
            "GET http://elsewhere.example/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "200",
        ),
        ("HEAD /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "200"),
        ("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("GET //health//live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("BREW / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("TRACE /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        (
            "GET /health/live HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n",
            "200",
        ),
        (
            "POST /streams/news HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
            "201",
        ),
        (
            "POST /streams/news HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\nconnection: close\r\n\r\n1;a=b\r\nx\r\n0\r\nt: u\r\n\r\n",
            "201",
        ),
    ] {
        let (answer, closed) = answers(&app, request.as_bytes()).await;
        let statuses: Vec<_> = statuses(&answer.replace("HTTP/1.0 ", "HTTP/1.1 "))
            .into_iter()
            .map(str::to_owned)
            .filter(|status| status != "100")
            .collect();
        assert_eq!((statuses, closed), (vec![status.to_owned()], true), "{request:?}: {answer}");
    }
}
