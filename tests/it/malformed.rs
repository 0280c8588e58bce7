//! Malformed HTTP: refused with a 4xx or closed, and no request smuggling.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::TestApp;

/// Sends raw bytes; returns the responses, and whether the server closes the connection.
async fn send_raw(app: &TestApp, request: &[u8]) -> (String, bool) {
    let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
    // The server may close the connection before everything is sent.
    let _ = connection.write_all(request).await;
    let mut response = Vec::new();
    let reading = connection.read_to_end(&mut response);
    let closed = tokio::time::timeout(Duration::from_mins(1), reading).await.is_ok();
    (String::from_utf8_lossy(&response).into_owned(), closed)
}

/// The status codes of all responses in a text.
fn statuses(response: &str) -> Vec<&str> {
    let heads = response.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head.get(..3).unwrap_or(head)).collect()
}

/// The server sends at most one response, a 4xx, and closes the connection.
#[tokio::test]
async fn malformed_requests_are_refused_and_the_connection_is_closed() {
    let app = TestApp::start(&["--header-timeout", "500ms", "--body-timeout", "500ms"]).await;
    let huge = "x".repeat(20_000);
    let many = (0..200).fold(String::new(), |many, n| many + &format!("a{n}: b\r\n"));
    let head = "POST /streams/news HTTP/1.1\r\nhost: x\r\n";
    for request in [
        // The request line.
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
        // The length of the body.
        format!("{head}content-length: -1\r\n\r\nx"),
        format!("{head}content-length: 1x\r\n\r\nx"),
        format!("{head}content-length: +1\r\n\r\nx"),
        format!("{head}content-length: 99999999999999999999999\r\n\r\nx"),
        format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxy"),
        format!("{head}content-length: 1, 2\r\n\r\nxy"),
        format!("{head}transfer-encoding: gzip\r\n\r\nx"),
        format!("{head}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        format!("{head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        // The body.
        format!("{head}transfer-encoding: chunked\r\n\r\nnumber\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"),
        format!("{head}transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\n1;{huge}\r\nx\r\n0\r\n\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n"),
        format!("{head}content-length: 5\r\n\r\nx"),
    ] {
        let (response, closed) = send_raw(&app, request.as_bytes()).await;
        let shown: String = request.chars().take(100).collect();
        assert!(closed, "the connection stays open: {shown:?}");
        let statuses = statuses(&response);
        assert!(statuses.len() <= 1, "{shown:?}: {response}");
        assert!(statuses.iter().all(|status| status.starts_with('4')), "{shown:?}: {response}");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(app.get("/health/ready").await.status(), StatusCode::OK);
}

/// Request smuggling: where a proxy and the server could disagree about the end of a request, the server
/// handles one request or none, never the one hidden in the body.
#[tokio::test]
async fn smuggled_requests_are_not_executed() {
    let app = TestApp::start(&["--header-timeout", "500ms", "--body-timeout", "500ms"]).await;
    let hidden = "POST /streams/smuggled HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
    let head = "POST /streams/news HTTP/1.1\r\nhost: x\r\n";
    for request in [
        format!("{head}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{head}transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{hidden}"),
        format!(
            "{head}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("{head}transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{head}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{head}content-length: 0\r\ncontent-length: 70\r\n\r\n{hidden}"),
        format!("{head}content-length: 0, 70\r\n\r\n{hidden}"),
        format!("{head}transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\nz\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1\r\nhost: x\r\na: b\r\r\n\r\n{hidden}"),
    ] {
        let (response, closed) = send_raw(&app, request.as_bytes()).await;
        assert!(closed, "the connection stays open: {request:?}");
        assert!(
            !response.contains("HTTP/1.1 201 ") && !response.contains("HTTP/1.1 5"),
            "{request:?}: {response}"
        );
        let smuggled = app.get("/streams/smuggled/messages").await;
        assert_eq!(smuggled.status(), StatusCode::NOT_FOUND, "{request:?}: {response}");
    }
}

/// Requests that are unusual, but valid HTTP.
#[tokio::test]
async fn unusual_but_valid_requests_are_served() {
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
        let (response, closed) = send_raw(&app, request.as_bytes()).await;
        let statuses: Vec<_> = statuses(&response.replace("HTTP/1.0 ", "HTTP/1.1 "))
            .into_iter()
            .map(str::to_owned)
            .filter(|status| status != "100")
            .collect();
        assert_eq!((statuses, closed), (vec![status.to_owned()], true), "{request:?}: {response}");
    }
}
