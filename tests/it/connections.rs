//! Connections: how many, and for how long.

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

/// A connection from one of the many addresses that a machine has for itself.
async fn connect_from(source: &str, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let source: IpAddr = source.parse().expect("an address");
    socket.bind((source, 0).into()).expect("an address of this machine");
    socket.connect(address.parse().expect("an address")).await.expect("a connection")
}

/// Everything that comes until the other side closes, whichever way.
async fn rest(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = connection.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it is answered; else it was closed.
async fn is_answered(connection: &mut TcpStream) -> bool {
    let _ = connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut begin = [0; 12];
    connection.read_exact(&mut begin).await.is_ok_and(|_| begin == *b"HTTP/1.1 200")
}

/// Waits until one more connection is answered.
async fn until_there_is_a_place(address: &str) {
    while !is_answered(&mut connect(address).await).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn no_more_connections_than_there_may_be() {
    let app = TestApp::start(&["--max-connections", "2"]).await;
    let mut watching = app.watch("news", "").await;
    let other = connect(app.address()).await;
    for _ in 0..3 {
        assert_eq!(
            rest(&mut connect(app.address()).await).await,
            "",
            "it is closed without a word"
        );
    }
    drop(other);
    until_there_is_a_place(app.address()).await;
    // That connection has gone, or goes now.
    until_there_is_a_place(app.address()).await;
    drop(watching);
    app.until_none_is_open().await;
    watching = app.watch("news", "").await;
    app.publish("news", "one").await;
    assert_eq!(next(&mut watching).await.data, "one");
}

#[tokio::test]
async fn no_more_connections_of_an_address_than_it_may_have() {
    let app = TestApp::start(&["--max-connections-per-address", "2"]).await;
    let mut first = connect_from("127.0.0.2", app.address()).await;
    let mut second = connect_from("127.0.0.2", app.address()).await;
    assert!(is_answered(&mut first).await && is_answered(&mut second).await);
    assert!(!is_answered(&mut connect_from("127.0.0.2", app.address()).await).await);
    assert!(is_answered(&mut connect_from("127.0.0.3", app.address()).await).await);
    drop(first);
    while !is_answered(&mut connect_from("127.0.0.2", app.address()).await).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_have_as_many_connections_as_it_likes() {
    let limits =
        ["--open", "--max-connections-per-address", "1", "--trusted-proxy", "127.0.0.2/31"];
    let app = TestApp::start(&limits).await;
    let mut open = Vec::new();
    for source in ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.2"] {
        open.push(connect_from(source, app.address()).await);
        assert!(is_answered(open.last_mut().expect("one")).await);
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let app = TestApp::start(&["--header-timeout", "500ms"]).await;
    let mut kept_alive = connect(app.address()).await;
    assert!(is_answered(&mut kept_alive).await);
    let mut reader = app.watch("news", "").await;
    rest(&mut kept_alive).await;
    for beginning in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\n", "\r\n\r\n"] {
        let mut connection = connect(app.address()).await;
        connection.write_all(beginning.as_bytes()).await.expect("sent");
        rest(&mut connection).await;
    }
    // A byte now and then is not enough.
    let mut connection = connect(app.address()).await;
    while connection.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.publish("news", "readers stay").await;
    assert_eq!(next(&mut reader).await.data, "readers stay");
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for() {
    let app = TestApp::start(&["--body-timeout", "500ms"]).await;
    for path in ["/streams/news", "/streams/news/end", "/api/publish"] {
        let mut connection = connect(app.address()).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n");
        connection.write_all(head.as_bytes()).await.expect("sent");
        let (mut reading, mut writing) = connection.into_split();
        let dripping = tokio::spawn(async move {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = String::new();
        let _ = reading.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
        if !path.starts_with("/api/") {
            assert!(answer.contains("/problems#request-timeout"), "{path}: {answer}");
        }
        dripping.await.expect("no panic");
    }
    assert_eq!(app.get("/streams/news/messages").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_of_lines_may_be_silent_even_within_a_line() {
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

/// How many connections say next to nothing at the same time, and from how many addresses.
const SLOW: usize = 5_000;
const SOURCES: usize = 25;

/// Somebody opens thousands of connections and sends a byte now and then: others do not notice,
/// and when their time is up nothing is left of them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn thousands_that_say_next_to_nothing_are_in_nobodys_way() {
    let needed = 2 * SLOW as u64;
    if rlimit::increase_nofile_limit(needed).expect("a limit") < needed {
        println!("skipped: it needs {needed} open files");
        return;
    }
    let site = built_site();
    let mut server = Server::start(site.path(), &["--header-timeout", "10s"]);
    let client = Client::builder().no_proxy().build().expect("a client");
    let ready = async || -> Value {
        let answer = client.get(format!("{}/health/ready", server.url())).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(ready().await["open_streams"], 0);
    let before = server.open_files();

    let mut slow = Vec::new();
    for n in 0..SLOW {
        let mut one = connect_from(&format!("127.0.1.{}", 1 + n % SOURCES), &server.address).await;
        one.write_all(b"G").await.expect("sent");
        slow.push(one);
    }
    // On a slow machine the first are gone when the last come.
    assert!(server.open_files() > SLOW / 4);
    let publish = client.post(format!("{}/streams/news", server.url())).body("meanwhile");
    assert_eq!(publish.send().await.expect("an answer").status(), StatusCode::CREATED);
    assert_eq!(ready().await["status"], "ready");
    for one in &mut slow {
        // Some may be gone already.
        let _ = one.write_all(b"E").await;
    }
    for one in &mut slow {
        assert_eq!(rest(one).await, "");
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
        log.contains("stopping") && !log.contains("ERROR") && !log.contains("panicked"),
        "{log}"
    );
}
