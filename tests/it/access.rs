//! Who may do what.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    NOW, TestApp, all_events, built_site, cookie_name, events, next, process, table, with_pings,
};

const SECRET: &str = "a secret of a length that is enough";
const PREVIOUS: &str = "the one that was in use before this";
/// The time of day of every server here, in seconds.
const TODAY: u64 = NOW / 1000;

/// Rows as in `interface.rs`; `<ci>` and the like are tokens.
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
    POST /streams/other           | authorization: Bearer <ci>       | x | 403 | problem | not-permitted <who> | www-authenticate: Bearer realm="tidings", error="insufficient_scope"
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
    signed(Algorithm::HS256, secret, claims)
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("a token")
}

fn reader_until(exp: u64) -> Value {
    json!({ "name": "reader", "watch": ["*"], "exp": exp })
}

fn reader(exp: &Value, nbf: &Value) -> Value {
    json!({ "name": "reader", "watch": ["*"], "exp": exp, "nbf": nbf })
}

/// Half a second after a moment in seconds.
fn half_past(seconds: u64) -> Value {
    format!("{seconds}.5").parse().expect("a number")
}

/// A token that says that it must not be used by a program that does not know what `b64` means.
fn critical(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::default() };
    jsonwebtoken::encode(&header, claims, &key).expect("a token")
}

async fn guarded() -> TestApp {
    let flags = ["--secret", SECRET, "--previous-secret", PREVIOUS, "--public", "status-*"];
    TestApp::start(&flags).await
}

/// A token with other parts: header, payload, signature.
fn with(token: &str, part: usize, other: impl Fn(&str) -> String) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[part] = other(&parts[part]);
    parts.join(".")
}

/// The text with another character in its middle.
fn changed(text: &str) -> String {
    let (before, after) = text.split_at(text.len() / 2);
    let other = if after.starts_with('A') { "B" } else { "A" };
    format!("{before}{other}{}", &after[1..])
}

#[tokio::test]
async fn who_may_do_what() {
    let good = token(SECRET, &reader_until(TODAY + 60));
    let ci = json!({ "name": "build server", "publish": ["ci-*"], "exp": TODAY + 60 });
    let all = json!({ "name": "all", "publish": ["*"], "watch": ["*"], "exp": TODAY + 60 });
    let pattern = json!({ "name": "x", "watch": ["*", "A?"], "exp": TODAY + 60 });
    let tokens = [
        ("<cookie>", cookie_name(SECRET)),
        ("<old-cookie>", cookie_name(PREVIOUS)),
        ("<all>", token(SECRET, &all)),
        ("<ci>", token(SECRET, &ci)),
        ("<who>", "“build server”".to_owned()),
        ("<reader>", good.clone()),
        ("<previous>", token(PREVIOUS, &reader_until(TODAY + 60))),
        ("<expired>", token(SECRET, &reader_until(TODAY))),
        ("<stranger>", token("a secret that this server never had", &reader_until(TODAY + 60))),
        ("<payload>", with(&good, 1, changed)),
        ("<signature>", with(&good, 2, changed)),
        ("<cut>", with(&good, 2, |signature| signature[..20].to_owned())),
        // {"alg":"none"}, and no signature.
        (
            "<none>",
            with(&with(&good, 0, |_| "eyJhbGciOiJub25lIn0".to_owned()), 2, |_| String::new()),
        ),
        ("<hs512>", signed(Algorithm::HS512, SECRET, &reader_until(TODAY + 60))),
        // {"alg":"RS256"}
        ("<rs256>", with(&good, 0, |_| "eyJhbGciOiJSUzI1NiJ9".to_owned())),
        ("<eternal>", token(SECRET, &json!({ "name": "x", "watch": ["*"] }))),
        ("<pattern>", token(SECRET, &pattern)),
        ("<late>", token(SECRET, &reader_until(u64::MAX))),
        ("<fraction>", token(SECRET, &reader(&half_past(TODAY + 60), &half_past(TODAY - 1)))),
        ("<early>", token(SECRET, &reader(&json!(TODAY + 60), &half_past(TODAY + 30)))),
        ("<text>", token(SECRET, &reader(&json!("tomorrow"), &json!(0)))),
        (
            "<aud>",
            token(SECRET, &json!({ "name": "x", "watch": ["*"], "exp": TODAY + 60, "aud": "y" })),
        ),
        ("<crit>", critical(&reader_until(TODAY + 60))),
    ];
    let table =
        tokens.iter().fold(TABLE.to_owned(), |table, (name, token)| table.replace(name, token));
    table::ask(&guarded().await, &table).await;
}

#[tokio::test]
async fn a_right_ends_with_its_token_and_the_cursor_stays_good() {
    let app = guarded().await;
    let all = json!({ "name": "a", "publish": ["*"], "watch": ["*"], "exp": TODAY + 3600 });
    let bearer = format!("Bearer {}", token(SECRET, &all));
    let post = app.client.post(format!("{}/streams/ci", app.url)).header("authorization", &bearer);
    let posted = post.body("one").send().await.expect("an answer");
    assert_eq!(posted.status(), StatusCode::CREATED);

    let soon = format!("{}={}", cookie_name(SECRET), token(SECRET, &reader_until(TODAY + 40)));
    let watching = app.get_with("/streams/ci/events", &[("cookie", &soon)]).await;
    let mut watching = with_pings(watching);
    let first = next(&mut watching).await;
    assert_eq!(first.data, "one");
    tokio::time::pause();
    // Two pings, and then the end of the right.
    let mut said = Vec::new();
    while let Some(event) = futures::StreamExt::next(&mut watching).await {
        let event = event.expect("a valid stream");
        said.push((event.event, event.data));
    }
    tokio::time::resume();
    let expected =
        [("ping", "{}"), ("ping", "{}"), ("reset", r#"{"reason":"expired","oldest":null}"#)];
    assert_eq!(said, expected.map(|(event, data)| (event.to_owned(), data.to_owned())));

    let headers = [("authorization", bearer.as_str()), ("last-event-id", &first.id)];
    let mut resumed = events(app.get_with("/streams/ci/events", &headers).await);
    let post = app.client.post(format!("{}/streams/ci", app.url)).header("authorization", &bearer);
    post.body("two").send().await.expect("an answer");
    assert_eq!(next(&mut resumed).await.data, "two");
}

#[tokio::test]
async fn a_token_that_expires_in_an_upload_ends_it() {
    let app = guarded().await;
    let soon = json!({ "name": "a", "publish": ["*"], "exp": TODAY + 40 });
    let (lines, body) = futures::channel::mpsc::unbounded::<Result<&str, std::io::Error>>();
    let upload = app.client.post(format!("{}/streams/ci?lines", app.url));
    let upload = upload.header("authorization", format!("Bearer {}", token(SECRET, &soon)));
    let upload = tokio::spawn(upload.body(reqwest::Body::wrap_stream(body)).send());
    lines.unbounded_send(Ok("one\n")).expect("a reader");
    let watching = token(SECRET, &reader_until(TODAY + 3600));
    let headers = [("authorization", format!("Bearer {watching}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut seen = events(app.get_with("/streams/ci/events", &headers).await);
    assert_eq!(next(&mut seen).await.data, "one");

    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(41)).await;
    tokio::time::resume();
    lines.unbounded_send(Ok("two\n")).expect("a reader");
    let answer = upload.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(
        (&problem["type"], &problem["taken"]),
        (&json!("/problems#token-expired"), &json!(1))
    );
}

#[tokio::test]
async fn a_server_without_a_secret_asks_nobody() {
    let app = TestApp::start(&[]).await;
    app.publish("ci", "one").await;
    let headers = [("authorization", "Bearer nonsense"), ("cookie", "tidings=nonsense")];
    assert_eq!(app.get_with("/streams/ci/messages", &headers).await.status(), StatusCode::OK);
    app.end("ci").await;
    let said = all_events(app.get_with("/streams/ci/events", &headers).await).await;
    assert_eq!(said.len(), 2);
}

#[test]
fn a_server_that_others_reach_wants_a_secret() {
    let start = |arguments: &[&str]| process::refused(process::tidings().args(arguments));
    for listen in ["0.0.0.0:3000", "[::]:3000", "192.0.2.1:3000"] {
        let (output, said) = start(&["--listen", listen]);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        for way_out in ["--secret-file", "--listen 127.0.0.1:3000", "--open"] {
            assert!(said.contains(listen) && said.contains(way_out), "{way_out}: {said}");
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
        let (output, said) = process::refused(
            process::tidings().arg("--site-root").arg(site.path()).args(arguments),
        );
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
        assert!(!said.contains(SECRET) && !said.contains("short-secret"), "{said}");
    }
    let site = built_site();
    let listen = ["--listen", "0.0.0.0:0"];
    for way_out in [&["--open"][..], &["--secret", SECRET]] {
        drop(process::Server::start(site.path(), &[&listen, way_out].concat()));
    }
}

#[tokio::test]
async fn tokens_are_made_with_the_secret_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
    let rights = ["token", "--publish", "ci-*,log", "--watch", "*", "--for", "build server"];
    let made = process::tidings().env("TIDINGS_SECRET_FILE", &file).args(rights).output();
    let made = made.expect("a process");
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).expect("text");
    // The server of a test lives in another year: this token is good there for longer.
    let app = guarded().await;
    let bearer = format!("Bearer {}", token.trim_end());
    for (stream, status) in
        [("ci-1", StatusCode::CREATED), ("log", StatusCode::CREATED), ("x", StatusCode::FORBIDDEN)]
    {
        let post = app.client.post(format!("{}/streams/{stream}", app.url));
        let answer = post.header("authorization", &bearer).body("one").send().await;
        assert_eq!(answer.expect("an answer").status(), status, "{stream}");
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
        let (output, said) = process::refused(process::tidings().args(arguments));
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    }
}
