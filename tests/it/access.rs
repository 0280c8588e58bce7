//! Access control: bearer tokens, cookies, rights, and their expiry.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    NOW, TestApp, all_events, built_site, cookie_name, events, events_with_pings, next, process,
    table,
};

const SECRET: &str = "a secret of a length that is enough";
const PREVIOUS: &str = "the one that was in use before this";
/// The Unix time at which every server here starts, in seconds.
const NOW_SECONDS: u64 = NOW / 1000;

/// Rows as in `interface.rs`; `<…>` stands for a token, or the name of a cookie or of a token.
const TABLE: &str = r#"
    POST /streams/ci-1            | authorization: Bearer <all>      | one | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/status-1        | authorization: Bearer <all>      | up  | 201 | json | {"id":"T-1","at":"AT"}

    GET /stream                   | - | - | 200 | sse | retry: 15000\nevent: new_message\n
    GET /problems                 | accept: text/html | - | 200 | text/html; charset=utf-8 | …<h1>Problems<…
    GET /                         | accept: text/html | - | 200 | text/html; charset=utf-8 | …Counter…
    GET /favicon.svg              | - | - | 200 | image/svg+xml | …
    GET /health/live              | - | - | 200 | json | …
    GET /health/ready             | - | - | 200 | json | …
    GET /streams/status-1/events  | - | - | 200 | sse | retry: 15000\nevent: new_message\n
    GET /streams/status-1/messages | - | - | 200 | json | …
    GET /streams/status-2/events  | - | - | 200 | sse | retry: 15000\nevent: ping\ndata: {}\n\n

    GET /streams/ci-1/events      | - | - | 401 | problem | token-missing | www-authenticate: Bearer realm="tidings"
    GET /streams/none/events      | - | - | 401 | problem | token-missing
    GET /streams/ci-1/messages    | - | - | 401 | problem | token-missing
    POST /streams/ci-1            | - | x | 401 | problem | token-missing
    POST /streams/ci-1?lines      | - | x | 401 | problem | token-missing
    POST /streams/ci-1/end        | - | - | 401 | problem | token-missing
    DELETE /streams/ci-1          | - | - | 401 | problem | token-missing
    POST /api/publish             | - | stream=ci-1&text=x | 401 | problem | token-missing
    POST /api/end                 | - | stream=ci-1&text=x | 401 | problem | token-missing
    POST /streams/status-1        | - | x | 401 | problem | token-missing
    DELETE /streams/status-1      | - | - | 401 | problem | token-missing
    POST /streams/NAME            | - | x | 400 | problem | malformed-name

    POST /streams/ci-1            | authorization: Bearer <ci>       | x | 201 | json | {"id":"T-2","at":"AT"}
    POST /streams/ci-1?lines      | authorization: Bearer <ci>       | x | 200 | json | …
    POST /streams/other           | authorization: Bearer <ci>       | x | 403 | problem | not-permitted <name> | www-authenticate: Bearer realm="tidings", error="insufficient_scope"
    GET /streams/ci-1/events      | authorization: Bearer <ci>       | - | 403 | problem | not-permitted
    GET /streams/ci-1/messages    | authorization: Bearer <ci>       | - | 403 | problem | not-permitted
    GET /streams/status-1/events  | authorization: Bearer <ci>       | - | 200 | sse | retry: 15000\nevent: new_message\n
    DELETE /streams/other         | authorization: Bearer <ci>       | - | 403 | problem | not-permitted
    POST /streams/other/end       | authorization: Bearer <ci>       | - | 403 | problem | not-permitted

    GET /streams/ci-1/events      | authorization: Bearer <reader>   | - | 200 | sse | retry: 15000\nevent: new_message\n
    GET /streams/ci-1/events      | authorization: bearer <reader>   | - | 200 | sse | retry: 15000\nevent: new_message\n
    GET /streams/ci-1/messages    | authorization: Bearer <reader>   | - | 200 | json | …
    POST /streams/ci-1            | authorization: Bearer <reader>   | x | 403 | problem | not-permitted
    DELETE /streams/ci-1          | authorization: Bearer <reader>   | - | 403 | problem | not-permitted

    GET /streams/ci-1/messages    | authorization: Bearer <previous> | - | 200 | json | …
    GET /streams/ci-1/messages    | authorization: Bearer <expired>  | - | 401 | problem | token-expired | www-authenticate: Bearer realm="tidings", error="invalid_token"
    GET /streams/ci-1/messages    | authorization: Bearer <stranger> | - | 401 | problem | token-invalid | www-authenticate: Bearer realm="tidings", error="invalid_token"
    GET /streams/ci-1/messages    | authorization: Bearer <payload>  | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <signature> | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <cut>      | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <none>     | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <hs512>    | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <rs256>    | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer <eternal>  | - | 401 | problem | token-unfit exp
    GET /streams/ci-1/messages    | authorization: Bearer <pattern>  | - | 401 | problem | token-unfit
    GET /streams/ci-1/messages    | authorization: Bearer <late>     | - | 200 | json | …
    GET /streams/ci-1/messages    | authorization: Bearer            | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Basic YTpi        | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | authorization: Bearer \xff       | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages?token=<reader> | -                    | - | 401 | problem | token-missing
    GET /streams/ci-1/messages?access_token=<reader> | -             | - | 401 | problem | token-missing
    GET /streams/status-1/messages | authorization: Bearer <expired> | - | 200 | json | …

    GET /streams/ci-1/messages    | authorization: Bearer <fraction> | - | 200 | json | …
    GET /streams/ci-1/messages    | authorization: Bearer <early>    | - | 401 | problem | token-unfit nbf
    GET /streams/ci-1/messages    | authorization: Bearer <text>     | - | 401 | problem | token-unfit tomorrow
    GET /streams/ci-1/messages    | authorization: Bearer <aud>      | - | 401 | problem | token-unfit aud
    GET /streams/ci-1/messages    | authorization: Bearer <crit>     | - | 401 | problem | token-unfit b64
    GET /streams/ci-1/messages    | cookie: <old-cookie>=<previous>  | - | 200 | json | …
    GET /streams/ci-1/messages    | cookie: tidings=<reader>         | - | 401 | problem | token-missing
    GET /streams/ci-1/messages    | cookie: __Host-<cookie>=<reader> | - | 200 | json | …
    GET /streams/ci-1/messages    | cookie: <cookie>=<reader>         | - | 200 | json | …
    GET /streams/ci-1/messages    | cookie: a=b; <cookie>=<reader>    | - | 200 | json | …
    GET /streams/ci-1/messages    | cookie: <cookie>=<expired>        | - | 401 | problem | token-expired
    GET /streams/ci-1/messages    | cookie: <cookie>=                 | - | 401 | problem | token-missing
    GET /streams/ci-1/messages    | cookie: <cookie>=<reader> & authorization: Bearer <stranger> | - | 401 | problem | token-invalid
    GET /streams/ci-1/messages    | cookie: <cookie>=<stranger> & authorization: Bearer <reader> | - | 200 | json | …
    POST /streams/ci-1            | cookie: <cookie>=<ci> & origin: https://elsewhere.example | x | 403 | problem | cross-site
    POST /streams/ci-1            | cookie: <cookie>=<ci> & sec-fetch-site: same-site | x | 403 | problem | cross-site
    POST /streams/ci-1            | cookie: <cookie>=<ci> & sec-fetch-site: same-origin | x | 201 | json | …
    POST /api/publish             | cookie: <cookie>=<ci> & sec-fetch-site: cross-site | stream=ci-1&text=x | 403 | problem | cross-site
    POST /api/publish             | cookie: <cookie>=<reader> & content-type: application/x-www-form-urlencoded | stream=ci-1&text=x | 403 | problem | not-permitted
    POST /api/publish             | cookie: <cookie>=<ci> & content-type: application/x-www-form-urlencoded | stream=ci-1&text=x | 200 | json | …

    GET /streams/ci-1/events      | cookie: <cookie>=<reader>         | - | 200 | sse | retry: 15000\nevent: new_message\n
    GET /streams/ci-1/events      | cookie: <cookie>=<expired>        | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"expired","oldest":null}\n\n
    GET /streams/ci-1/events      | cookie: <cookie>=                 | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"expired","oldest":null}\n\n
    GET /streams/ci-1/events      | cookie: <cookie>=<ci>             | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"expired","oldest":null}\n\n
    GET /streams/NAME/events      | cookie: <cookie>=                 | - | 400 | problem | malformed-name

    POST /streams/ci-1/end        | authorization: Bearer <ci>       | - | 200 | json | …
    DELETE /streams/ci-1          | authorization: Bearer <ci>       | - | 204 | - | -
"#;

fn token(secret: &str, claims: &Value) -> String {
    token_with_algorithm(Algorithm::HS256, secret, claims)
}

fn token_with_algorithm(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("a token")
}

fn reader_claims(exp: u64) -> Value {
    json!({ "name": "reader", "watch": ["*"], "exp": exp })
}

fn reader_claims_between(exp: &Value, nbf: &Value) -> Value {
    json!({ "name": "reader", "watch": ["*"], "exp": exp, "nbf": nbf })
}

/// A time in seconds, half a second later.
fn half_a_second_after(seconds: u64) -> Value {
    format!("{seconds}.5").parse().expect("a number")
}

/// A token with the critical header parameter `b64`, which a program that does not know it must refuse.
fn token_with_crit(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::default() };
    jsonwebtoken::encode(&header, claims, &key).expect("a token")
}

async fn start_with_tokens() -> TestApp {
    let flags = ["--secret", SECRET, "--previous-secret", PREVIOUS, "--public", "status-*"];
    TestApp::start(&flags).await
}

/// A token with one part replaced: 0 is the header, 1 the payload, 2 the signature.
fn with_part(token: &str, part: usize, replace: impl Fn(&str) -> String) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[part] = replace(&parts[part]);
    parts.join(".")
}

/// The text with another character in the middle.
fn with_changed_character(text: &str) -> String {
    let (before, after) = text.split_at(text.len() / 2);
    let other = if after.starts_with('A') { "B" } else { "A" };
    format!("{before}{other}{}", &after[1..])
}

#[tokio::test]
async fn each_request_is_allowed_or_refused_by_its_token() {
    let good = token(SECRET, &reader_claims(NOW_SECONDS + 60));
    let ci = json!({ "name": "build server", "publish": ["ci-*"], "exp": NOW_SECONDS + 60 });
    let all = json!({ "name": "all", "publish": ["*"], "watch": ["*"], "exp": NOW_SECONDS + 60 });
    let pattern = json!({ "name": "x", "watch": ["*", "A?"], "exp": NOW_SECONDS + 60 });
    let tokens = [
        ("<cookie>", cookie_name(SECRET)),
        ("<old-cookie>", cookie_name(PREVIOUS)),
        ("<all>", token(SECRET, &all)),
        ("<ci>", token(SECRET, &ci)),
        ("<name>", "“build server”".to_owned()),
        ("<reader>", good.clone()),
        ("<previous>", token(PREVIOUS, &reader_claims(NOW_SECONDS + 60))),
        ("<expired>", token(SECRET, &reader_claims(NOW_SECONDS))),
        (
            "<stranger>",
            token("a secret that this server never had", &reader_claims(NOW_SECONDS + 60)),
        ),
        ("<payload>", with_part(&good, 1, with_changed_character)),
        ("<signature>", with_part(&good, 2, with_changed_character)),
        ("<cut>", with_part(&good, 2, |signature| signature[..20].to_owned())),
        // {"alg":"none"}, and no signature.
        (
            "<none>",
            with_part(&with_part(&good, 0, |_| "eyJhbGciOiJub25lIn0".to_owned()), 2, |_| {
                String::new()
            }),
        ),
        (
            "<hs512>",
            token_with_algorithm(Algorithm::HS512, SECRET, &reader_claims(NOW_SECONDS + 60)),
        ),
        // {"alg":"RS256"}
        ("<rs256>", with_part(&good, 0, |_| "eyJhbGciOiJSUzI1NiJ9".to_owned())),
        ("<eternal>", token(SECRET, &json!({ "name": "x", "watch": ["*"] }))),
        ("<pattern>", token(SECRET, &pattern)),
        ("<late>", token(SECRET, &reader_claims(u64::MAX))),
        (
            "<fraction>",
            token(
                SECRET,
                &reader_claims_between(
                    &half_a_second_after(NOW_SECONDS + 60),
                    &half_a_second_after(NOW_SECONDS - 1),
                ),
            ),
        ),
        (
            "<early>",
            token(
                SECRET,
                &reader_claims_between(
                    &json!(NOW_SECONDS + 60),
                    &half_a_second_after(NOW_SECONDS + 30),
                ),
            ),
        ),
        ("<text>", token(SECRET, &reader_claims_between(&json!("tomorrow"), &json!(0)))),
        (
            "<aud>",
            token(
                SECRET,
                &json!({ "name": "x", "watch": ["*"], "exp": NOW_SECONDS + 60, "aud": "y" }),
            ),
        ),
        ("<crit>", token_with_crit(&reader_claims(NOW_SECONDS + 60))),
    ];
    let table =
        tokens.iter().fold(TABLE.to_owned(), |table, (name, token)| table.replace(name, token));
    table::check(&start_with_tokens().await, &table).await;
}

#[tokio::test]
async fn an_event_stream_ends_when_its_token_expires_and_can_be_resumed() {
    let app = start_with_tokens().await;
    let all = json!({ "name": "a", "publish": ["*"], "watch": ["*"], "exp": NOW_SECONDS + 3600 });
    let bearer = format!("Bearer {}", token(SECRET, &all));
    let post = app.client.post(format!("{}/streams/ci", app.url)).header("authorization", &bearer);
    let posted = post.body("one").send().await.expect("a response");
    assert_eq!(posted.status(), StatusCode::CREATED);

    let soon =
        format!("{}={}", cookie_name(SECRET), token(SECRET, &reader_claims(NOW_SECONDS + 40)));
    let watching = app.get_with("/streams/ci/events", &[("cookie", &soon)]).await;
    let mut watching = events_with_pings(watching);
    let first = next(&mut watching).await;
    assert_eq!(first.data, "one");
    tokio::time::pause();
    // Two pings, and then the token expires.
    let mut received = Vec::new();
    while let Some(event) = futures::StreamExt::next(&mut watching).await {
        let event = event.expect("a valid stream");
        received.push((event.event, event.data));
    }
    tokio::time::resume();
    let expected =
        [("ping", "{}"), ("ping", "{}"), ("reset", r#"{"reason":"expired","oldest":null}"#)];
    assert_eq!(received, expected.map(|(event, data)| (event.to_owned(), data.to_owned())));

    let headers = [("authorization", bearer.as_str()), ("last-event-id", &first.id)];
    let mut resumed = events(app.get_with("/streams/ci/events", &headers).await);
    let post = app.client.post(format!("{}/streams/ci", app.url)).header("authorization", &bearer);
    post.body("two").send().await.expect("a response");
    assert_eq!(next(&mut resumed).await.data, "two");
}

#[tokio::test]
async fn an_upload_ends_when_its_token_expires() {
    let app = start_with_tokens().await;
    let soon = json!({ "name": "a", "publish": ["*"], "exp": NOW_SECONDS + 40 });
    let (lines, body) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
    let upload = app.client.post(format!("{}/streams/ci?lines", app.url));
    let upload = upload.header("authorization", format!("Bearer {}", token(SECRET, &soon)));
    let upload = tokio::spawn(upload.body(reqwest::Body::wrap_stream(body)).send());
    lines.unbounded_send(Ok("one\n")).expect("a reader");
    let watching = token(SECRET, &reader_claims(NOW_SECONDS + 3600));
    let headers = [("authorization", format!("Bearer {watching}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut seen = events(app.get_with("/streams/ci/events", &headers).await);
    assert_eq!(next(&mut seen).await.data, "one");

    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(41)).await;
    tokio::time::resume();
    lines.unbounded_send(Ok("two\n")).expect("a reader");
    let response = upload.await.expect("no panic").expect("a response");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(
        (&problem["type"], &problem["taken"]),
        (&json!("/problems#token-expired"), &json!(1))
    );
}

#[tokio::test]
async fn a_server_without_a_secret_ignores_tokens() {
    let app = TestApp::start(&[]).await;
    app.publish("ci", "one").await;
    let headers = [("authorization", "Bearer nonsense"), ("cookie", "tidings=nonsense")];
    assert_eq!(app.get_with("/streams/ci/messages", &headers).await.status(), StatusCode::OK);
    app.end("ci").await;
    let received = all_events(app.get_with("/streams/ci/events", &headers).await).await;
    assert_eq!(received.len(), 2);
}

#[test]
fn a_server_on_a_public_address_needs_a_secret_or_open() {
    let start = |arguments: &[&str]| process::start_refused(process::tidings().args(arguments));
    for listen in ["0.0.0.0:3000", "[::]:3000", "192.0.2.1:3000"] {
        let (output, stderr) = start(&["--listen", listen]);
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
        for remedy in ["--secret-file", "--listen 127.0.0.1:3000", "--open"] {
            assert!(stderr.contains(listen) && stderr.contains(remedy), "{remedy}: {stderr}");
        }
    }
    for (arguments, word) in [
        (&["--secret", SECRET, "--open"][..], "--open"),
        (&["--public", "a"], "--public"),
        (&["--previous-secret", SECRET], "--previous-secret"),
        (&["--secret", "short-secret"], "32"),
        (&["--secret", SECRET, "--previous-secret", "short-secret"], "--previous-secret"),
        (&["--secret", ""], "32"),
        (&["--secret-file", "/nowhere/secret"], "/nowhere/secret"),
        (&["--secret", SECRET, "--secret-file", "/a"], "--secret-file"),
        (&["--secret", SECRET, "--public", "A"], "--public"),
    ] {
        let site = built_site();
        let (output, stderr) = process::start_refused(
            process::tidings().arg("--site-root").arg(site.path()).args(arguments),
        );
        assert!(!output.status.success() && stderr.contains(word), "{arguments:?}: {stderr}");
        assert!(!stderr.contains(SECRET) && !stderr.contains("short-secret"), "{stderr}");
    }
    let site = built_site();
    let listen = ["--listen", "0.0.0.0:0"];
    for arguments in [&["--open"][..], &["--secret", SECRET]] {
        drop(process::Server::start(site.path(), &[&listen, arguments].concat()));
    }
}

#[tokio::test]
async fn the_token_command_creates_tokens_that_the_server_accepts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
    let rights = ["token", "--publish", "ci-*,log", "--watch", "*", "--for", "build server"];
    let output = process::tidings().env("TIDINGS_SECRET_FILE", &file).args(rights).output();
    let output = output.expect("a process");
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("text");
    // The clock of the test server is in the past, so the token is valid there for longer.
    let app = start_with_tokens().await;
    let bearer = format!("Bearer {}", token.trim_end());
    for (stream, status) in
        [("ci-1", StatusCode::CREATED), ("log", StatusCode::CREATED), ("x", StatusCode::FORBIDDEN)]
    {
        let post = app.client.post(format!("{}/streams/{stream}", app.url));
        let response = post.header("authorization", &bearer).body("one").send().await;
        assert_eq!(response.expect("a response").status(), status, "{stream}");
    }

    for (arguments, word) in [
        (&["token", "--for", "a"][..], "--publish"),
        (&["token", "--watch", "*"], "--for"),
        (&["token", "--watch", "*", "--for", ""], "--for"),
        (&["token", "--watch", "*", "--for", "a\nb"], "--for"),
        (&["token", "--watch", "A", "--for", "a"], "--watch"),
        (&["token", "--watch", "*", "--for", "a", "--expires", "0s"], "--expires"),
        (&["token", "--watch", "*", "--for", "a"], "--secret-file"),
    ] {
        let (output, stderr) = process::start_refused(process::tidings().args(arguments));
        assert!(!output.status.success() && stderr.contains(word), "{arguments:?}: {stderr}");
    }
}
