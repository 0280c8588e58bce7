//! Compatibility with common clients: cursor spellings, encodings, hosts, origins, flags and signals.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    NOW, TestApp, built_site, cookie_name, events, next,
    process::{Server, exit_status, start_refused, tidings},
    table,
    tls::{CertificateFiles, Identity},
};

const CURSORS: &str = r#"
    POST /streams/news                            | - | a | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/news                            | - | b | 201 | json | {"id":"T-2","at":"AT"}
    POST /streams/news                            | - | c | 201 | json | {"id":"T-3","at":"AT"}
    GET /streams/news/events?lastEventId=T-2      | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\ndata: c\n\n
    GET /streams/news/events?lastEventId=T-3      | - | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/news/events?last-event-id=T-2    | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\n
    GET /streams/news/events?Last-Event-ID=T-2    | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\n
    GET /streams/news/events?LastEventId=0-0      | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\n
    GET /streams/news/events?lastEventId=T-1      | last-event-id: T-2 | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\n
    GET /streams/news/events?lasteventid=T-2&last_event_id=T-2 | - | - | 400 | problem | malformed-query last_event_id
    GET /streams/news/events?after=T-2            | - | - | 400 | problem | malformed-query parameter
    GET /streams/news/events?lastId=T-2           | - | - | 400 | problem | malformed-query parameter
    GET /streams/news/events?since=all            | - | - | 400 | problem | malformed-query parameter
    GET /streams/news/messages?after=0-0&limit=1  | - | - | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"a"}],"next":"T-1","ended":null}
    GET /streams/news/messages?after=&limit=1     | - | - | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"a"}],"next":"T-1","ended":null}
    GET /streams/news/messages?before=0-0         | - | - | 200 | json | {"messages":[],"next":null,"ended":null}
    GET /streams/news/messages?Limit=1            | - | - | 400 | problem | malformed-query parameter
    GET /streams/news/messages?After=T-2          | - | - | 400 | problem | malformed-query parameter
    GET /streams/news/messages?last_event_id=T-2  | - | - | 400 | problem | malformed-query after, before, limit
    GET /stream?id=1-1                            | - | - | 400 | problem | malformed-query parameter
    POST /streams/news?line                       | - | a\nb | 400 | problem | malformed-query parameter
    POST /streams/news?lines=stricter             | - | a\nb | 400 | problem | malformed-query strict
"#;

const UPLOADS: &str = r#"
    POST /streams/log?lines | - | 10%\r20%\r30%\rdone\r\n    | 200 | json | {"taken":4,"altered":0,"last_id":"T-4"}
    POST /streams/log?lines | - | caf\xe9\nnext\n            | 200 | json | {"taken":2,"altered":1,"last_id":"T-6"}
    POST /streams/log?lines | - | {x*65537}\nnext\n          | 200 | json | {"taken":2,"altered":1,"last_id":"T-8"}
    POST /streams/log?lines | - | {x*200000}                 | 200 | json | {"taken":1,"altered":1,"last_id":"T-9"}
    POST /streams/log?lines | - | \xff\n\xff{x*70000}\nok\n  | 200 | json | {"taken":3,"altered":2,"last_id":"T-12"}
    POST /streams/log?lines | - | b\xe2\x82                  | 200 | json | {"taken":1,"altered":1,"last_id":"T-13"}
    POST /streams/log?lines | - | \r\n\r\n                   | 200 | json | {"taken":0,"altered":0,"last_id":null}
    POST /streams/log?lines=strict | - | ok\ncaf\xe9\nnext\n | 400 | problem | not-utf8 "taken":1; "altered":0
    GET /streams/log/messages?after=T-4&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-5","at":"AT","data":"caf�"},{"id":"T-6","at":"AT","data":"next"}],"next":"T-6","ended":null}
"#;

const SLASHES: &str = r#"
    POST /streams/news/              | - | one | 201 | json | {"id":"T-1","at":"AT"}
    PUT /streams/news                | - | two | 201 | json | {"id":"T-2","at":"AT"}
    PUT /streams/news/?lines         | - | three | 200 | json | {"taken":1,"altered":0,"last_id":"T-3"}
    POST /streams/news//             | - | four | 201 | json | {"id":"T-4","at":"AT"}
    GET /streams/news/messages/?after=T-3 | - | - | 200 | json | {"messages":[{"id":"T-4","at":"AT","data":"four"}],"next":null,"ended":null}
    GET /streams/news/events/?last_event_id=T-3 | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-4\n
    GET /health/live/                | - | - | 200 | json | {"status":"live"}
    POST /streams/news/end/          | - | bye | 200 | json | {"id":"T-5","at":"AT"}
"#;

#[tokio::test]
async fn cursors_are_accepted_in_many_spellings() {
    table::check(&TestApp::start(&[]).await, CURSORS).await;
}

#[tokio::test]
async fn an_upload_accepts_lines_that_are_invalid_or_too_long() {
    table::check(&TestApp::start(&[]).await, UPLOADS).await;
}

#[tokio::test]
async fn a_trailing_slash_is_not_another_address() {
    table::check(&TestApp::start(&[]).await, SLASHES).await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_cut_and_marked() {
    let app = TestApp::start(&["--max-message-bytes", "32"]).await;
    app.publish_lines("log", format!("{}\n", "ü".repeat(40))).await;
    let log = app.log("log").await;
    assert_eq!(log[0].1, format!("{}…", "ü".repeat(14)));
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("written");
    encoder.finish().expect("compressed")
}

fn deflated(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("written");
    encoder.finish().expect("compressed")
}

#[tokio::test]
async fn compressed_bodies_are_decoded() {
    let app = TestApp::start(&[]).await;
    let send = async |path: &str, encoding: &str, body: Vec<u8>| {
        let request = app.client.post(format!("{}{path}", app.url));
        let response = request.header("content-encoding", encoding).body(body).send().await;
        let response = response.expect("a response");
        let status = response.status();
        let accepted = response.headers().get(header::ACCEPT_ENCODING).cloned();
        let problem: Value = response.json().await.expect("JSON");
        (status, problem["type"].as_str().unwrap_or_default().to_owned(), accepted)
    };
    let (created, ok) = (StatusCode::CREATED, StatusCode::OK);
    assert_eq!(send("/streams/news", "gzip", gzipped("✅ one".as_bytes())).await.0, created);
    assert_eq!(send("/streams/news", "deflate", deflated(b"two")).await.0, created);
    assert_eq!(send("/streams/news", "identity", b"three".to_vec()).await.0, created);
    assert_eq!(send("/streams/news?lines", "X-GZIP", gzipped(b"four\nfive\n")).await.0, ok);
    assert_eq!(send("/streams/news", "", b"six".to_vec()).await.0, created);
    assert_eq!(
        send("/streams/news/end", "br", Vec::new()).await.0,
        ok,
        "there is nothing to decode"
    );
    let texts: Vec<_> = app.log("news").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["✅ one", "two", "three", "four", "five", "six"]);

    // A decompression bomb: 100 MiB in about 100 KiB.
    let bomb = gzipped(&vec![0; 100 * 1024 * 1024]);
    let (status, problem, _) = send("/streams/news", "gzip", bomb).await;
    assert_eq!(
        (status, problem.as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "/problems#message-too-large")
    );
    let intact = gzipped("x".repeat(10_000).as_bytes());
    let mut damaged = intact.clone();
    damaged[12] ^= 0xff;
    let cut_short = intact[..intact.len() - 9].to_vec();
    for body in [damaged, cut_short, b"not compressed at all".to_vec()] {
        let (status, problem, _) = send("/streams/news", "gzip", body).await;
        assert_eq!(
            (status, problem.as_str()),
            (StatusCode::BAD_REQUEST, "/problems#malformed-encoding")
        );
    }
    for encoding in ["br", "zstd", "gzip, gzip", "nonsense"] {
        let (status, problem, accepted) = send("/streams/news", encoding, b"x".to_vec()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
        assert_eq!(problem, "/problems#unsupported-encoding", "{encoding}");
        assert_eq!(accepted.expect("a header"), "gzip, deflate");
    }
    assert_eq!(app.log("news").await.len(), 6, "nothing else was stored");
}

/// Runs a client program and returns its output; `None`, with a message, where it is not installed.
fn run_client(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        println!("skipped: {program} cannot be run");
        return None;
    };
    let printed = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&printed).into_owned())
}

/// Sends 5 MB, which is too large, with several clients: the name of each, its output (`None` where it is
/// not installed), and the expected end of the output.
fn send_too_large_body(url: &str, folder: &Path) -> Vec<(&'static str, Option<String>, String)> {
    let large = folder.join("large");
    std::fs::write(&large, vec![b'x'; 5_000_000]).expect("a file");
    let file = format!("@{}", large.display());
    let curl = |expect: &str, version: &str| {
        let head = ["-sk", "-o", "/dev/null", "-w", "%{http_code}", version, "-H", expect];
        run_client("curl", &[&head[..], &["--data-binary", &file, url]].concat())
    };
    let node = r#"
        process.env.NODE_TLS_REJECT_UNAUTHORIZED = 0;
        process.removeAllListeners("warning");
        const body = "x".repeat(5_000_000);
        const response = await fetch(process.argv[1], { method: "POST", body });
        console.log(response.status, (await response.json()).type);"#;
    let python = r#"
import ssl, sys, urllib.request, urllib.error
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
try:
    urllib.request.urlopen(sys.argv[1], b"x" * 5_000_000, context=context)
except urllib.error.HTTPError as error:
    print(error.code, end="")"#;
    let problem = "413 /problems#message-too-large\n";
    vec![
        ("curl", curl("Expect:", "--http1.1"), "413".to_owned()),
        (
            "curl with Expect: 100-continue",
            curl("Expect: 100-continue", "--http1.1"),
            "413".to_owned(),
        ),
        ("curl, HTTP/2 over TLS", curl("Expect:", "--http2"), "413".to_owned()),
        (
            "fetch",
            run_client("node", &["--input-type=module", "-e", node, url]),
            problem.to_owned(),
        ),
        ("urllib", run_client("python3", &["-c", python, url]), "413".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_arrives_while_the_client_is_still_sending() {
    let (identity, folder) = (Identity::new(), tempfile::tempdir().expect("a folder"));
    let files = CertificateFiles::of(&identity);
    let (certificate, key) = (files.certificate(), files.key());
    let tls = ["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()];
    let (plain, secure) = (TestApp::start(&[]).await, TestApp::start(&tls).await);
    for app in [plain, secure] {
        let url = format!("{}/streams/news", app.url);
        let folder = folder.path().to_owned();
        let runs = tokio::task::spawn_blocking(move || {
            (0..3).flat_map(|_| send_too_large_body(&url, &folder)).collect::<Vec<_>>()
        });
        for (client, printed, expected) in runs.await.expect("no panic") {
            let printed = printed.unwrap_or_else(|| expected.clone());
            assert!(printed.ends_with(&expected), "{client} at {}: {printed}", app.url);
        }
    }
}

#[test]
fn requests_with_an_unknown_host_are_refused_unless_tokens_are_required() {
    let site = built_site();
    let publish = |server: &Server, host: &str| {
        let mut connection = TcpStream::connect(&server.address).expect("a connection");
        let request = format!(
            "POST /streams/x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"
        );
        connection.write_all(request.as_bytes()).expect("sent");
        let mut response = String::new();
        let _ = connection.read_to_string(&mut response);
        let status = response.get(9..12).expect("a status").to_owned();
        (status, response)
    };
    let mut without_tokens = tidings();
    without_tokens.env_remove("TIDINGS_ALLOW_HOST").args([
        "--listen",
        "127.0.0.1:0",
        "--site-root",
    ]);
    let server = Server::spawn(without_tokens.arg(site.path()).args(["--allow-host", "box.lan"]));
    for host in [
        "localhost",
        "LOCALHOST:3000",
        "127.0.0.1:80",
        "127.1.2.3",
        "[::1]:3000",
        "a.localhost",
        "box.lan:8080",
        "BOX.lan.",
    ] {
        assert_eq!(publish(&server, host).0, "201", "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "box.lan.evil",
        "",
    ] {
        let (status, response) = publish(&server, host);
        assert_eq!(status, "421", "{host}");
        assert!(
            response.contains("/problems#unknown-host") && response.contains("--allow-host"),
            "{response}"
        );
    }
    let secret = ["--secret", "a secret of a length that is enough"];
    let mut with_tokens = tidings();
    with_tokens.env_remove("TIDINGS_ALLOW_HOST").args(["--listen", "127.0.0.1:0", "--site-root"]);
    let server = Server::spawn(with_tokens.arg(site.path()).args(secret));
    assert_eq!(publish(&server, "tidings.example").0, "401", "any host, but a token is required");
}

#[tokio::test]
async fn an_origin_matches_its_host_with_the_default_port_and_in_any_case() {
    let app = TestApp::start(&[]).await;
    for (host, origin, status) in [
        ("h:80", "http://h", StatusCode::CREATED),
        ("h", "http://h:80", StatusCode::CREATED),
        ("H.Example", "http://h.example", StatusCode::CREATED),
        ("h:80", "http://evil", StatusCode::FORBIDDEN),
        ("h:81", "http://h", StatusCode::FORBIDDEN),
    ] {
        let request = app.client.request(Method::POST, format!("{}/streams/x", app.url));
        let request = request.header("host", host).header("origin", origin).body("x");
        assert_eq!(request.send().await.expect("a response").status(), status, "{host} {origin}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_read_refusals() {
    let app = TestApp::start(&[
        "--allow-origin",
        "http://other.example",
        "--max-requests-per-address",
        "1",
        "--max-watchers-per-address",
        "1",
    ])
    .await;
    let origin = ("origin", "http://other.example");
    // One upload in progress uses up the limit of one concurrent request.
    let (sender, body) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
    let upload = app.client.post(format!("{}/streams/log?lines", app.url));
    let upload = tokio::spawn(upload.body(reqwest::Body::wrap_stream(body)).send());
    sender.unbounded_send(Ok("one\n")).expect("a reader");
    // The upload is being handled once its first line is published.
    let _watching = app.watch("log", "").await;
    for path in ["/streams/log/messages", "/streams/log/events"] {
        let mut refusal = app.get_with(path, &[origin]).await;
        for _ in 0..600 {
            if refusal.status() == StatusCode::TOO_MANY_REQUESTS {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            refusal = app.get_with(path, &[origin]).await;
        }
        assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(refusal.headers()["access-control-allow-origin"], "http://other.example");
        let exposed = refusal.headers()["access-control-expose-headers"].to_str().expect("text");
        assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"), "{exposed}");
    }
    drop(sender);
    upload.await.expect("no panic").expect("a response");
}

#[tokio::test]
async fn over_tls_only_cookies_with_the_host_prefix_are_accepted() {
    const SECRET: &str = "a secret of a length that is enough";
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let (certificate, key) = (files.certificate(), files.key());
    let flags = ["--tls-cert", certificate.as_str(), "--tls-key", key.as_str(), "--secret", SECRET];
    let mut app = TestApp::start(&flags).await;
    app.client = identity.client().build().expect("a client");
    let claims = json!({ "name": "Ada", "watch": ["*"], "exp": NOW / 1000 + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    let (name, token) = (cookie_name(SECRET), token.expect("a token"));
    for (cookie, status) in [
        (format!("{name}={token}"), StatusCode::UNAUTHORIZED),
        (format!("__Host-{name}={token}"), StatusCode::NOT_FOUND),
    ] {
        let response = app.get_with("/streams/x/messages", &[("cookie", &cookie)]).await;
        assert_eq!(response.status(), status, "{cookie}");
    }
}

#[tokio::test]
async fn event_streams_declare_utf_8() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "✅ naïve").await;
    let response = app.get("/streams/news/events").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(next(&mut events(response)).await.data, "✅ naïve");
}

#[test]
fn booleans_and_addresses_are_accepted_in_many_spellings() {
    let site = built_site();
    let start = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = tidings();
        command.args(["--site-root"]).arg(site.path()).args(arguments);
        command.envs(variables.iter().copied());
        command
    };
    let public_address = ["--listen", "0.0.0.0:0"];
    for yes in ["1", "true", "yes", "on", "TRUE", "Yes", "y", "t"] {
        drop(Server::spawn(&mut start(&[("TIDINGS_OPEN", yes)], &public_address)));
    }
    for no in ["0", "false", "no", "off", "OFF", ""] {
        let (output, stderr) = start_refused(&mut start(&[("TIDINGS_OPEN", no)], &public_address));
        assert_eq!(output.status.code(), Some(2), "{no}: {stderr}");
        assert!(stderr.contains("other machines can reach"), "{no}: {stderr}");
    }
    let (output, stderr) =
        start_refused(&mut start(&[("TIDINGS_OPEN", "perhaps")], &public_address));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--open") && stderr.contains("perhaps"), "{stderr}");

    // Compose files set a variable without a value to the empty string.
    let empty = [
        "PUBLIC",
        "ALLOW_ORIGIN",
        "KEEP_AGE",
        "LOG",
        "SITE_ROOT",
        "METRICS_LISTEN",
        "TLS_CERT",
        "DATA",
    ]
    .map(|name| (format!("TIDINGS_{name}"), ""));
    let empty: Vec<_> = empty.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = start(&empty, &["--listen", "localhost:0"]);
    let server = Server::spawn(command.current_dir(folder.path()));
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    for secret in ["TIDINGS_SECRET", "TIDINGS_SECRET_FILE"] {
        let (output, stderr) =
            start_refused(&mut start(&[(secret, "")], &["--listen", "127.0.0.1:0"]));
        assert_ne!(output.status.code(), Some(0), "{secret}: {stderr}");
        assert!(stderr.contains("--secret"), "{secret}: {stderr}");
    }
    drop(Server::spawn(&mut start(&[], &["--listen", "[::ffff:127.0.0.1]:0"])));
    drop(Server::spawn(&mut start(&[], &["--listen", "127.0.0.1:0", "--log-format", "JSON"])));
    for host in ["box.lan:8080", "http://box.lan", "a b", ""] {
        let (output, stderr) = start_refused(&mut start(&[], &["--allow-host", host]));
        assert_eq!(output.status.code(), Some(2), "{host}: {stderr}");
        assert!(stderr.contains("--allow-host"), "{host}: {stderr}");
    }
    for address in ["nowhere.invalid:3000", "localhost", "localhost:port", "127.0.0.1"] {
        let (output, stderr) = start_refused(&mut start(&[], &["--listen", address]));
        assert_eq!(output.status.code(), Some(2), "{address}: {stderr}");
        assert!(stderr.contains("--listen") && stderr.contains(address), "{address}: {stderr}");
    }
}

#[test]
fn a_secret_file_may_have_a_byte_order_mark_and_line_breaks() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("secret");
    let secret = "0123456789abcdef0123456789abcdef";
    let token = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let mut command = tidings();
        command.args(["token", "--for", "x", "--watch", "*", "--secret-file"]).arg(&file);
        let output = command.output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let tokens = [secret.to_owned(), format!("\u{feff}{secret}\n"), format!("\n{secret}\r\n\n")]
        .map(|text| token(&text));
    let server = Server::start(site.path(), &["--secret", secret]);
    for token in tokens {
        let printed = run_client(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                &format!("authorization: Bearer {token}"),
                &format!("{}/streams/x/messages", server.url()),
            ],
        );
        assert!(
            printed.is_none_or(|status| status == "404"),
            "allowed, but there is no such stream"
        );
    }
}

/// Whether SIGHUP is ignored in this process, which child processes inherit.
#[cfg(target_os = "linux")]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(ignored.trim(), 16).expect("a number") & 1 == 1
}

#[cfg(target_os = "linux")]
#[test]
fn hangup_of_the_terminal_drains_the_server_unless_it_is_ignored() {
    let site = built_site();
    if hangup_is_ignored() {
        println!("skipped: these tests run under nohup");
    } else {
        let mut server = Server::start(site.path(), &[]);
        // The shell sends the signal, and then the system sends it again.
        server.signal("HUP");
        server.signal("HUP");
        assert_eq!(exit_status(&mut server.process), Some(0));
    }
    // A server under nohup outlives its terminal.
    let mut command = Command::new("nohup");
    command.arg(crate::support::process::program()).env("TIDINGS_DATA", ":memory:");
    command.args(["--listen", "127.0.0.1:0", "--site-root"]).arg(site.path());
    let mut server = Server::spawn(&mut command);
    server.signal("HUP");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(server.process.try_wait().expect("a process"), None, "it is running");
}
