//! Each limit, reached and released.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;

use crate::support::{
    TestApp, events, lines, next,
    process::{self, tidings},
};

const SECRET: &str = "a secret of a length that is enough";

/// A client at another address of this machine.
fn client_at(address: &str) -> Client {
    let address: IpAddr = address.parse().expect("an address");
    Client::builder().no_proxy().local_address(address).build().expect("a client")
}

async fn refused(response: Response, status: StatusCode, slug: &str) {
    assert_eq!(response.status(), status);
    let wait = response.headers()[header::RETRY_AFTER].to_str().expect("text").parse::<u64>();
    assert!(wait.is_ok_and(|seconds| seconds > 0));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["type"], format!("/problems#{slug}"));
}

#[tokio::test]
async fn who_publishes_too_fast_has_to_wait() {
    let app = TestApp::start(&["--publish-rate", "1"]).await;
    let other = client_at("127.0.0.2");
    let publish = |client: &Client| client.post(format!("{}/streams/a", app.url)).body("x").send();
    let refusal = loop {
        let response = publish(&app.client).await.expect("an answer");
        if response.status() != StatusCode::CREATED {
            break response;
        }
    };
    refused(refusal, StatusCode::TOO_MANY_REQUESTS, "too-many-messages").await;
    let taken = app.log("a").await.len();
    assert!(taken >= 10, "ten seconds' worth may come at once: {taken}");

    let elsewhere = publish(&other).await.expect("an answer").status();
    assert_eq!(elsewhere, StatusCode::CREATED, "others are within their limit");
    // Reading is no publishing.
    assert_eq!(app.get("/streams/a/messages").await.status(), StatusCode::OK);
    while publish(&app.client).await.expect("an answer").status() != StatusCode::CREATED {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn tokens_have_rates_of_their_own() {
    let app = TestApp::start(&["--publish-rate", "1", "--secret", SECRET]).await;
    let publish = async |name: &str| {
        let claims = serde_json::json!({ "name": name, "publish": ["*"], "exp": u64::MAX });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
        let post = app.client.post(format!("{}/streams/a", app.url));
        let post = post.bearer_auth(token.expect("a token")).body("x").send().await;
        post.expect("an answer").status()
    };
    while publish("one").await != StatusCode::TOO_MANY_REQUESTS {}
    assert_eq!(publish("two").await, StatusCode::CREATED);
}

#[tokio::test]
async fn lines_wait_and_all_of_them_come() {
    let app = TestApp::start(&["--publish-rate", "50"]).await;
    let text = lines((0..700).map(|n| n.to_string()));
    let others = async {
        let client = client_at("127.0.0.2");
        let post = client.post(format!("{}/streams/b", app.url)).body("meanwhile").send().await;
        assert_eq!(post.expect("an answer").status(), StatusCode::CREATED);
    };
    tokio::join!(app.publish_lines("a", text), others);
    let texts: Vec<_> = app.log("a").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (0..700).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_address_may_watch_so_much() {
    let app = TestApp::start(&["--max-watchers-per-address", "2"]).await;
    app.publish("a", "one").await;
    let mut first = events(app.get("/streams/a/events").await);
    let second = app.get("/stream").await;
    let third = app.get("/streams/a/events").await;
    refused(third, StatusCode::TOO_MANY_REQUESTS, "too-many-watchers").await;
    let counter = app.get("/stream").await;
    refused(counter, StatusCode::TOO_MANY_REQUESTS, "too-many-watchers").await;

    let other = client_at("127.0.0.2").get(format!("{}/streams/a/events", app.url)).send().await;
    assert_eq!(next(&mut events(other.expect("an answer"))).await.data, "one");
    assert_eq!(next(&mut first).await.data, "one");
    drop(second);
    while app.get("/streams/a/events").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(first);
    app.until_none_is_open().await;
}

#[tokio::test]
async fn so_many_may_watch() {
    let app = TestApp::start(&["--max-watchers", "2"]).await;
    let first = app.get("/streams/a/events").await;
    let second = client_at("127.0.0.2").get(format!("{}/stream", app.url)).send().await;
    refused(app.get("/streams/a/events").await, StatusCode::SERVICE_UNAVAILABLE, "server-full")
        .await;
    // Whoever does not watch is not concerned.
    app.publish("a", "one").await;
    drop((first, second));
    while app.get("/streams/a/events").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_guesses_tokens_has_to_wait() {
    let app = TestApp::start(&["--sign-in-rate", "3", "--secret", SECRET]).await;
    let guess = |client: &Client, accept: &str| {
        let form = client.post(format!("{}/api/sign-in", app.url)).header("accept", accept);
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        form.body("token=guess&to=/streams").send()
    };
    for _ in 0..3 {
        let answer = guess(&app.client, "*/*").await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let answer = guess(&app.client, "*/*").await.expect("an answer");
    refused(answer, StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins").await;
    let page = guess(&app.client, "text/html").await.expect("an answer");
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(page.headers().contains_key(header::RETRY_AFTER));
    assert!(page.text().await.expect("text").contains("name=\"token\""), "the form, once more");
    let other = guess(&client_at("127.0.0.2"), "*/*").await.expect("an answer");
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_address_is_answered_so_much_at_the_same_time() {
    let app = TestApp::start(&["--max-requests-per-address", "2"]).await;
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let (lines, body) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
        let upload = app.client.post(format!("{}/streams/a?lines", app.url));
        let answer = tokio::spawn(upload.body(reqwest::Body::wrap_stream(body)).send());
        lines.unbounded_send(Ok("begun\n")).expect("a reader");
        uploads.push((lines, answer));
    }
    let other = client_at("127.0.0.2");
    let messages = format!("{}/streams/a/messages", app.url);
    loop {
        let log = other.get(&messages).send().await.expect("an answer");
        if log.text().await.expect("text").matches("begun").count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let third = app.get("/streams/a/messages").await;
    refused(third, StatusCode::TOO_MANY_REQUESTS, "too-many-requests").await;
    for (lines, answer) in uploads {
        drop(lines);
        assert_eq!(answer.await.expect("no panic").expect("an answer").status(), StatusCode::OK);
    }
    while app.get("/streams/a/messages").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Watchers have a permit of another kind.
    let watchers = [app.get("/stream").await, app.get("/stream").await, app.get("/stream").await];
    assert!(watchers.iter().all(|watcher| watcher.status() == StatusCode::OK));
}

#[tokio::test]
async fn who_reads_too_fast_has_to_wait() {
    let app = TestApp::start(&["--read-rate", "1"]).await;
    app.publish("a", "one").await;
    // Ten seconds' worth may come at once, and a list counts for five.
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
    refused(refusal, StatusCode::TOO_MANY_REQUESTS, "too-many-reads").await;
    refused(app.get("/streams").await, StatusCode::TOO_MANY_REQUESTS, "too-many-reads").await;
    let page = app.get_with("/streams", &[("accept", "text/html")]).await;
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(page.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(page.text().await.expect("text").contains("<h1>"), "people are told so with a page");
    // Files of a page, its events, publishing and health are not counted.
    assert_eq!(app.get("/pkg/tidings.AAA.js").await.status(), StatusCode::OK);
    assert_eq!(app.get("/health/ready").await.status(), StatusCode::OK);
    let mut watching = app.watch("a", "earliest").await;
    assert_eq!(next(&mut watching).await.data, "one");
    app.publish("a", "two").await;

    let elsewhere = client_at("127.0.0.2").get(format!("{}/streams", app.url)).send().await;
    assert_eq!(elsewhere.expect("an answer").status(), StatusCode::OK);
    while app.get("/streams/a/messages").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A customer may own a /48, and so 65,536 addresses of ours.
#[tokio::test]
async fn networks_of_one_owner_have_the_share_of_a_few_addresses() {
    let proxy = ["--trusted-proxy", "127.0.0.1/32", "--open", "--sign-in-rate", "5"];
    let app = TestApp::start(&proxy).await;
    let allowed = async |address: &dyn Fn(u32) -> String, attempts: u32| {
        let mut allowed = 0;
        for n in 0..attempts {
            let form = app.client.post(format!("{}/api/sign-in", app.url));
            let form = form.header("content-type", "application/x-www-form-urlencoded");
            let form = form.header("x-forwarded-for", address(n)).body("token=guess&to=/streams");
            let status = form.send().await.expect("an answer").status();
            allowed += u32::from(status != StatusCode::TOO_MANY_REQUESTS);
        }
        allowed
    };
    // A minute gives more, and this takes less.
    let about = |allowed: u32, expected: u32| (expected..=2 * expected).contains(&allowed);
    assert!(about(allowed(&|n| format!("2001:db8:1:1::{n:x}"), 50).await, 5));
    assert!(about(allowed(&|n| format!("2001:db8:2:{n:x}::1"), 100).await, 20));
    assert!(about(allowed(&|n| format!("2001:db8:3:{n:x}00::1"), 250).await, 80));
    assert_eq!(allowed(&|n| format!("2001:db8:{:x}::1", 100 + n), 50).await, 50);
}

#[test]
fn a_memory_budget_is_refused_that_does_not_serve_the_largest_request() {
    for (arguments, said) in [
        (&["--memory-budget", "1MiB"][..], "--memory-budget 1048576 is too small"),
        (
            &["--memory-budget=64MiB", "--max-message-bytes=16MiB", "--keep-bytes=64MiB"],
            "with --max-message-bytes 16777216, it must be at least",
        ),
        (&["--memory-budget", "much"], "must be a number of bytes"),
    ] {
        let (output, error) = process::refused(tidings().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
