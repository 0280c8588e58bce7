//! A server below a base path: every address that it gives out leads back to it.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
};

use clap::Parser as _;
use reqwest::{Client, Method, Response, StatusCode, header, redirect::Policy};
use serde_json::{Value, json};
use tidings::server::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    NOW, TestApp, cookie_name, events, lines, next,
    tls::{CertificateFiles, Identity},
};

const BASE: &str = "/a/tidings";
const SECRET: &str = "a secret of a length that is enough";
const FORM: &str = "application/x-www-form-urlencoded";

/// How every address of a server begins, without its base path.
const ROOTS: [&str; 8] =
    ["/streams", "/stream", "/sign-in", "/problems", "/pkg/", "/api/", "/health/", "/favicon.svg"];

/// What stands before an address in a page.
const MARKS: [&str; 7] = [
    " href=\"",
    " action=\"",
    " data-script=\"",
    " data-wasm=\"",
    " data-page=\"",
    " data-find=\"",
    "\"events\":\"",
];

/// A server below the base path, with a stream of 250 messages and one that has ended.
async fn start(arguments: &[&str]) -> TestApp {
    let app = TestApp::start(&[&["--base-path", BASE], arguments].concat()).await;
    fs::write(app.site().join("pkg/tidings.BBB.wasm"), "wasm").expect("a file");
    let token = format!("Bearer {}", token());
    let request = |method, path: &str| {
        app.client
            .request(method, format!("{}{BASE}{path}", app.url))
            .header("authorization", &token)
    };
    let lines = lines((1..=250).map(|n| format!("message {n}")));
    let published = request(Method::POST, "/streams/ci?lines").body(lines).send().await;
    assert_eq!(published.expect("a response").status(), StatusCode::OK);
    for path in ["/streams/over", "/streams/over/end"] {
        let response = request(Method::POST, path).body("the last words").send().await;
        assert!(response.expect("a response").status().is_success(), "{path}");
    }
    app
}

fn token() -> String {
    let exp = NOW / 1000 + 3600;
    let claims = json!({ "name": "Ada", "publish": ["*"], "watch": ["*"], "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// A request as a browser sends it, without following a redirect.
async fn browse(app: &TestApp, method: Method, address: &str, cookie: &str) -> Response {
    let client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let request = client.request(method, format!("{}{address}", app.url));
    let request = request.header("accept", "text/html").header("cookie", cookie);
    request.header("content-type", FORM).send().await.expect("a response")
}

/// Asserts that each path of the server in a text begins with the base path, also in sentences,
/// commands and JSON.
fn assert_addresses(text: &str, what: &str) {
    for root in ROOTS {
        for (at, _) in text.match_indices(root) {
            let around = text.get(at.saturating_sub(60)..at + root.len()).unwrap_or(root);
            let before = text[..at].trim_end_matches("/api");
            assert!(before.ends_with(BASE), "{what}: …{around}");
        }
    }
}

/// The addresses in a page, and whether it is that of a form.
fn addresses(page: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for mark in MARKS {
        for part in page.split(mark).skip(1) {
            let address = part.split('"').next().unwrap_or_default().replace("&amp;", "&");
            let address = address.split('#').next().unwrap_or_default().to_owned();
            if !address.is_empty() && !address.starts_with("https://www.rfc-editor.org/") {
                found.push((address, mark.contains("action")));
            }
        }
    }
    found
}

/// Requests every address in every page that can be reached from the start page, and from `more`.
/// Returns the addresses.
async fn crawl(app: &TestApp, cookie: &str, more: &[&str]) -> BTreeSet<String> {
    let begin = [BASE, "/a/tidings/"].iter().chain(more).map(|path| (*path).to_owned());
    let mut waiting: VecDeque<_> = begin.map(|address| (address, false)).collect();
    let mut seen = BTreeSet::new();
    while let Some((address, is_form)) = waiting.pop_front() {
        assert!(address.starts_with(BASE), "{address}");
        if !seen.insert(address.clone()) {
            continue;
        }
        let method = if is_form { Method::POST } else { Method::GET };
        let response = browse(app, method, &address, cookie).await;
        let (status, headers) = (response.status(), response.headers());
        let content_type = headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
        assert_eq!(headers.get(header::LOCATION), None, "{address}");
        if is_form {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{address}: a form without its fields");
        } else if status != StatusCode::UNAUTHORIZED || !cookie.is_empty() {
            assert_eq!(status, StatusCode::OK, "{address}");
        }
        if content_type.starts_with("text/html") {
            let page = response.text().await.expect("text");
            assert_addresses(&page, &address);
            waiting.extend(addresses(&page));
        }
    }
    seen
}

#[tokio::test]
async fn every_address_in_every_page_leads_below_the_base_path() {
    let app = start(&[]).await;
    let found = crawl(&app, "", &[]).await;
    for path in [
        "",
        "/",
        "/stream",
        "/streams",
        "/streams/ci",
        "/streams/over",
        "/streams/ci/events?watchers",
        "/api/publish",
        "/api/end",
        "/favicon.svg",
        "/pkg/tidings.AAA.js",
        "/pkg/tidings.BBB.wasm",
    ] {
        assert!(found.contains(&format!("{BASE}{path}")), "{path}: {found:?}");
    }
    let of = |query: &str| found.iter().filter(|address| address.contains(query)).count();
    assert!(of("?at=") >= 250 && of("?before=") >= 2, "permanent links, and older messages");
}

#[tokio::test]
async fn every_address_in_the_pages_of_a_server_with_tokens_leads_below_the_base_path() {
    let app = start(&["--secret", SECRET, "--public", "over"]).await;
    let more = ["/a/tidings/streams/ci", "/a/tidings/sign-in", "/a/tidings/problems"];
    let found = crawl(&app, "", &more).await;
    for path in ["/sign-in?to=/a/tidings/", "/sign-in?to=/a/tidings/streams", "/api/sign-in"] {
        assert!(found.contains(&format!("{BASE}{path}")), "{path}: {found:?}");
    }
    let signed_in = format!("{}={}", cookie_name(SECRET), token());
    let found = crawl(&app, &signed_in, &more).await;
    assert!(found.contains(&format!("{BASE}/api/sign-out")), "{found:?}");
}

#[tokio::test]
async fn every_address_in_problems_and_headers_begins_with_the_base_path() {
    let app = start(&["--secret", SECRET]).await;
    let bearer = format!("Bearer {}", token());
    for (method, path, slug) in [
        (Method::GET, "/streams/ci/events", "token-missing"),
        (Method::GET, "/nothing", "not-found"),
        (Method::PATCH, "/streams", "method-not-allowed"),
        (Method::GET, "/streams/A/events", "malformed-name"),
        (Method::GET, "/streams/none/messages", "no-such-stream"),
        (Method::POST, "/streams/ci?x", "malformed-query"),
    ] {
        let mut request = app.client.request(method, format!("{}{BASE}{path}", app.url));
        if slug != "token-missing" {
            request = request.header("authorization", &bearer);
        }
        let text = request.send().await.expect("a response").text().await.expect("text");
        let problem: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(problem["type"], format!("{BASE}/problems#{slug}"), "{path}");
        assert_addresses(&text, path);
        let explained = app.get(&format!("{BASE}/problems")).await.text().await.expect("text");
        assert!(explained.contains(&format!("id=\"{slug}\"")), "{slug}");
    }

    let history = format!("{BASE}/streams/ci/messages?limit=100");
    let first = app.get_with(&history, &[("authorization", &bearer)]).await;
    let link = first.headers()[header::LINK].to_str().expect("text").to_owned();
    let next_page = link.trim_start_matches('<').split('>').next().expect("an address");
    assert!(next_page.starts_with(&format!("{BASE}/streams/ci/messages?after=")), "{link}");
    let second = app.get_with(next_page, &[("authorization", &bearer)]).await;
    assert!(second.text().await.expect("text").contains("message 200"));

    // A problem that a browser waits for is explained in a small page.
    let events = format!("{BASE}/streams/ci/events");
    let explained = app.get_with(&events, &[("accept", "text/html")]).await;
    let explained = explained.text().await.expect("text");
    assert!(explained.contains("<h1>There is no token</h1>"), "{explained}");
    assert!(explained.contains("/a/tidings/sign-in"), "{explained}");
    assert_addresses(&explained, "an explained problem");
}

#[tokio::test]
async fn forms_redirect_below_the_base_path() {
    let app = start(&["--secret", SECRET]).await;
    let client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let post = async |path: &str, form: String| {
        let request = client.post(format!("{}{BASE}{path}", app.url)).header("content-type", FORM);
        let request = request.header("accept", "text/html").body(form);
        let cookie = format!("{}={}", cookie_name(SECRET), token());
        request.header("cookie", cookie).send().await.expect("a response")
    };
    for (to, location) in [
        ("/a/tidings/streams/ci?at=1-2", "/a/tidings/streams/ci?at=1-2"),
        ("/a/tidings", "/a/tidings"),
        ("/a/tidings/", "/a/tidings/"),
        // Other paths of the host belong to other programs.
        ("/streams/ci", "/a/tidings/streams"),
        ("/a/tidings2/streams", "/a/tidings/streams"),
        ("//elsewhere.example/a/tidings", "/a/tidings/streams"),
    ] {
        let response = post("/api/sign-in", format!("token={}&to={to}", token())).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{to}");
        assert_eq!(response.headers()[header::LOCATION], location, "{to}");
        // As the prefix __Host- requires; the name tells servers of one host apart.
        let cookie = response.headers()[header::SET_COOKIE].to_str().expect("text");
        assert!(cookie.contains("; Path=/;") || cookie.ends_with("; Path=/"), "{cookie}");
    }
    let signed_out = post("/api/sign-out", format!("to={BASE}/")).await;
    assert_eq!(signed_out.headers()[header::LOCATION], "/a/tidings/");
    let published = post("/api/publish", "stream=ci&text=from+a+form".to_owned()).await;
    assert_eq!(published.headers()[header::LOCATION], "/a/tidings/streams/ci");
    let refused = post("/api/publish", "stream=ci&text=".to_owned()).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_addresses(&refused.text().await.expect("text"), "the refused form");
}

#[tokio::test]
async fn nothing_is_served_outside_of_the_base_path() {
    let app = start(&[]).await;
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/tiding",
        "/a/tidings2",
        "/A/tidings",
        "/streams",
        "/streams/ci",
        "/health/live",
        "/favicon.svg",
        "/pkg/tidings.AAA.js",
        "/x/a/tidings/streams",
        "/%61/tidings",
        "//a/tidings",
        "/a//tidings",
    ] {
        let problem = app.get(path).await;
        assert_eq!(problem.status(), StatusCode::NOT_FOUND, "{path}");
        let problem: Value = problem.json().await.expect("JSON");
        assert_eq!(problem["type"], "/a/tidings/problems#not-found", "{path}");
        let page = browse(&app, Method::GET, path, "").await;
        assert_eq!(page.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(page.headers().contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        let page = page.text().await.expect("text");
        assert!(page.contains("<h1>Nothing here</h1>"), "{page}");
        assert!(page.contains("href=\"/a/tidings/\""), "{page}");
        assert_addresses(&page, path);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(app.send(method, path, "x").await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
    // A trailing slash is no other address here either, and programs work as at the root.
    for path in ["", "/", "//", "/streams/", "/streams/ci/", "/health/live", "/health/ready"] {
        assert_eq!(app.get(&format!("{BASE}{path}")).await.status(), StatusCode::OK, "{path}");
    }
    let mut reader =
        events(app.get(&format!("{BASE}/streams/ci/events?last_event_id=latest")).await);
    let published = app.post(&format!("{BASE}/streams/ci"), "live").await;
    assert_eq!(published.status(), StatusCode::CREATED);
    assert_eq!(next(&mut reader).await.data, "live");
    let deleted = app.send(Method::DELETE, &format!("{BASE}/streams/over"), "").await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
}

/// The log and the metrics name the routes as they do at the root, so that dashboards stay the same.
#[tokio::test]
async fn metrics_count_the_routes_without_the_base_path() {
    let app = start(&[]).await;
    app.get(&format!("{BASE}/streams/ci")).await;
    let metrics = app.client.get(&app.metrics).send().await.expect("a response");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("route=\"/streams/{name}\"") && !metrics.contains(BASE), "{metrics}");
}

#[tokio::test]
async fn a_base_path_works_over_http_2_and_with_the_redirect_to_https() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let (certificate, key) = (files.certificate(), files.key());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--redirect-listen", "127.0.0.1:0"];
    let mut app = TestApp::start(&[&["--base-path", BASE][..], &tls].concat()).await;
    app.client = identity.client().build().expect("a client");
    let page = app.get("/a/tidings/streams/ci?x=y").await;
    assert_eq!((page.status(), page.version()), (StatusCode::OK, reqwest::Version::HTTP_2));
    let page = page.text().await.expect("text");
    assert!(page.contains(&format!("{}/a/tidings/streams/ci/events", app.url)), "{page}");
    assert_addresses(&page, "the page of a stream");
    assert_eq!(app.get("/streams/ci").await.status(), StatusCode::NOT_FOUND);

    let plain = app.redirect.as_deref().expect("an address");
    let client = identity.client().redirect(Policy::none()).build().expect("a client");
    let redirect = client.get(format!("{plain}/a/tidings/streams/ci?x")).send().await;
    let redirect = redirect.expect("a response");
    let expected = format!("{}/a/tidings/streams/ci?x", app.url);
    assert_eq!(redirect.headers()[header::LOCATION], expected);

    let mut connection = TcpStream::connect(app.address()).await.expect("a connection");
    connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut response = String::new();
    connection.read_to_string(&mut response).await.expect("a response");
    assert!(response.contains("\"/a/tidings/problems#tls-required\""), "{response}");
}

#[test]
fn a_malformed_base_path_is_refused() {
    for path in ["", "/", "tidings", "/tidings/", "/a b", "/a//b", "/..", "/%61", "https://a/b"] {
        let refused = Config::try_parse_from(["tidings", "--base-path", path]).expect_err(path);
        let refused = refused.to_string();
        assert!(
            refused.contains("--base-path") && refused.contains("a path like /tidings"),
            "{refused}"
        );
    }
    let config = Config::try_parse_from(["tidings", "--base-path", "/a/b"]).expect("valid");
    assert_eq!(config.base_path().as_str(), "/a/b");
}
