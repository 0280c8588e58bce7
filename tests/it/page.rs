//! The rendered pages and the files of the site, with their headers.

use futures::{StreamExt as _, future::join_all};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{NOW, TestApp, events};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

fn between<'text>(text: &'text str, before: &str, after: &str) -> &'text str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {rest}")).0
}

/// Pages are loaded while the router has already finished; they keep their title, and the nonce without
/// which a browser does not run their script.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_rendered_concurrently_are_complete() {
    let app = TestApp::start(&["--read-rate=0"]).await;
    for _ in 0..20 {
        app.post("/streams/a", "x".repeat(16 * 1024)).await;
    }
    let pages = (0..100).map(|_| async {
        let response = app.get_with("/streams/a", &[BROWSER]).await;
        let policy =
            response.headers()["content-security-policy"].to_str().expect("text").to_owned();
        let html = response.text().await.expect("text");
        assert_eq!(between(&html, "<title>", "</title>"), "a · Tidings");
        assert!(html.contains(r#"<meta name="description""#));
        let nonce = between(&policy, "'nonce-", "'");
        assert!(html.contains(&format!("nonce=\"{nonce}\"")), "{policy}");
    });
    join_all(pages).await;
}

#[tokio::test(start_paused = true)]
async fn the_page_shows_the_first_value_and_resumes_after_it() {
    let app = TestApp::start(&[]).await;
    let response = app.get("/").await;
    assert_eq!(response.headers()["cache-control"], "private, no-cache, no-transform");
    let html = response.text().await.expect("text");
    let log = between(&html, r#"role="log""#, "</ol>");
    assert_eq!(between(log, r#"<p dir="auto">"#, "</p>"), "Counter value 1");
    assert!(log.contains(r#"datetime="2025-11-23T09:47:14."#), "{log}");

    let json = between(&html, r#"<script id="snapshot" type="application/json">"#, "</script>");
    let snapshot: Value = serde_json::from_str(json).expect("JSON");
    let id = snapshot["messages"][0]["id"].as_str().expect("an id");
    assert!(id.ends_with("-1") && id.starts_with(&NOW.to_string()[..10]), "{id}");
    let path = format!("{}?last_event_id={id}", snapshot["events"].as_str().expect("a path"));
    let next = events(app.get(&path).await).next().await.expect("an event").expect("valid");
    assert_eq!(next.data, "Counter value 2");
}

#[tokio::test]
async fn the_page_without_scripts_shows_a_curl_command() {
    let app = TestApp::start(&[]).await;
    let html = app.get_with("/", &[("host", "tidings.example:8080")]).await.text().await;
    let html = html.expect("text");
    let hint = between(&html, "<noscript>", "</noscript>");
    assert!(hint.contains("curl -N tidings.example:8080/stream"), "{hint}");

    let html = app.get_with("/", &[("host", "a;id$(x)")]).await.text().await.expect("text");
    let hint = between(&html, "<noscript>", "</noscript>");
    assert!(hint.contains("curl -N localhost/stream"), "no shell code in the hint: {hint}");
}

#[tokio::test]
async fn scripts_run_only_with_a_nonce() {
    let app = TestApp::start(&[]).await;
    let mut nonces = Vec::new();
    for path in ["/", "/", "/problems", "/nothing"] {
        let response = app.get_with(path, &[BROWSER]).await;
        let policy = response.headers()["content-security-policy"].to_str().expect("text");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        let nonce = between(policy, "'nonce-", "'").to_owned();
        let html = response.text().await.expect("text");
        let scripts = html.split("<script").skip(1).filter(|tag| !tag.contains("application/json"));
        for script in scripts {
            assert!(script.contains(&format!(r#"nonce="{nonce}""#)), "{path}: {script}");
        }
        assert!(!html.contains(" style=") && !html.contains(" onclick="), "{path}");
        nonces.push(nonce);
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 4, "a nonce is used once");
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let app = TestApp::start(&[]).await;
    for path in ["/", "/stream", "/nothing", "/favicon.svg", "/health/live"] {
        let response = app.get(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(response.headers()[name], value, "{path}");
        }
        assert!(response.headers().contains_key("content-security-policy"), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_gets_a_page_or_a_problem_by_accept() {
    let app = TestApp::start(&[]).await;
    let long = format!("/{}", "a".repeat(10_000));
    let paths = ["/nothing", "/pkg/", "/pkg/nothing.js", "/../etc/passwd", "/%ff", "/a/b?c"];
    for path in paths.into_iter().chain([long.as_str()]) {
        let page = app.get_with(path, &[BROWSER]).await;
        assert_eq!(page.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(page.text().await.expect("text").contains("<h1>Nothing here</h1>"), "{path}");

        let problem = app.get(path).await;
        assert_eq!(problem.status(), StatusCode::NOT_FOUND, "{path}");
        let problem: Value = problem.json().await.expect("JSON");
        assert_eq!(problem["type"], "/problems#not-found", "{path}");
    }
    let posted =
        app.client.post(format!("{}/nothing/here", app.url)).send().await.expect("a response");
    assert_eq!(posted.status(), StatusCode::NOT_FOUND);
}

/// Request targets that are not paths.
#[tokio::test]
async fn unusual_request_targets_get_a_response() {
    let app = TestApp::start(&[]).await;
    let address = app.url.strip_prefix("http://").expect("a URL");
    for target in ["a:80", "*", "http://a", "http://a?b", "/../../etc/passwd", "/%2e%2e/etc/passwd"]
    {
        let mut connection = TcpStream::connect(address).await.expect("a connection");
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\naccept: text/html\r\nconnection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut response = Vec::new();
        connection.read_to_end(&mut response).await.expect("a response");
        let response = String::from_utf8_lossy(&response);
        assert!(
            response.starts_with("HTTP/1.1 ") && !response.contains("root:"),
            "{target}: {response}"
        );
    }
}

#[tokio::test]
async fn an_unsupported_method_gets_a_problem() {
    let app = TestApp::start(&[]).await;
    for path in ["/problems", "/stream", "/health/live"] {
        for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
            let request = app.client.request(method, format!("{}{path}", app.url));
            let response = request.send().await.expect("a response");
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(response.headers()["allow"], "GET,HEAD", "{path}");
            let problem: Value = response.json().await.expect("JSON");
            assert_eq!(problem["type"], "/problems#method-not-allowed");
        }
    }
}

#[tokio::test]
async fn the_problems_page_explains_every_problem() {
    let app = TestApp::start(&[]).await;
    let html = app.get("/problems").await.text().await.expect("text");
    for problem in tidings::problem::ALL {
        assert!(html.contains(&format!(r#"<section id="{}">"#, problem.slug)), "{}", problem.slug);
    }
}

#[tokio::test]
async fn built_files_are_compressed_and_immutable() {
    let app = TestApp::start(&[]).await;
    let browser = [("accept-encoding", "gzip, br")];
    let script = app.get_with("/pkg/tidings.AAA.js", &browser).await;
    assert_eq!(script.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(script.headers()["content-encoding"], "br");
    assert_eq!(script.headers()["vary"], "accept-encoding");
    assert_eq!(script.headers()["content-type"], "text/javascript");
    let icon = app.get("/favicon.svg").await;
    assert_eq!(icon.headers()["cache-control"], "no-cache");
    assert_eq!(icon.headers()["content-type"], "image/svg+xml");
}

#[tokio::test]
async fn only_pages_are_compressed_on_the_fly() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    let gzip = ("accept-encoding", "gzip, br");
    for path in ["/", "/streams", "/streams/news", "/problems", "/sign-in"] {
        let page = app.get_with(path, &[gzip, BROWSER]).await;
        assert_eq!(page.headers()["content-encoding"], "gzip", "{path}");
        assert!(page.headers().contains_key("content-length"), "{path}: compressed at once");
        let vary: Vec<_> = page.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["accept", "accept-encoding"], "{path}");
    }
    // Where text of the request may be beside messages, the size must not tell what is in both.
    for (query, is_compressed) in
        [("before=latest&view=log", true), ("find=words", false), ("before=latest&other", false)]
    {
        let page = app.get_with(&format!("/streams/news?{query}"), &[gzip, BROWSER]).await;
        let encoding = page.headers().contains_key("content-encoding");
        assert_eq!(encoding, is_compressed, "{query}");
    }
    let text = app.get_with("/", &[gzip, ("accept", "text/plain")]).await;
    assert!(!text.headers().contains_key("content-encoding"), "a page that is requested as text");
    for path in ["/stream", "/streams/news/messages", "/health/live", "/nothing"] {
        let other = app.get_with(path, &[gzip]).await;
        assert!(!other.headers().contains_key("content-encoding"), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_internal_error() {
    let app = TestApp::start(&[]).await;
    std::os::unix::fs::symlink("loop.svg", app.site().join("loop.svg")).expect("a link");
    let response = app.get("/loop.svg").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["type"], "/problems#internal");
}

/// The page that a browser without JavaScript gets when its form is refused.
#[tokio::test]
async fn a_refused_form_keeps_the_message_and_shows_the_problem() {
    let app = TestApp::start(&[]).await;
    let send = async |path: &str, form: &str| {
        let request = app.client.post(format!("{}{path}", app.url)).header(BROWSER.0, BROWSER.1);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form.to_owned()).send().await.expect("a response");
        (response.status(), response.text().await.expect("text"))
    };
    app.publish("news", "the only message").await;
    let (status, _) = send("/api/end", "stream=news&text=that+was+all").await;
    assert_eq!(status, StatusCode::OK, "redirected to the stream");

    let (status, html) = send("/api/publish", "stream=news&text=too+late").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(html.contains("the only message") && html.contains("too late</textarea>"), "{html}");

    let (status, html) = send("/api/end", "stream=news&text=once+more").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(html.contains("The stream has ended") && !html.contains("once more"), "{html}");

    let (status, html) = send("/api/publish", "stream=NEWS&text=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("The name of the stream is malformed"), "{html}");
}

/// Colours, links and JSON are in the HTML of every page of a stream; the history has what was published.
#[tokio::test]
async fn a_log_is_rendered_with_colours_links_and_json() {
    let app = TestApp::start(&[]).await;
    let lines = [
        "\u{1b}[1;38;5;9merror\u{1b}[0m: <b>at\u{1b}[0m http://localhost:\u{1b}[1m80\u{1b}[m/",
        "\u{1b}]0;title\u{7}\u{1b}[2K\u{1b}[1Gdone javascript:alert(1)",
        r#"{"level":"<i>","n":1e400}"#,
    ];
    app.post("/streams/ci?lines", lines.join("\n")).await;
    let link = r#"<a href="http://localhost:80/" rel="noopener noreferrer nofollow" target="_blank">http://localhost:<span class="sgr bold">80</span>/</a>"#;
    let rows = [
        &format!(r#"<p dir="auto"><span class="sgr bold f9">error</span>: &lt;b>at {link}</p>"#),
        r#"<p dir="auto">done javascript:alert(1)</p>"#,
        r#"<details><summary>{<b>"level"</b>:"&lt;i>",<b>"n"</b>:1e400}</summary><p>{"#,
    ];
    let history = app.get("/streams/ci/messages").await.json::<Value>().await.expect("JSON");
    let messages = history["messages"].as_array().expect("messages");
    let texts: Vec<_> = messages.iter().filter_map(|message| message["data"].as_str()).collect();
    assert_eq!(texts, lines);
    let first = messages[0]["id"].as_str().expect("an id");
    for path in ["/streams/ci", &format!("/streams/ci?at={first}"), "/streams/ci?before=latest"] {
        let html = app.get_with(path, &[BROWSER]).await.text().await.expect("text");
        for row in rows {
            assert!(html.contains(row), "{path}: {row} in {html}");
        }
        assert!(html.contains(r#"class="log lines""#), "{path}");
    }
    let list = app.get_with("/streams", &[BROWSER]).await.text().await.expect("text");
    assert!(!list.contains('\u{1b}'));
}

#[tokio::test]
async fn the_view_of_a_stream_is_by_its_messages_or_by_choice() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "We are looking into it.").await;
    app.publish("ci", "INFO listening").await;
    let page = async |path: &str| app.get_with(path, &[BROWSER]).await.text().await.expect("text");
    assert!(page("/streams/news").await.contains(r#"class="log""#));
    assert!(page("/streams/ci").await.contains(r#"class="log lines""#));
    let chosen = page("/streams/news?view=log").await;
    assert!(chosen.contains(r#"<html lang="en" data-view="log">"#), "{chosen}");
    let older = page("/streams/ci?before=latest&view=text").await;
    assert!(older.contains(r#"<html lang="en" data-view="text">"#), "{older}");
    assert!(older.contains("/streams/ci?before=latest&amp;view=log"), "{older}");
    let refused = app.get_with("/streams/ci?view=grid", &[BROWSER]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}
