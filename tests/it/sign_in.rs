//! Signing in and out with forms, as a browser without JavaScript does.

use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde_json::json;

use crate::support::{NOW, TestApp, cookie_name};

const SECRET: &str = "a secret of a length that is enough";
const OTHER_SECRET: &str = "another secret, for another server";

fn token() -> String {
    let exp = NOW / 1000 + 3600;
    let claims =
        json!({ "name": "Ada", "publish": ["ci-*"], "watch": ["ci-*", "log"], "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

async fn start_with_tokens() -> TestApp {
    TestApp::start(&["--secret", SECRET, "--public", "status-*"]).await
}

/// Sends a request as a browser: a `POST` of the form, or a `GET` without one; follows no redirect.
async fn send(app: &TestApp, path: &str, cookie: &str, form: Option<&str>) -> Response {
    let client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let url = format!("{}{path}", app.url);
    let request = match form {
        None => client.get(url),
        Some(form) => client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned()),
    };
    let request = request.header("accept", "text/html").header("cookie", cookie);
    request.send().await.expect("a response")
}

/// The value of a header, or an empty text.
fn header_of(response: &Response, name: &header::HeaderName) -> String {
    let value = response.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn signing_in_sets_a_cookie_and_signing_out_clears_it() {
    let app = start_with_tokens().await;
    let token = token();
    let form = format!("token={token}&to=%2Fstreams%2Fci-1%3Fat%3D1-2");
    let response = send(&app, "/api/sign-in", "", Some(&form)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(header_of(&response, &header::LOCATION), "/streams/ci-1?at=1-2");
    let cookie = header_of(&response, &header::SET_COOKIE);
    assert!(cookie.starts_with(&format!("{}={token}; ", cookie_name(SECRET))), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(cookie.contains(attribute), "{attribute}: {cookie}");
    }
    assert!(!cookie.contains("Secure"), "over plain HTTP the browser would not send it: {cookie}");

    let signed_in = format!("{}={token}", cookie_name(SECRET));
    let page = send(&app, "/streams/ci-1", &signed_in, None).await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.expect("text");
    assert!(page.contains("Ada") && page.contains("/api/sign-out"), "{page}");
    assert!(page.contains("name=\"text\"") && !page.contains(&token), "{page}");

    let response = send(&app, "/api/sign-out", &signed_in, Some("to=%2F")).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(header_of(&response, &header::LOCATION), "/");
    assert!(
        header_of(&response, &header::SET_COOKIE)
            .starts_with(&format!("{}=; ", cookie_name(SECRET)))
    );
}

#[tokio::test]
async fn a_page_without_permission_shows_the_sign_in_form() {
    let app = start_with_tokens().await;
    let signed_in = format!("{}={}", cookie_name(SECRET), token());
    for (path, cookie, status) in [
        ("/streams/ci-1", "", StatusCode::UNAUTHORIZED),
        ("/streams/ci-1?before=1-2", "", StatusCode::UNAUTHORIZED),
        ("/streams/ci-1", &format!("{}=nonsense", cookie_name(SECRET)), StatusCode::UNAUTHORIZED),
        ("/streams/other", &signed_in, StatusCode::FORBIDDEN),
    ] {
        let page = send(&app, path, cookie, None).await;
        assert_eq!(page.status(), status, "{path}");
        let page = page.text().await.expect("text");
        let to = format!("name=\"to\" value=\"{path}\"");
        assert!(page.contains("/api/sign-in") && page.contains(&to), "{path}: {page}");
    }
    for (path, cookie) in [("/streams/status-1", ""), ("/", ""), ("/streams", ""), ("/sign-in", "")]
    {
        assert_eq!(send(&app, path, cookie, None).await.status(), StatusCode::OK, "{path}");
    }
    // The right to watch is not the right to publish.
    let page = send(&app, "/streams/log", &signed_in, None).await.text().await.expect("text");
    assert!(!page.contains("/api/publish") && !page.contains("/api/end"), "{page}");
}

#[tokio::test]
async fn the_list_shows_only_streams_that_may_be_watched() {
    let app = start_with_tokens().await;
    let all = json!({ "name": "a", "publish": ["*"], "watch": ["*"], "exp": NOW });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let all = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &all, &key).expect("a token");
    for stream in ["ci-1", "status-1", "other"] {
        let post = app.client.post(format!("{}/streams/{stream}", app.url)).bearer_auth(&all);
        assert_eq!(post.body("x").send().await.expect("a response").status(), StatusCode::CREATED);
    }
    let signed_in = format!("{}={}", cookie_name(SECRET), token());
    for (cookie, expected) in [("", [false, true, false]), (&signed_in, [true, true, false])] {
        let page = send(&app, "/streams", cookie, None).await.text().await.expect("text");
        let listed = ["ci-1", "status-1", "other"]
            .map(|stream| page.contains(&format!("href=\"/streams/{stream}\"")));
        assert_eq!(listed, expected);
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_the_form() {
    let app = start_with_tokens().await;
    for (form, status) in [
        ("token=nonsense&to=/streams/ci-1", StatusCode::UNAUTHORIZED),
        ("token=&to=/streams/ci-1", StatusCode::UNAUTHORIZED),
        ("to=/streams/ci-1", StatusCode::BAD_REQUEST),
        ("%ff=%ff", StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
    ] {
        let page = send(&app, "/api/sign-in", "", Some(form)).await;
        assert_eq!(page.status(), status, "{form}");
        assert!(!page.headers().contains_key(header::SET_COOKIE));
        assert!(page.text().await.expect("text").contains("name=\"token\""), "{form}");
    }
    let long = format!("token={}&to=/", "x".repeat(100_000));
    let page = send(&app, "/api/sign-in", "", Some(&long)).await;
    assert_eq!(page.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn sign_in_does_not_redirect_to_other_sites() {
    let app = start_with_tokens().await;
    let token = token();
    for to in
        ["//evil.example", "https://evil.example", "/%5Cevil.example", "/%09/evil.example", "evil"]
    {
        let response =
            send(&app, "/api/sign-in", "", Some(&format!("token={token}&to={to}"))).await;
        assert_eq!(header_of(&response, &header::LOCATION), "/streams", "{to}");
        let page = send(&app, &format!("/sign-in?to={to}"), "", None).await;
        assert!(
            page.text().await.expect("text").contains("name=\"to\" value=\"/streams\""),
            "{to}"
        );
    }
}

#[tokio::test]
async fn a_refused_form_leads_back_to_its_stream_after_sign_in() {
    let app = start_with_tokens().await;
    for path in ["/api/publish", "/api/end"] {
        let form = Some("stream=ci-1&text=half+a+thought");
        let page = send(&app, path, "", form).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED, "{path}");
        let page = page.text().await.expect("text");
        assert!(page.contains("name=\"to\" value=\"/streams/ci-1\""), "{path}: {page}");
    }
    // If the stream may be watched, its page keeps the text.
    let page = send(&app, "/api/publish", "", Some("stream=status-1&text=half+a+thought")).await;
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    let page = page.text().await.expect("text");
    assert!(page.contains("half a thought") && !page.contains("Bearer"), "{page}");
}

#[tokio::test]
async fn servers_on_one_host_use_different_cookies() {
    let (first, second) =
        (start_with_tokens().await, TestApp::start(&["--secret", OTHER_SECRET]).await);
    let name = |response: &Response| {
        let cookie = header_of(response, &header::SET_COOKIE);
        cookie.split('=').next().expect("a name").to_owned()
    };
    let form = format!("token={}&to=/", token());
    let signed_in = send(&first, "/api/sign-in", "", Some(&form)).await;
    let signed_out = send(&second, "/api/sign-out", "", Some("to=/")).await;
    assert_ne!(name(&signed_in), name(&signed_out));
}

#[tokio::test]
async fn signing_out_clears_the_cookies_of_both_secrets() {
    let flags = ["--secret", OTHER_SECRET, "--previous-secret", SECRET];
    let app = TestApp::start(&flags).await;
    let old_cookies = format!("{}={}; other=1", cookie_name(SECRET), token());
    let response = send(&app, "/api/sign-out", &old_cookies, Some("to=/")).await;
    let cookies: Vec<_> = response.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for name in [cookie_name(SECRET), cookie_name(OTHER_SECRET)] {
        assert!(cookies.iter().any(|cookie| {
            cookie.to_str().is_ok_and(|cookie| cookie.starts_with(&format!("{name}=;")))
        }));
    }
}

#[tokio::test]
async fn a_token_too_large_for_a_cookie_is_refused() {
    let app = start_with_tokens().await;
    let names: Vec<_> = (0..400).map(|n| format!("stream-{n}")).collect();
    let claims = json!({ "name": "Ada", "watch": names, "exp": NOW / 1000 + 3600 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let large = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    let large = large.expect("a token");
    let page = send(&app, "/api/sign-in", "", Some(&format!("token={large}&to=/"))).await;
    assert_eq!(page.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!page.headers().contains_key(header::SET_COOKIE));
    assert!(page.text().await.expect("text").contains("Browsers store a token of at most"));
    let request = app.client.get(format!("{}/streams/stream-1/messages", app.url));
    let response = request.bearer_auth(&large).send().await.expect("a response");
    assert_eq!(response.status(), StatusCode::NOT_FOUND, "a program may use it");
}
