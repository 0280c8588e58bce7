//! Rate limits and concurrency limits: each is reached, and released again.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;

use crate::support::{
    TestApp, events, lines, next,
    process::{self, tidings},
};

const SECRET: &str = "a secret of a length that is enough";

/// A client with another loopback address.
fn client_at(address: &str) -> Client {
    let address: IpAddr = address.parse().expect("an address");
    Client::builder().no_proxy().local_address(address).build().expect("a client")
}

/// Asserts a refusal with this problem and a `Retry-After` header.
async fn assert_refused(response: Response, status: StatusCode, slug: &str) {
    assert_eq!(response.status(), status);
    let wait = response.headers()[header::RETRY_AFTER].to_str().expect("text").parse::<u64>();
    assert!(wait.is_ok_and(|seconds| seconds > 0));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["type"], format!("/problems#{slug}"));
}

#[tokio::test]
async fn publishing_over_the_rate_is_refused() {
    let app = TestApp::start(&["--publish-rate", "1"]).await;
    let other = client_at("127.0.0.2");
    let publish = |client: &Client| client.post(format!("{}/streams/a", app.url)).body("x").send();
    let refusal = loop {
        let response = publish(&app.client).await.expect("a response");
        if response.status() != StatusCode::CREATED {
            break response;
        }
    };
    assert_refused(refusal, StatusCode::TOO_MANY_REQUESTS, "too-many-messages").await;
    let stored = app.log("a").await.len();
    assert!(stored >= 10, "a burst of ten seconds is allowed: {stored}");

    let elsewhere = publish(&other).await.expect("a response").status();
    assert_eq!(elsewhere, StatusCode::CREATED, "others are within their limit");
    // Reading is not limited by the publish rate.
    assert_eq!(app.get("/streams/a/messages").await.status(), StatusCode::OK);
    while publish(&app.client).await.expect("a response").status() != StatusCode::CREATED {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn each_token_has_its_own_rate() {
    let app = TestApp::start(&["--publish-rate", "1", "--secret", SECRET]).await;
    let publish = async |name: &str| {
        let claims = serde_json::json!({ "name": name, "publish": ["*"], "exp": u64::MAX });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
        let post = app.client.post(format!("{}/streams/a", app.url));
        let post = post.bearer_auth(token.expect("a token")).body("x").send().await;
        post.expect("a response").status()
    };
    while publish("one").await != StatusCode::TOO_MANY_REQUESTS {}
    assert_eq!(publish("two").await, StatusCode::CREATED);
}

#[tokio::test]
async fn an_upload_of_lines_is_slowed_down_to_the_rate() {
    let app = TestApp::start(&["--publish-rate", "50"]).await;
    let text = lines((0..700).map(|n| n.to_string()));
    let others = async {
        let client = client_at("127.0.0.2");
        let post = client.post(format!("{}/streams/b", app.url)).body("meanwhile").send().await;
        assert_eq!(post.expect("a response").status(), StatusCode::CREATED);
    };
    tokio::join!(app.publish_lines("a", text), others);
    let texts: Vec<_> = app.log("a").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (0..700).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn watchers_of_an_address_are_limited() {
    let app = TestApp::start(&["--max-watchers-per-address", "2"]).await;
    app.publish("a", "one").await;
    let mut first = events(app.get("/streams/a/events").await);
    let second = app.get("/stream").await;
    let third = app.get("/streams/a/events").await;
    assert_refused(third, StatusCode::TOO_MANY_REQUESTS, "too-many-watchers").await;
    let counter = app.get("/stream").await;
    assert_refused(counter, StatusCode::TOO_MANY_REQUESTS, "too-many-watchers").await;

    let other = client_at("127.0.0.2").get(format!("{}/streams/a/events", app.url)).send().await;
    assert_eq!(next(&mut events(other.expect("a response"))).await.data, "one");
    assert_eq!(next(&mut first).await.data, "one");
    drop(second);
    while app.get("/streams/a/events").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(first);
    app.wait_until_no_stream_is_open().await;
}

#[tokio::test]
async fn watchers_of_all_addresses_are_limited() {
    let app = TestApp::start(&["--max-watchers", "2"]).await;
    let first = app.get("/streams/a/events").await;
    let second = client_at("127.0.0.2").get(format!("{}/stream", app.url)).send().await;
    assert_refused(
        app.get("/streams/a/events").await,
        StatusCode::SERVICE_UNAVAILABLE,
        "server-full",
    )
    .await;
    // Publishing is not affected.
    app.publish("a", "one").await;
    drop((first, second));
    while app.get("/streams/a/events").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn sign_in_attempts_over_the_rate_are_refused() {
    let app = TestApp::start(&["--sign-in-rate", "3", "--secret", SECRET]).await;
    let guess = |client: &Client, accept: &str| {
        let form = client.post(format!("{}/api/sign-in", app.url)).header("accept", accept);
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        form.body("token=guess&to=/streams").send()
    };
    for _ in 0..3 {
        let response = guess(&app.client, "*/*").await.expect("a response");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let response = guess(&app.client, "*/*").await.expect("a response");
    assert_refused(response, StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins").await;
    let page = guess(&app.client, "text/html").await.expect("a response");
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(page.headers().contains_key(header::RETRY_AFTER));
    assert!(
        page.text().await.expect("text").contains("name=\"token\""),
        "the page shows the form again"
    );
    let other = guess(&client_at("127.0.0.2"), "*/*").await.expect("a response");
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn concurrent_requests_of_an_address_are_limited() {
    let app = TestApp::start(&["--max-requests-per-address", "2"]).await;
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let (lines, body) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
        let upload = app.client.post(format!("{}/streams/a?lines", app.url));
        let response = tokio::spawn(upload.body(reqwest::Body::wrap_stream(body)).send());
        lines.unbounded_send(Ok("begun\n")).expect("a reader");
        uploads.push((lines, response));
    }
    let other = client_at("127.0.0.2");
    let messages = format!("{}/streams/a/messages", app.url);
    loop {
        let log = other.get(&messages).send().await.expect("a response");
        if log.text().await.expect("text").matches("begun").count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let third = app.get("/streams/a/messages").await;
    assert_refused(third, StatusCode::TOO_MANY_REQUESTS, "too-many-requests").await;
    for (lines, response) in uploads {
        drop(lines);
        assert_eq!(response.await.expect("no panic").expect("a response").status(), StatusCode::OK);
    }
    while app.get("/streams/a/messages").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Watchers do not count as concurrent requests.
    let watchers = [app.get("/stream").await, app.get("/stream").await, app.get("/stream").await];
    assert!(watchers.iter().all(|watcher| watcher.status() == StatusCode::OK));
}

#[tokio::test]
async fn reading_over_the_rate_is_refused() {
    let app = TestApp::start(&["--read-rate", "1"]).await;
    app.publish("a", "one").await;
    // A burst of ten seconds is allowed, and a list counts as five reads.
    assert_eq!(app.get("/streams").await.status(), StatusCode::OK);
    for path in ["/", "/problems", "/streams/a", "/streams/a/messages", "/sign-in"] {
        assert_eq!(app.get(path).await.status(), StatusCode::OK, "{path}");
    }
    let refusal = loop {
        let response = app.get("/streams/a/messages").await;
        if response.status() != StatusCode::OK {
            break response;
        }
    };
    assert_refused(refusal, StatusCode::TOO_MANY_REQUESTS, "too-many-reads").await;
    assert_refused(app.get("/streams").await, StatusCode::TOO_MANY_REQUESTS, "too-many-reads")
        .await;
    let page = app.get_with("/streams", &[("accept", "text/html")]).await;
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(page.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(page.text().await.expect("text").contains("<h1>"), "a browser gets a page");
    // Files of the site, event streams, publishing and health checks are not counted.
    assert_eq!(app.get("/pkg/tidings.AAA.js").await.status(), StatusCode::OK);
    assert_eq!(app.get("/health/ready").await.status(), StatusCode::OK);
    let mut watching = app.watch("a", "earliest").await;
    assert_eq!(next(&mut watching).await.data, "one");
    app.publish("a", "two").await;

    let elsewhere = client_at("127.0.0.2").get(format!("{}/streams", app.url)).send().await;
    assert_eq!(elsewhere.expect("a response").status(), StatusCode::OK);
    while app.get("/streams/a/messages").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A customer may own an IPv6 /48, which is 65,536 /64 networks, each counted as one address.
#[tokio::test]
async fn wider_ipv6_networks_have_limits_of_their_own() {
    let proxy = ["--trusted-proxy", "127.0.0.1/32", "--open", "--sign-in-rate", "5"];
    let app = TestApp::start(&proxy).await;
    let allowed = async |address: &dyn Fn(u32) -> String, attempts: u32| {
        let mut allowed = 0;
        for n in 0..attempts {
            let form = app.client.post(format!("{}/api/sign-in", app.url));
            let form = form.header("content-type", "application/x-www-form-urlencoded");
            let form = form.header("x-forwarded-for", address(n)).body("token=guess&to=/streams");
            let status = form.send().await.expect("a response").status();
            allowed += u32::from(status != StatusCode::TOO_MANY_REQUESTS);
        }
        allowed
    };
    // The limits refill once a minute, and this takes less: at most twice the limit is allowed.
    let about = |allowed: u32, expected: u32| (expected..=2 * expected).contains(&allowed);
    assert!(about(allowed(&|n| format!("2001:db8:1:1::{n:x}"), 50).await, 5));
    assert!(about(allowed(&|n| format!("2001:db8:2:{n:x}::1"), 100).await, 20));
    assert!(about(allowed(&|n| format!("2001:db8:3:{n:x}00::1"), 250).await, 80));
    assert_eq!(allowed(&|n| format!("2001:db8:{:x}::1", 100 + n), 50).await, 50);
}

#[test]
fn a_memory_budget_too_small_for_the_largest_request_is_refused() {
    for (arguments, expected) in [
        (&["--memory-budget", "1MiB"][..], "--memory-budget 1048576 is too small"),
        (
            &["--memory-budget=64MiB", "--max-message-bytes=16MiB", "--keep-bytes=64MiB"],
            "with --max-message-bytes 16777216, it must be at least",
        ),
        (&["--memory-budget", "much"], "must be a number of bytes"),
    ] {
        let (output, stderr) = process::start_refused(tidings().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}
