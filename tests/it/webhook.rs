//! Webhooks: the payloads in `tests/fixtures/webhooks` have the shape that each sender documents, and
//! content that is made up.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{NOW, TestApp, process::tidings};

const SECRET: &str = "a secret of a length that is enough";
const PREVIOUS: &str = "the one that was in use before this";

const GITHUB: &str = "x-github-event";
const GITLAB: &str = "x-gitlab-event";
const GITEA: &str = "x-gitea-event";

/// A payload, the header that names its event, and its line.
const LINES: [(&str, &str, &str, &str); 18] = [
    (
        "github-push",
        GITHUB,
        "push",
        "octo/hello: ada pushed 2 commits to main: Fix the parser \
         https://github.example/octo/hello/compare/0000...0002",
    ),
    (
        "github-pull-request",
        GITHUB,
        "pull_request",
        "octo/hello: ada merged pull request #7: Read less https://github.example/octo/hello/pull/7",
    ),
    (
        "github-workflow-run",
        GITHUB,
        "workflow_run",
        "octo/hello: workflow CI #42 on main: timed out \
         https://github.example/octo/hello/actions/runs/90001",
    ),
    (
        "github-release",
        GITHUB,
        "release",
        "octo/hello: ada published release v1.2.0: Faster parser \
         https://github.example/octo/hello/releases/tag/v1.2.0",
    ),
    (
        "github-ping",
        GITHUB,
        "ping",
        "octo/hello: the webhook works: Keep it simple. https://github.example/octo/hello",
    ),
    (
        "github-star",
        GITHUB,
        "star",
        "octo/hello: star created by ada https://github.example/octo/hello",
    ),
    (
        "gitlab-push",
        GITLAB,
        "Push Hook",
        "group/app: Grace pushed 2 commits to main: Finish the report \
         https://gitlab.example/group/app/-/commit/2",
    ),
    (
        "gitlab-merge-request",
        GITLAB,
        "Merge Request Hook",
        "group/app: Grace merged merge request !3: The report \
         https://gitlab.example/group/app/-/merge_requests/3",
    ),
    (
        "gitlab-pipeline",
        GITLAB,
        "Pipeline Hook",
        "group/app: pipeline #3 on main: failed https://gitlab.example/group/app/-/pipelines/31",
    ),
    (
        "gitlab-release",
        GITLAB,
        "Release Hook",
        "group/app: release v1.1 created https://gitlab.example/group/app/-/releases/v1.1",
    ),
    (
        "gitea-push",
        GITEA,
        "push",
        "alan/notes: alan pushed 1 commit to main: Write it down \
         https://gitea.example/alan/notes/compare/4...5",
    ),
    (
        "gitea-pull-request",
        GITEA,
        "pull_request",
        "alan/notes: alan opened pull request #2: More notes \
         https://gitea.example/alan/notes/pulls/2",
    ),
    (
        "gitea-workflow-run",
        GITEA,
        "workflow_run",
        "alan/notes: workflow test #6 on main: success \
         https://gitea.example/alan/notes/actions/runs/6",
    ),
    (
        "gitea-release",
        GITEA,
        "release",
        "alan/notes: alan published release v0.1 \
         https://gitea.example/alan/notes/releases/tag/v0.1",
    ),
    (
        "alertmanager",
        "user-agent",
        "Alertmanager/0.28",
        "[FIRING:2] HighLatency (critical): Requests take longer than 2 s \
         http://alertmanager.example:9093",
    ),
    (
        "alertmanager-resolved",
        "user-agent",
        "Alertmanager/0.28",
        "[RESOLVED] DiskFull on db-1: /var is 97 % full http://alertmanager.example:9093",
    ),
    (
        "grafana",
        "user-agent",
        "Grafana",
        "[FIRING:1] (High memory blue us-1): Memory is above 90 % \
         https://grafana.example/d/abc?viewPanel=2",
    ),
    (
        "github-push",
        GITHUB,
        "something_new",
        "octo/hello: something new by ada https://github.example/octo/hello",
    ),
];

fn fixture(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/tests/fixtures/webhooks/{name}.json")).expect("a file")
}

async fn send(app: &TestApp, query: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = app.client.post(format!("{}/streams/ci/webhook{query}", app.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.to_owned()).send().await.expect("a response")
}

/// The slug of the problem in a response.
async fn slug(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let problem: Value = response.json().await.expect("JSON");
    let slug = problem["type"].as_str().and_then(|slug| slug.strip_prefix("/problems#"));
    (status, slug.expect("a problem").to_owned())
}

/// The secret of the webhook of the stream `ci`, as the command line prints it.
pub(crate) fn webhook_secret(secret: &str) -> String {
    let output = tidings().args(["token", "--webhook", "ci", "--secret", secret]).output();
    let output = output.expect("an end");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

fn sign(webhook_secret: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(webhook_secret.as_bytes()).expect("a key");
    let mac = mac.chain_update(body).finalize().into_bytes();
    mac.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[tokio::test]
async fn each_payload_becomes_a_line() {
    let app = TestApp::start(&[]).await;
    for (name, header, event, _) in LINES {
        let response = send(&app, "", &[(header, event)], &fixture(name)).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{name}");
        let accepted: Value = response.json().await.expect("JSON");
        assert!(accepted["id"].is_string() && accepted["at"].is_string(), "{name}");
    }
    let texts: Vec<_> = app.log("ci").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, LINES.map(|(_, _, _, line)| line));
}

#[tokio::test]
async fn a_template_shows_any_json_and_the_payload_is_kept_if_asked_for() {
    let app = TestApp::start(&["--max-message-bytes", "400"]).await;
    let push = fixture("github-push");
    let form = format!("payload={}", "%7B%22a%22%3A+%22b%22%7D");
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    for (query, headers, body, text) in [
        (
            "?show={service.name}:%20{checks.-1.name}%20{checks.1.ms}%20ms%20of%20{checks.%23}%20{tags}",
            &[][..],
            fixture("other").as_str(),
            "shop: http 2031 ms of 2 prod, eu",
        ),
        ("?show={note}{none}", &[], &fixture("other"), "first line second line"),
        ("?show={pusher.name}", &[(GITHUB, "push")], &push, "ada"),
        ("?from=github", &[(GITHUB, "ping")], r#"{"zen":"z"}"#, "GitHub: the webhook works: z"),
        ("?show={a}", &[form_type], &form, "b"),
        ("?show=it&payload", &[], "{\"a\": 1}\n", "it\n{\"a\": 1}"),
    ] {
        let response = send(&app, query, headers, body).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{query}");
        let log = app.log("ci").await;
        assert_eq!(log.last().map(|(_, text)| text.as_str()), Some(text), "{query}");
    }
    // A payload that is larger than a message is cut.
    let response = send(&app, "?payload", &[(GITHUB, "push")], &push).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let (_, text) = app.log("ci").await.pop().expect("a message");
    assert!(text.starts_with("octo/hello: ada pushed 2 commits"), "{text}");
    assert!(text.contains("\n{\n") && text.ends_with('…') && text.len() <= 400, "{text}");
}

#[tokio::test]
async fn a_webhook_needs_its_secret_or_a_token() {
    let app = TestApp::start(&["--secret", SECRET, "--previous-secret", PREVIOUS]).await;
    let body = fixture("github-push");
    let (current, previous) = (webhook_secret(SECRET), webhook_secret(PREVIOUS));
    let claims = json!({ "name": "ci", "publish": ["ci"], "exp": NOW / 1000 + 3600 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
    let bearer = format!("Bearer {}", token.expect("a token"));
    let signature = format!("sha256={}", sign(&current, &body));
    let changed = body.replace("ada", "eve");
    for (headers, body, expected) in [
        (&[("x-hub-signature-256", signature.as_str())][..], &body, None),
        (&[("x-hub-signature-256", &format!("sha256={}", sign(&previous, &body)))], &body, None),
        (&[("x-gitea-signature", &sign(&current, &body))], &body, None),
        (&[("x-gitlab-token", &current)], &body, None),
        (&[("x-gitlab-token", &previous)], &body, None),
        (&[("authorization", &bearer)], &body, None),
        (&[], &body, Some((401, "signature-missing"))),
        (&[("x-hub-signature", "sha1=00")], &body, Some((401, "signature-missing"))),
        (&[("x-hub-signature-256", &signature)], &changed, Some((403, "signature-invalid"))),
        (
            &[("x-hub-signature-256", &format!("sha256={}", sign(SECRET, &body)))],
            &body,
            Some((403, "signature-invalid")),
        ),
        (&[("x-hub-signature-256", &signature[7..])], &body, Some((403, "signature-invalid"))),
        (&[("x-hub-signature-256", "")], &body, Some((403, "signature-invalid"))),
        (&[("x-gitlab-token", "guess")], &body, Some((403, "signature-invalid"))),
        (&[("authorization", "Bearer no")], &body, Some((401, "token-invalid"))),
        (
            &[("authorization", "Bearer no"), ("x-hub-signature-256", &signature)],
            &body,
            Some((401, "token-invalid")),
        ),
        (
            &[("x-hub-signature-256", &signature), ("sec-fetch-site", "cross-site")],
            &body,
            Some((403, "cross-site")),
        ),
    ] {
        let headers = [headers, &[(GITHUB, "push")]].concat();
        let response = send(&app, "", &headers, body).await;
        match expected {
            None => assert_eq!(response.status(), StatusCode::CREATED, "{headers:?}"),
            Some((status, expected)) => {
                let (actual, slug) = slug(response).await;
                assert_eq!((actual.as_u16(), slug.as_str()), (status, expected), "{headers:?}");
            }
        }
    }
    // Who has no secret is refused before the payload is read.
    let large = "x".repeat(2 * 1024 * 1024);
    for headers in [[("x-gitlab-token", "guess")], [("x-hub-signature-256", "sha256=00")]] {
        let (_, slug) = slug(send(&app, "", &headers, &large).await).await;
        assert_eq!(slug, "signature-invalid", "{headers:?}");
    }
    // The secret of one stream is not that of another.
    let url = format!("{}/streams/ci2/webhook", app.url);
    let request = app.client.post(url).header("x-hub-signature-256", &signature).body(body.clone());
    assert_eq!(slug(request.send().await.expect("a response")).await.1, "signature-invalid");
    // It is no token.
    let bearer = format!("Bearer {current}");
    let response = app.get_with("/streams/ci/messages", &[("authorization", &bearer)]).await;
    assert_eq!(slug(response).await.1, "token-invalid");

    let open = TestApp::start(&[]).await;
    let response = send(&open, "", &[("x-hub-signature-256", &signature)], &body).await;
    assert_eq!(slug(response).await, (StatusCode::FORBIDDEN, "signature-invalid".to_owned()));
}

#[tokio::test]
async fn a_delivery_that_is_repeated_is_stored_once() {
    let app = TestApp::start(&[]).await;
    let body = fixture("github-push");
    for (event, delivery, replayed) in [
        (GITHUB, ("x-github-delivery", "d-1"), false),
        (GITHUB, ("x-github-delivery", "d-1"), true),
        (GITHUB, ("x-github-delivery", "d-2"), false),
        (GITEA, ("x-gitea-delivery", "d-3"), false),
        (GITEA, ("x-gitea-delivery", "d-3"), true),
        (GITLAB, ("idempotency-key", "d-4"), false),
        (GITLAB, ("idempotency-key", "d-4"), true),
    ] {
        let response = send(&app, "", &[(event, "push"), delivery], &body).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{delivery:?}");
        let header = response.headers().contains_key("idempotency-replayed");
        assert_eq!(header, replayed, "{delivery:?}");
    }
    assert_eq!(app.log("ci").await.len(), 4);
}

#[tokio::test]
async fn a_payload_may_have_a_megabyte() {
    let app = TestApp::start(&[]).await;
    let padding = "x".repeat(1024 * 1024 - 20);
    let body = format!("{{\"a\":1,\"b\":\"{padding}\"}}");
    assert_eq!(send(&app, "?show={a}", &[], &body[..]).await.status(), StatusCode::CREATED);
    // What takes little room in the payload, and much as values.
    let body = format!("[{}1]", "{},".repeat(300_000));
    let response = send(&app, "?show={%23}%20{-1}", &[], &body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let texts: Vec<_> = app.log("ci").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["1", "300001 1"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let app = TestApp::start(&[]).await;
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    for (query, headers, body, status, expected) in [
        ("", &[][..], "{}", 400, "malformed-payload"),
        ("", &[(GITHUB, "push")], "not JSON", 400, "malformed-payload"),
        ("", &[(GITHUB, "push")], "", 400, "malformed-payload"),
        ("?show={a}", &[], "{\"a\":1", 400, "malformed-payload"),
        ("?show={a}", &[], "{\"b\":1}", 400, "malformed-payload"),
        ("?show={a}", &[], &large, 413, "payload-too-large"),
        ("?show={a", &[], "{}", 400, "malformed-query"),
        ("?show={}", &[], "{}", 400, "malformed-query"),
        ("?from=gitbucket", &[], "{}", 400, "malformed-query"),
        ("?payload=yes", &[], "{}", 400, "malformed-query"),
        ("?x", &[], "{}", 400, "malformed-query"),
        ("", &[(GITHUB, "push"), ("x-github-delivery", "")], "{}", 400, "malformed-key"),
    ] {
        let (actual, slug) = slug(send(&app, query, headers, body).await).await;
        assert_eq!((actual.as_u16(), slug.as_str()), (status, expected), "{query} {headers:?}");
    }
    assert_eq!(app.get("/streams/ci/messages").await.status(), StatusCode::NOT_FOUND);
}

#[test]
fn the_command_line_prints_the_secret_of_one_stream() {
    assert_eq!(webhook_secret(SECRET), webhook_secret(SECRET));
    assert_ne!(webhook_secret(SECRET), webhook_secret(PREVIOUS));
    for arguments in [
        &["--webhook", "CI"][..],
        &["--webhook", "ci", "--publish", "ci"],
        &["--webhook", "ci", "--for", "me"],
        &["--webhook", "ci", "--expires", "1d"],
        &["--publish", "ci"],
        &["--for", "me"],
    ] {
        let output = tidings().args(["token", "--secret", SECRET]).args(arguments).output();
        assert_eq!(output.expect("an end").status.code(), Some(2), "{arguments:?}");
    }
}
