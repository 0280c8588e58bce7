//! TLS, HTTP/2, and who comes without.

use std::{fs, time::Duration};

use futures::{StreamExt as _, future::join_all};
use reqwest::{Method, StatusCode, Version, header, redirect::Policy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    TestApp, built_site, events, next,
    process::{refused, tidings},
    tls::{Files, Identity},
};

/// A server that speaks TLS, and a client that believes it.
async fn start(identity: &Identity, files: &Files, arguments: &[&str]) -> TestApp {
    let (certificate, key) = (files.certificate(), files.key());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let mut app = TestApp::start(&[&tls, arguments].concat()).await;
    app.client = identity.client().build().expect("a client");
    app
}

async fn is_believed(app: &TestApp, identity: &Identity) -> bool {
    let client = identity.client().build().expect("a client");
    client.get(format!("{}/health/live", app.url)).send().await.is_ok()
}

#[tokio::test]
async fn the_client_chooses_the_version() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let old = identity.client().http1_only().build().expect("a client");
    for (client, version) in [(&app.client, Version::HTTP_2), (&old, Version::HTTP_11)] {
        let post = client.post(format!("{}/streams/news", app.url)).body("one");
        assert_eq!(post.send().await.expect("an answer").status(), StatusCode::CREATED);
        let page = client.get(&app.url).send().await.expect("an answer");
        assert_eq!((page.status(), page.version()), (StatusCode::OK, version));
        let reader = client.get(format!("{}/streams/news/events", app.url));
        let mut reader = events(reader.send().await.expect("an answer"));
        assert_eq!(next(&mut reader).await.data, "one");
    }
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let connection = identity.connect(app.address(), offered).await;
        assert_eq!(connection.get_ref().1.alpn_protocol(), agreed);
    }
}

/// A page of ours may publish over HTTP/2, where no header but a pseudo-header names the host.
#[tokio::test]
async fn a_page_of_the_same_site_may_write_over_http_2() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &[]).await;
    for (origin, status) in [(app.url.as_str(), 201), ("https://elsewhere.example", 403)] {
        let post =
            app.client.post(format!("{}/streams/news", app.url)).header(header::ORIGIN, origin);
        assert_eq!(post.body("one").send().await.expect("an answer").status(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_hundred_streams_share_a_connection() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &["--max-connections", "1"]).await;
    app.publish("news", "one").await;
    let mut readers = join_all((0..100).map(|_| app.watch("news", "")).collect::<Vec<_>>()).await;
    assert_eq!(app.open_streams().await, 100);
    app.publish("news", "two").await;
    app.end("news").await;
    for reader in &mut readers {
        assert_eq!(next(reader).await.data, "one");
        assert_eq!(next(reader).await.data, "two");
        assert_eq!(next(reader).await.event, "end_event");
        assert!(reader.next().await.is_none());
    }
    app.until_none_is_open().await;
}

#[tokio::test]
async fn a_reader_that_leaves_an_http_2_connection_is_not_missed() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let stays = app.watch("news", "").await;
    drop(app.watch("news", "").await);
    while app.open_streams().await != 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stays);
    app.until_none_is_open().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_open_streams_go_on() {
    let (old, new) = (Identity::new(), Identity::new());
    let files = Files::of(&old);
    let app = start(&old, &files, &[]).await;
    let mut reader = app.watch("news", "").await;

    // One that is no good changes nothing: it has time enough to be seen twice.
    files.hold(&new.certificate, &old.key);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(is_believed(&app, &old).await && !is_believed(&app, &new).await);

    files.hold(&new.certificate, &new.key);
    while !is_believed(&app, &new).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!is_believed(&app, &old).await);
    app.publish("news", "over the old connection").await;
    assert_eq!(next(&mut reader).await.data, "over the old connection");
}

#[tokio::test]
async fn what_is_not_tls_does_no_harm() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &["--header-timeout", "500ms"]).await;
    let nonsense: Vec<u8> = (0..4_096_u32).map(|n| (n * n % 251) as u8).collect();
    for garbage in [
        &b"\x16\x03\x01\xff\xff\x01"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x80\x2e\x01\x03\x01",
        b"\0",
        b"",
        &nonsense,
    ] {
        let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
        connection.write_all(garbage).await.expect("sent");
        let mut answer = Vec::new();
        // It may be cut in the middle of what was sent.
        let _ = connection.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert!(is_believed(&app, &identity).await);
}

#[tokio::test]
async fn plain_http_on_the_port_for_tls_is_told_so() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let large = format!(
        "POST /streams/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for request in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &large]
    {
        let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("/problems#tls-required") && answer.contains("https://"),
            "{answer}"
        );
    }
    assert!(is_believed(&app, &identity).await);
}

/// Neither one that says nothing after the handshake, nor one that has nothing more to ask.
#[tokio::test]
async fn idle_connections_are_closed() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &["--header-timeout", "500ms"]).await;
    for protocol in ["h2", "http/1.1"] {
        let mut silent = identity.connect(app.address(), &[protocol]).await;
        let _ = silent.read_to_end(&mut Vec::new()).await;
    }
    let alone =
        start(&identity, &files, &["--header-timeout", "500ms", "--max-connections", "1"]).await;
    let old = identity.client().http1_only().build().expect("a client");
    for client in [&alone.client, &old, &alone.client] {
        let live = || client.get(format!("{}/health/live", alone.url)).send();
        // As long as the other one's connection is open there is no place.
        while live().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_lets_readers_go() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let old = identity.client().http1_only().build().expect("a client");
    let path = format!("{}/streams/news/events", app.url);
    let mut readers = Vec::new();
    for client in [&app.client, &old] {
        readers.push(client.get(&path).send().await.expect("an answer"));
    }
    // Those that have not said what they want have nothing to wait for.
    let _in_handshake = TcpStream::connect(app.address()).await.expect("a connection");
    let _silent = identity.connect(app.address(), &["h2"]).await;
    let _silent = identity.connect(app.address(), &["http/1.1"]).await;
    app.shutdown.begin();
    for reader in readers {
        let text = reader.text().await.expect("a proper end");
        assert!(
            text.rsplit_once("retry: ")
                .is_some_and(|(_, last)| last.ends_with("\nevent: ping\ndata: {}\n\n")),
            "{text}"
        );
    }
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test]
async fn plain_http_is_sent_on() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    let arguments = ["--redirect-listen", "127.0.0.1:0", "--hsts", "1d"];
    let app = start(&identity, &files, &arguments).await;
    let plain = app.redirect.as_deref().expect("an address");
    let stays = identity.client().redirect(Policy::none()).build().expect("a client");
    for method in [Method::GET, Method::POST] {
        let answer = stays.request(method, format!("{plain}/streams/ci?x=y")).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.headers()["location"], format!("{}/streams/ci?x=y", app.url));
        assert!(!answer.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
    let unknown = stays.get(plain).header(header::HOST, "a/b").send().await.expect("an answer");
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let posted = app.client.post(format!("{plain}/streams/ci")).body("sent on").send().await;
    let posted = posted.expect("an answer");
    assert_eq!(posted.status(), StatusCode::CREATED);
    assert_eq!(posted.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=86400");
    let missing = app.get("/nothing/here").await;
    assert_eq!(missing.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=86400");
}

#[tokio::test]
async fn browsers_are_told_of_tls_only_if_they_are_to_be() {
    let identity = Identity::new();
    let files = Files::of(&identity);
    for app in [start(&identity, &files, &[]).await, TestApp::start(&[]).await] {
        let answer = app.get("/health/live").await;
        assert!(!answer.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
}

#[test]
fn what_can_not_be_used_is_one_clear_line() {
    let (identity, other) = (Identity::new(), Identity::new());
    let files = Files::of(&identity);
    let file = |name: &str, content: &str| {
        let path = files.folder().join(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let (certificate, key) = (files.certificate(), files.key());
    let text = file("text", "not PEM at all");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n");
    let nonsense =
        file("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let other = file("other", &other.key);
    let missing = files.folder().join("missing").to_str().expect("text").to_owned();
    let site = built_site();
    for (certificate, key, culprit, why) in [
        (&missing, &key, &missing, "cannot read"),
        (&certificate, &missing, &missing, "cannot read"),
        (&text, &key, &text, "no certificate"),
        (&key, &key, &key, "no certificate"),
        (&broken, &key, &broken, "not valid PEM"),
        (&nonsense, &key, &nonsense, "can not be used"),
        (&certificate, &text, &text, "no private key"),
        (&certificate, &certificate, &certificate, "no private key"),
        (&certificate, &other, &other, "not that of the certificate"),
    ] {
        let command = &mut tidings();
        command.args(["--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]);
        let (output, said) = refused(command.arg("--site-root").arg(site.path()));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(culprit.as_str()) && said.contains(why), "{said}");
    }
}
