//! Signing in and out, as a browser without scripts does.

use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde_json::json;

use crate::support::{NOW, TestApp, cookie_name};

const SECRET: &str = "a secret of a length that is enough";
const OTHER: &str = "another secret, for another server";

fn token() -> String {
    let exp = NOW / 1000 + 3600;
    let claims =
        json!({ "name": "Ada", "publish": ["ci-*"], "watch": ["ci-*", "log"], "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

async fn guarded() -> TestApp {
    TestApp::start(&["--secret", SECRET, "--public", "status-*"]).await
}

async fn send(app: &TestApp, path: &str, cookie: &str, form: Option<&str>) -> Response {
    // Whoever follows would not see where to.
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
    request.send().await.expect("an answer")
}

fn header_of(response: &Response, name: &header::HeaderName) -> String {
    let value = response.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn in_and_out() {
    let app = guarded().await;
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
    assert!(!cookie.contains("Secure"), "over plain HTTP it would never come back: {cookie}");

    let kept = format!("{}={token}", cookie_name(SECRET));
    let page = send(&app, "/streams/ci-1", &kept, None).await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.expect("text");
    assert!(page.contains("Ada") && page.contains("/api/sign-out"), "{page}");
    assert!(page.contains("name=\"text\"") && !page.contains(&token), "{page}");

    let response = send(&app, "/api/sign-out", &kept, Some("to=%2F")).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(header_of(&response, &header::LOCATION), "/");
    assert!(
        header_of(&response, &header::SET_COOKIE)
            .starts_with(&format!("{}=; ", cookie_name(SECRET)))
    );
}

#[tokio::test]
async fn a_page_that_is_not_for_guests_asks_them_to_sign_in() {
    let app = guarded().await;
    let kept = format!("{}={}", cookie_name(SECRET), token());
    for (path, cookie, status) in [
        ("/streams/ci-1", "", StatusCode::UNAUTHORIZED),
        ("/streams/ci-1?before=1-2", "", StatusCode::UNAUTHORIZED),
        ("/streams/ci-1", &format!("{}=nonsense", cookie_name(SECRET)), StatusCode::UNAUTHORIZED),
        ("/streams/other", &kept, StatusCode::FORBIDDEN),
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
    let page = send(&app, "/streams/log", &kept, None).await.text().await.expect("text");
    assert!(!page.contains("/api/publish") && !page.contains("/api/end"), "{page}");
}

#[tokio::test]
async fn the_list_shows_what_one_may_watch() {
    let app = guarded().await;
    let all = json!({ "name": "a", "publish": ["*"], "watch": ["*"], "exp": NOW });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let all = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &all, &key).expect("a token");
    for stream in ["ci-1", "status-1", "other"] {
        let post = app.client.post(format!("{}/streams/{stream}", app.url)).bearer_auth(&all);
        assert_eq!(post.body("x").send().await.expect("an answer").status(), StatusCode::CREATED);
    }
    let kept = format!("{}={}", cookie_name(SECRET), token());
    for (cookie, shown) in [("", [false, true, false]), (&kept, [true, true, false])] {
        let page = send(&app, "/streams", cookie, None).await.text().await.expect("text");
        let seen = ["ci-1", "status-1", "other"]
            .map(|stream| page.contains(&format!("href=\"/streams/{stream}\"")));
        assert_eq!(seen, shown);
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_with_the_form() {
    let app = guarded().await;
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
async fn a_link_to_the_form_leads_nowhere_else() {
    let app = guarded().await;
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
async fn who_may_not_is_led_back_to_the_stream() {
    let app = guarded().await;
    for path in ["/api/publish", "/api/end"] {
        let form = Some("stream=ci-1&text=half+a+thought");
        let page = send(&app, path, "", form).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED, "{path}");
        let page = page.text().await.expect("text");
        assert!(page.contains("name=\"to\" value=\"/streams/ci-1\""), "{path}: {page}");
    }
    // Where one may watch, what was written is still there.
    let page = send(&app, "/api/publish", "", Some("stream=status-1&text=half+a+thought")).await;
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    let page = page.text().await.expect("text");
    assert!(page.contains("half a thought") && !page.contains("Bearer"), "{page}");
}

#[tokio::test]
async fn two_servers_of_one_host_do_not_sign_each_other_out() {
    let (first, second) = (guarded().await, TestApp::start(&["--secret", OTHER]).await);
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
async fn signing_out_forgets_every_cookie_of_ours() {
    let flags = ["--secret", OTHER, "--previous-secret", SECRET];
    let app = TestApp::start(&flags).await;
    let old = format!("{}={}; other=1", cookie_name(SECRET), token());
    let response = send(&app, "/api/sign-out", &old, Some("to=/")).await;
    let cookies: Vec<_> = response.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for name in [cookie_name(SECRET), cookie_name(OTHER)] {
        assert!(cookies.iter().any(|cookie| {
            cookie.to_str().is_ok_and(|cookie| cookie.starts_with(&format!("{name}=;")))
        }));
    }
}

#[tokio::test]
async fn a_token_that_no_browser_keeps_is_refused() {
    let app = guarded().await;
    let names: Vec<_> = (0..400).map(|n| format!("stream-{n}")).collect();
    let claims = json!({ "name": "Ada", "watch": names, "exp": NOW / 1000 + 3600 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let large = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    let large = large.expect("a token");
    let page = send(&app, "/api/sign-in", "", Some(&format!("token={large}&to=/"))).await;
    assert_eq!(page.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!page.headers().contains_key(header::SET_COOKIE));
    assert!(page.text().await.expect("text").contains("Browsers keep a token of at most"));
    let app_itself = app.client.get(format!("{}/streams/stream-1/messages", app.url));
    let answer = app_itself.bearer_auth(&large).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "a program may use it");
}
