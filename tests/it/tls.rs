//! TLS, HTTP/2, certificate reload, and the redirect from plain HTTP.

use std::{fs, time::Duration};

use futures::{StreamExt as _, future::join_all};
use reqwest::{Method, StatusCode, Version, header, redirect::Policy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    TestApp, built_site, events, next,
    process::{start_refused, tidings},
    tls::{CertificateFiles, Identity},
};

/// A server with TLS, and a client that trusts its certificate.
async fn start(identity: &Identity, files: &CertificateFiles, arguments: &[&str]) -> TestApp {
    let (certificate, key) = (files.certificate(), files.key());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let mut app = TestApp::start(&[&tls, arguments].concat()).await;
    app.client = identity.client().build().expect("a client");
    app
}

/// Whether the server presents the certificate of `identity`.
async fn is_trusted(app: &TestApp, identity: &Identity) -> bool {
    let client = identity.client().build().expect("a client");
    client.get(format!("{}/health/live", app.url)).send().await.is_ok()
}

#[tokio::test]
async fn the_client_chooses_the_http_version_by_alpn() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let http1_client = identity.client().http1_only().build().expect("a client");
    for (client, version) in [(&app.client, Version::HTTP_2), (&http1_client, Version::HTTP_11)] {
        let post = client.post(format!("{}/streams/news", app.url)).body("one");
        assert_eq!(post.send().await.expect("a response").status(), StatusCode::CREATED);
        let page = client.get(&app.url).send().await.expect("a response");
        assert_eq!((page.status(), page.version()), (StatusCode::OK, version));
        let reader = client.get(format!("{}/streams/news/events", app.url));
        let mut reader = events(reader.send().await.expect("a response"));
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

/// Over HTTP/2 only the `:authority` pseudo-header names the host that the origin must match.
#[tokio::test]
async fn a_page_of_the_same_origin_may_publish_over_http_2() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &[]).await;
    for (origin, status) in [(app.url.as_str(), 201), ("https://elsewhere.example", 403)] {
        let post =
            app.client.post(format!("{}/streams/news", app.url)).header(header::ORIGIN, origin);
        assert_eq!(post.body("one").send().await.expect("a response").status(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_hundred_streams_share_a_connection() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
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
    app.wait_until_no_stream_is_open().await;
}

#[tokio::test]
async fn a_closed_http_2_stream_is_noticed_while_its_connection_stays_open() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let reader = app.watch("news", "").await;
    drop(app.watch("news", "").await);
    while app.open_streams().await != 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(reader);
    app.wait_until_no_stream_is_open().await;
}

#[tokio::test]
async fn a_new_certificate_is_loaded_while_open_streams_go_on() {
    let (old, new) = (Identity::new(), Identity::new());
    let files = CertificateFiles::of(&old);
    let app = start(&old, &files, &[]).await;
    let mut reader = app.watch("news", "").await;

    // A certificate with the wrong key is ignored: the server reads the files twice in this time.
    files.write(&new.certificate, &old.key);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(is_trusted(&app, &old).await && !is_trusted(&app, &new).await);

    files.write(&new.certificate, &new.key);
    while !is_trusted(&app, &new).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!is_trusted(&app, &old).await);
    app.publish("news", "over the old connection").await;
    assert_eq!(next(&mut reader).await.data, "over the old connection");
}

#[tokio::test]
async fn invalid_handshakes_are_closed_without_a_response() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
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
        let mut response = Vec::new();
        // The server may close it before everything is sent.
        let _ = connection.read_to_end(&mut response).await;
        assert!(!response.starts_with(b"HTTP"), "{response:?}");
    }
    assert!(is_trusted(&app, &identity).await);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_a_problem() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let large = format!(
        "POST /streams/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for request in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &large]
    {
        let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        connection.read_to_string(&mut response).await.expect("a response");
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(
            response.contains("/problems#tls-required") && response.contains("https://"),
            "{response}"
        );
    }
    assert!(is_trusted(&app, &identity).await);
}

/// Both a connection without a request after the handshake, and one after its last request.
#[tokio::test]
async fn idle_tls_connections_are_closed() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &["--header-timeout", "500ms"]).await;
    for protocol in ["h2", "http/1.1"] {
        let mut silent = identity.connect(app.address(), &[protocol]).await;
        let _ = silent.read_to_end(&mut Vec::new()).await;
    }
    let with_one_connection =
        start(&identity, &files, &["--header-timeout", "500ms", "--max-connections", "1"]).await;
    let http1_client = identity.client().http1_only().build().expect("a client");
    for client in [&with_one_connection.client, &http1_client, &with_one_connection.client] {
        let live = || client.get(format!("{}/health/live", with_one_connection.url)).send();
        // Refused until the idle connection of the other client is closed.
        while live().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn shutdown_closes_event_streams_and_idle_tls_connections() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start(&identity, &files, &[]).await;
    let http1_client = identity.client().http1_only().build().expect("a client");
    let path = format!("{}/streams/news/events", app.url);
    let mut readers = Vec::new();
    for client in [&app.client, &http1_client] {
        readers.push(client.get(&path).send().await.expect("a response"));
    }
    // Connections without a request do not delay the shutdown.
    let _in_handshake = TcpStream::connect(app.address()).await.expect("a connection");
    let _silent = identity.connect(app.address(), &["h2"]).await;
    let _silent = identity.connect(app.address(), &["http/1.1"]).await;
    app.shutdown.begin();
    for reader in readers {
        let text = reader.text().await.expect("a complete response");
        assert!(
            text.rsplit_once("retry: ")
                .is_some_and(|(_, last)| last.ends_with("\nevent: ping\ndata: {}\n\n")),
            "{text}"
        );
    }
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test]
async fn plain_http_is_redirected_to_https() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let arguments = ["--redirect-listen", "127.0.0.1:0", "--hsts", "1d"];
    let app = start(&identity, &files, &arguments).await;
    let plain = app.redirect.as_deref().expect("an address");
    let without_redirects = identity.client().redirect(Policy::none()).build().expect("a client");
    for method in [Method::GET, Method::POST] {
        let response =
            without_redirects.request(method, format!("{plain}/streams/ci?x=y")).send().await;
        let response = response.expect("a response");
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(response.headers()["location"], format!("{}/streams/ci?x=y", app.url));
        assert!(!response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
    let unknown =
        without_redirects.get(plain).header(header::HOST, "a/b").send().await.expect("a response");
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let posted = app.client.post(format!("{plain}/streams/ci")).body("redirected").send().await;
    let posted = posted.expect("a response");
    assert_eq!(posted.status(), StatusCode::CREATED);
    assert_eq!(posted.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=86400");
    let missing = app.get("/nothing/here").await;
    assert_eq!(missing.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=86400");
}

#[tokio::test]
async fn hsts_is_sent_only_if_configured() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    for app in [start(&identity, &files, &[]).await, TestApp::start(&[]).await] {
        let response = app.get("/health/live").await;
        assert!(!response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
}

#[test]
fn an_unusable_certificate_or_key_is_reported_in_one_line() {
    let (identity, other) = (Identity::new(), Identity::new());
    let files = CertificateFiles::of(&identity);
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
    for (certificate, key, named_file, reason) in [
        (&missing, &key, &missing, "cannot read"),
        (&certificate, &missing, &missing, "cannot read"),
        (&text, &key, &text, "no certificate"),
        (&key, &key, &key, "no certificate"),
        (&broken, &key, &broken, "not valid PEM"),
        (&nonsense, &key, &nonsense, "cannot be used"),
        (&certificate, &text, &text, "no private key"),
        (&certificate, &certificate, &certificate, "no private key"),
        (&certificate, &other, &other, "does not belong to the certificate"),
    ] {
        let command = &mut tidings();
        command.args(["--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]);
        let (output, stderr) = start_refused(command.arg("--site-root").arg(site.path()));
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(named_file.as_str()) && stderr.contains(reason), "{stderr}");
    }
}
