//! Connection limits and timeouts: header timeout, body timeout, slow clients (slowloris).

use std::{io::Read as _, net::IpAddr, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::support::{TestApp, built_site, next, process::Server};

async fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// A connection from a loopback address such as 127.0.0.2.
async fn connect_from(source: &str, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let source: IpAddr = source.parse().expect("an address");
    socket.bind((source, 0).into()).expect("an address of this machine");
    socket.connect(address.parse().expect("an address")).await.expect("a connection")
}

/// Reads until the server closes or resets the connection; returns what was read.
async fn read_to_close(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = connection.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a request on the connection gets a 200; otherwise the connection was closed.
async fn is_served(connection: &mut TcpStream) -> bool {
    let _ = connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut beginning = [0; 12];
    connection.read_exact(&mut beginning).await.is_ok_and(|_| beginning == *b"HTTP/1.1 200")
}

/// Waits until a new connection is served, and closes it.
async fn wait_until_a_connection_is_accepted(address: &str) {
    while !is_served(&mut connect(address).await).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_over_the_total_limit_are_closed() {
    let app = TestApp::start(&["--max-connections", "2"]).await;
    let mut watching = app.watch("news", "").await;
    let other = connect(app.address()).await;
    for _ in 0..3 {
        assert_eq!(
            read_to_close(&mut connect(app.address()).await).await,
            "",
            "closed without a response"
        );
    }
    drop(other);
    wait_until_a_connection_is_accepted(app.address()).await;
    // The connection of the first wait closes as well.
    wait_until_a_connection_is_accepted(app.address()).await;
    drop(watching);
    app.wait_until_no_stream_is_open().await;
    watching = app.watch("news", "").await;
    app.publish("news", "one").await;
    assert_eq!(next(&mut watching).await.data, "one");
}

#[tokio::test]
async fn connections_over_the_limit_of_an_address_are_closed() {
    let app = TestApp::start(&["--max-connections-per-address", "2"]).await;
    let mut first = connect_from("127.0.0.2", app.address()).await;
    let mut second = connect_from("127.0.0.2", app.address()).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(!is_served(&mut connect_from("127.0.0.2", app.address()).await).await);
    assert!(is_served(&mut connect_from("127.0.0.3", app.address()).await).await);
    drop(first);
    while !is_served(&mut connect_from("127.0.0.2", app.address()).await).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_limit_per_address_does_not_apply_to_trusted_proxies() {
    let limits =
        ["--open", "--max-connections-per-address", "1", "--trusted-proxy", "127.0.0.2/31"];
    let app = TestApp::start(&limits).await;
    let mut open = Vec::new();
    for source in ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.2"] {
        open.push(connect_from(source, app.address()).await);
        assert!(is_served(open.last_mut().expect("a connection")).await);
    }
}

#[tokio::test]
async fn a_connection_without_a_complete_request_head_is_closed() {
    let app = TestApp::start(&["--header-timeout", "500ms"]).await;
    let mut kept_alive = connect(app.address()).await;
    assert!(is_served(&mut kept_alive).await);
    let mut reader = app.watch("news", "").await;
    read_to_close(&mut kept_alive).await;
    for beginning in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\n", "\r\n\r\n"] {
        let mut connection = connect(app.address()).await;
        connection.write_all(beginning.as_bytes()).await.expect("sent");
        read_to_close(&mut connection).await;
    }
    // A byte every 100 ms does not extend the timeout.
    let mut connection = connect(app.address()).await;
    while connection.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.publish("news", "readers stay").await;
    assert_eq!(next(&mut reader).await.data, "readers stay");
}

#[tokio::test]
async fn a_slow_request_body_times_out() {
    let app = TestApp::start(&["--body-timeout", "500ms"]).await;
    for path in ["/streams/news", "/streams/news/end", "/api/publish"] {
        let mut connection = connect(app.address()).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n");
        connection.write_all(head.as_bytes()).await.expect("sent");
        let (mut reading, mut writing) = connection.into_split();
        let sender = tokio::spawn(async move {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut response = String::new();
        let _ = reading.read_to_string(&mut response).await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{path}: {response}");
        if !path.starts_with("/api/") {
            assert!(response.contains("/problems#request-timeout"), "{path}: {response}");
        }
        sender.await.expect("no panic");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_of_lines_may_pause_longer_than_the_body_timeout() {
    let app = TestApp::start(&["--body-timeout", "500ms"]).await;
    let mut connection = connect(app.address()).await;
    let head = "POST /streams/log?lines HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n";
    connection.write_all(head.as_bytes()).await.expect("sent");
    let mut reader = app.watch("log", "").await;
    for (piece, line) in [("one\n", "one"), ("two\nth", "two"), ("ree\r", "three"), ("\nfour", "")]
    {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        connection.write_all(piece.as_bytes()).await.expect("sent");
        if !line.is_empty() {
            assert_eq!(next(&mut reader).await.data, line);
        }
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    connection.write_all(b" end\n").await.expect("sent");
    assert_eq!(next(&mut reader).await.data, "four end");
}

/// How many slow connections are open at the same time, and from how many addresses.
const SLOW_CONNECTIONS: usize = 5_000;
const SOURCES: usize = 25;

/// A slowloris attack: thousands of connections that send a byte now and then do not affect other
/// clients, and all of them are closed after the header timeout.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn thousands_of_slow_connections_do_not_affect_other_clients() {
    let needed = 2 * SLOW_CONNECTIONS as u64;
    if rlimit::increase_nofile_limit(needed).expect("a limit") < needed {
        println!("skipped: it needs {needed} open files");
        return;
    }
    let site = built_site();
    let mut server = Server::start(site.path(), &["--header-timeout", "10s"]);
    let client = Client::builder().no_proxy().build().expect("a client");
    let ready = async || -> Value {
        let response = client.get(format!("{}/health/ready", server.url())).send().await;
        response.expect("a response").json().await.expect("JSON")
    };
    assert_eq!(ready().await["open_streams"], 0);
    let before = server.open_files();

    let mut slow = Vec::new();
    for n in 0..SLOW_CONNECTIONS {
        let mut connection =
            connect_from(&format!("127.0.1.{}", 1 + n % SOURCES), &server.address).await;
        connection.write_all(b"G").await.expect("sent");
        slow.push(connection);
    }
    // On a slow machine the first connections are closed before the last are open.
    assert!(server.open_files() > SLOW_CONNECTIONS / 4);
    let publish = client.post(format!("{}/streams/news", server.url())).body("meanwhile");
    assert_eq!(publish.send().await.expect("a response").status(), StatusCode::CREATED);
    assert_eq!(ready().await["status"], "ready");
    for connection in &mut slow {
        // Some may be closed already.
        let _ = connection.write_all(b"E").await;
    }
    for connection in &mut slow {
        assert_eq!(read_to_close(connection).await, "");
    }
    assert_eq!(ready().await["open_streams"], 0);
    while server.open_files() > before {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    server.signal("TERM");
    assert!(server.process.wait().expect("an end").success());
    let mut log = String::new();
    server.process.stderr.take().expect("a log").read_to_string(&mut log).expect("text");
    assert!(
        log.contains("draining") && !log.contains("ERROR") && !log.contains("panicked"),
        "{log}"
    );
}
