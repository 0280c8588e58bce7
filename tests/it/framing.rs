//! Pages in frames of other sites: which sites may show them, the stream alone, and signing in there.

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    NOW, TestApp, built_site, cookie_name, process,
    tls::{CertificateFiles, Identity},
};

const SECRET: &str = "a secret of a length that is enough";
const BROWSER: (&str, &str) = ("accept", "text/html");
const DASHBOARD: &str = "https://dashboard.example";

fn token() -> String {
    let exp = NOW / 1000 + 3600;
    let claims = json!({ "name": "Ada", "publish": ["*"], "watch": ["*"], "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

fn policy(response: &Response) -> &str {
    response.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text")
}

/// A server over TLS whose visitors can sign in within frames of the dashboard.
async fn start_partitioned(identity: &Identity, files: &CertificateFiles) -> TestApp {
    let (certificate, key) = (files.certificate(), files.key());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let frames = ["--secret", SECRET, "--frame-ancestors", DASHBOARD, "--partitioned-cookies"];
    let mut app = TestApp::start(&[&tls[..], &frames].concat()).await;
    app.client =
        identity.client().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    app
}

/// The `Set-Cookie` headers of a response.
fn cookies(response: &Response) -> Vec<String> {
    let cookies = response.headers().get_all(header::SET_COOKIE).iter();
    cookies.map(|cookie| cookie.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn pages_of_listed_origins_may_frame_and_no_others() {
    let paths = [
        "/",
        "/streams/ci?embed",
        "/streams",
        "/nothing",
        "/favicon.svg",
        "/health/live",
        "/stream",
    ];
    let app = TestApp::start(&[]).await;
    for path in paths {
        let response = app.get_with(path, &[BROWSER]).await;
        assert!(policy(&response).ends_with("frame-ancestors 'none'"), "{path}");
        assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY", "{path}");
    }
    let app = TestApp::start(&[
        "--frame-ancestors",
        DASHBOARD,
        "--frame-ancestors",
        "http://10.0.0.1:8080,https://status.example",
    ])
    .await;
    let expected =
        format!("frame-ancestors {DASHBOARD} http://10.0.0.1:8080 https://status.example");
    for path in paths {
        let response = app.get_with(path, &[BROWSER]).await;
        assert!(policy(&response).ends_with(&expected), "{path}: {}", policy(&response));
        assert!(!response.headers().contains_key(header::X_FRAME_OPTIONS), "{path}");
    }
    let app = TestApp::start(&["--frame-ancestors", "*"]).await;
    assert!(policy(&app.get("/").await).ends_with("frame-ancestors *"));
}

#[tokio::test]
async fn an_embedded_page_shows_the_stream_alone() {
    let app = TestApp::start(&["--base-path", "/t"]).await;
    for text in ["one", "two"] {
        let published = app.post("/t/streams/ci", text).await;
        assert_eq!(published.status(), StatusCode::CREATED);
    }
    let whole = app.get_with("/t/streams/ci", &[BROWSER]).await.text().await.expect("text");
    for query in ["?embed", "?embed=", "?x&embed"] {
        let page = app.get_with(&format!("/t/streams/ci{query}"), &[BROWSER]).await;
        assert_eq!(page.status(), StatusCode::OK);
        let page = page.text().await.expect("text");
        for part in [
            "class=\"masthead",
            "<textarea",
            "method=\"post\"",
            "All streams",
            "curl",
            "/api/publish",
        ] {
            assert!(whole.contains(part) && !page.contains(part), "{part}: {page}");
        }
        for part in [
            ">two<",
            "role=\"status\"",
            "role=\"log\"",
            "<base target=\"_blank\"",
            "data-page=\"/t/streams/ci?embed\"",
            "\"events\":\"/t/streams/ci/events\"",
            "\"stream\":null",
            "<a href=\"/t/streams/ci\">ci</a>",
            "<a href=\"/t/streams/ci?embed\" target=\"_self\">Reload the page",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
    assert!(!whole.contains("_self") && !whole.contains("<base"), "{whole}");
}

#[tokio::test]
async fn the_form_to_sign_in_with_leads_back_to_the_embedded_page() {
    let app = TestApp::start(&["--secret", SECRET]).await;
    let page = app.get_with("/streams/ci?embed", &[BROWSER]).await;
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    let in_place = page.text().await.expect("text");
    assert!(in_place.contains("name=\"to\" value=\"/streams/ci?embed\""), "{in_place}");
    let form = app.get_with("/sign-in?to=%2Fstreams%2Fci%3Fembed", &[BROWSER]).await;
    let form = form.text().await.expect("text");
    for page in [in_place, form] {
        assert!(page.contains("action=\"/api/sign-in\""), "{page}");
        assert!(
            !page.contains("masthead") && !page.contains("<base"),
            "it stays in its frame: {page}"
        );
    }
    let wrong = app.client.post(format!("{}/api/sign-in", app.url)).header("accept", "text/html");
    let wrong = wrong.header("content-type", "application/x-www-form-urlencoded");
    let wrong = wrong.body("token=wrong&to=%2Fstreams%2Fci%3Fembed").send().await;
    let wrong = wrong.expect("a response").text().await.expect("text");
    assert!(wrong.contains("not a token") && !wrong.contains("masthead"), "{wrong}");
}

#[tokio::test]
async fn partitioned_cookies_are_set_over_tls_and_replace_others() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start_partitioned(&identity, &files).await;
    let name = format!("__Host-{}", cookie_name(SECRET));
    let request = |path: &str, form: String| {
        let request = app.client.post(format!("{}{path}", app.url)).header("accept", "text/html");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("sec-fetch-site", "same-origin").body(form)
    };
    let signed_in = request("/api/sign-in", format!("token={}&to=/streams/ci?embed", token()));
    let signed_in = signed_in.send().await.expect("a response");
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let signed_out = request("/api/sign-out", "to=/".to_owned());
    let signed_out = signed_out.header("cookie", format!("{name}={}", token()));
    let signed_out = signed_out.send().await.expect("a response");
    for (response, value) in [(signed_in, token()), (signed_out, String::new())] {
        let cookies = cookies(&response);
        let [removed, set] = cookies.as_slice() else { panic!("{cookies:?}") };
        assert!(
            removed.starts_with(&format!("{name}=; ")) && removed.contains("Max-Age=0"),
            "{removed}"
        );
        assert!(removed.contains("SameSite=Lax") && !removed.contains("Partitioned"), "{removed}");
        assert!(set.starts_with(&format!("{name}={value}; ")), "{set}");
        for attribute in ["HttpOnly", "SameSite=None", "Secure", "Partitioned", "Path=/"] {
            assert!(set.contains(attribute), "{attribute}: {set}");
        }
    }

    // Over plain HTTP, behind a proxy without TLS, browsers would not accept it.
    let app = TestApp::start(&[
        "--secret",
        SECRET,
        "--frame-ancestors",
        DASHBOARD,
        "--partitioned-cookies",
        "--trusted-proxy",
        "127.0.0.1/32",
    ])
    .await;
    for (proto, partitioned) in [("http", false), ("https", true)] {
        let request = app.client.post(format!("{}/api/sign-in", app.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request =
            request.header("x-forwarded-for", "192.0.2.1").header("x-forwarded-proto", proto);
        let response = request.body(format!("token={}&to=/", token())).send().await;
        let cookies = cookies(&response.expect("a response"));
        let set = cookies.last().expect("a cookie");
        assert_eq!(set.contains("SameSite=None"), partitioned, "{proto}: {cookies:?}");
        assert_eq!(set.contains("Partitioned"), partitioned, "{proto}: {cookies:?}");
        assert_eq!(set.contains("SameSite=Lax"), !partitioned, "{proto}: {cookies:?}");
    }
}

/// CSRF: a browser sends partitioned cookies with requests of the page around the frame.
#[tokio::test]
async fn pages_around_a_frame_cannot_write_with_its_cookie() {
    let identity = Identity::new();
    let files = CertificateFiles::of(&identity);
    let app = start_partitioned(&identity, &files).await;
    let cookie = format!("__Host-{}={}", cookie_name(SECRET), token());
    let own_origin = app.url.clone();
    for (site, origin, allowed) in [
        (Some("same-origin"), Some(own_origin.as_str()), true),
        (None, Some(own_origin.as_str()), true),
        (Some("none"), None, true),
        (Some("cross-site"), Some(DASHBOARD), false),
        (Some("cross-site"), Some("null"), false),
        (Some("cross-site"), None, false),
        (Some("same-site"), Some("https://a.localhost"), false),
        (None, Some(DASHBOARD), false),
        (None, Some("null"), false),
        // The oldest browsers; the cookie is not SameSite=Lax.
        (None, None, false),
    ] {
        for (method, path) in [
            (Method::POST, "/streams/ci"),
            (Method::PUT, "/streams/ci"),
            (Method::POST, "/streams/ci?lines"),
            (Method::POST, "/api/publish"),
            (Method::POST, "/api/sign-out"),
            (Method::DELETE, "/streams/ci"),
        ] {
            let request = app.client.request(method.clone(), format!("{}{path}", app.url));
            let mut request = request.header("cookie", &cookie);
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let response = request.body("stream=ci&text=x&to=/").send().await.expect("a response");
            let refused = response.status() == StatusCode::FORBIDDEN;
            assert_eq!(refused, !allowed, "{method} {path}: {site:?} {origin:?}");
            if refused {
                let problem: Value = response.json().await.expect("JSON");
                assert_eq!(problem["type"], "/problems#cross-site");
            }
        }
    }
    // A page around the frame may not read either, even if pages of its origin may read public streams.
    let events =
        app.client.get(format!("{}/streams/ci/messages", app.url)).header("origin", DASHBOARD);
    let response = events.header("cookie", &cookie).send().await.expect("a response");
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
    // Programs send no cookie, and nothing of where they are.
    let program = app.client.post(format!("{}/streams/ci", app.url));
    let program = program.bearer_auth(token()).body("from a program").send().await;
    assert_eq!(program.expect("a response").status(), StatusCode::CREATED);
}

#[test]
fn options_for_frames_are_checked() {
    let site = built_site();
    let refused = |arguments: &[&str]| {
        let command = &mut process::tidings();
        let command = command.args(["--listen", "127.0.0.1:0", "--site-root"]).arg(site.path());
        let (output, stderr) = process::start_refused(command.args(arguments));
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        stderr
    };
    for origin in [
        "dashboard.example",
        "https://dashboard.example/",
        "https://dashboard.example/path",
        "https://Dashboard.example",
        "https://dashboard.example:443",
        "https://dashboard.example;script-src",
        "https://a b",
        "'self'",
        "data:",
        "null",
    ] {
        let stderr = refused(&["--frame-ancestors", origin]);
        assert!(stderr.contains("--frame-ancestors") && stderr.contains("no path"), "{stderr}");
    }
    let (frames, cookies) = (["--frame-ancestors", DASHBOARD], ["--partitioned-cookies"]);
    let (secret, proxy) = (["--secret", SECRET], ["--trusted-proxy", "127.0.0.1/32"]);
    for (arguments, missing) in [
        ([&cookies[..], &secret, &proxy].concat(), "--frame-ancestors"),
        ([&cookies[..], &secret, &proxy, &["--frame-ancestors", "*"]].concat(), "not *"),
        ([&cookies[..], &frames].concat(), "a secret"),
        ([&cookies[..], &frames, &secret].concat(), "TLS"),
    ] {
        let stderr = refused(&arguments);
        assert!(
            stderr.contains("--partitioned-cookies needs") && stderr.contains(missing),
            "{stderr}"
        );
    }
    drop(process::Server::start(site.path(), &[&cookies[..], &frames, &secret, &proxy].concat()));
}
