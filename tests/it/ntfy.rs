//! Publishing as to an ntfy server, with requests of the shapes that its clients send.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::support::{NOW, TestApp, table};

const SECRET: &str = "a secret of a length that is enough";

/// What the clients of the registries send, see the names in the comments of the test; `{"…` is the rest
/// of the response.
const SHAPES: &str = r#"
    POST /alerts    | content-type: application/x-www-form-urlencoded | Backup done | 200 | json | {"id":"T-1","time":1763891234,"event":"message","topic":"alerts","message":"Backup done"}
    POST /alerts    | title: Access detected & priority: urgent & tags: warning,skull | Act now. | 200 | json | {"id":"T-2",…"topic":"alerts","title":"Access detected","message":"Act now.","priority":5,"tags":["warning","skull"]}
    PUT /alerts     | title: From Python & priority: 4 & tags: tada,db1 & click: https://h/1 & icon: https://h/i.png & actions: view, Open, https://h/2, clear=true; http, Do, https://h/3 | done\n | 200 | json | …"priority":4,"tags":["tada","db1"],"click":"https://h/1"}
    POST /alerts    | title: T & priority: 3 & tags:  & markdown: false & actions: action=view, label=Go, url=https://h/4, clear=False | **b** | 200 | json | …"title":"T","message":"**b**"}
    POST /alerts    | x-title: =?UTF-8?B?R3LDvMOfZQ==?= & x-attach: https://h/f.jpg & x-filename: f.jpg & x-firebase: no | see file | 200 | json | …"title":"Grüße",…
    POST /alerts?title=T&p=low&m=not%20this | priority: u=1, i | body | 200 | json | …"title":"T","message":"body","priority":2}
    POST /alerts    | - | - | 200 | json | …"message":"triggered"}
    POST /alerts    | t: Title alone | - | 200 | json | …"title":"Title alone","message":"triggered"}
    POST /alerts?message=in%20the%5Cnquery | - | - | 200 | json | …"message":"in the\\nquery"}
    POST /          | content-type: application/json | {"topic":"alerts","title":"Low disk","message":"5.1 GB left","tags":["cd","srv"],"priority":4,"click":"https://h/5","attach":"https://h/6","filename":"f","actions":[{"action":"view","label":"Admin","url":"https://h/7"},{"action":"http","label":"Do","url":"https://h/8"}],"markdown":false,"other":{"a":[1]}} | 200 | json | …"title":"Low disk","message":"5.1 GB left","priority":4,"tags":["cd","srv"],"click":"https://h/5"}
    PUT /streams    | - | {"topic":"alerts","message":"[Site] down","priority":"5","tags":"red_circle","title":null} | 200 | json | …"message":"[Site] down","priority":5,"tags":["red_circle"]}
    POST /streams/  | - | {"topic":"alerts"} | 200 | json | …"message":"triggered"}
    POST /          | x-priority: 4 & x-tags: rocket & x-icon: https://h/i.png | {"topic":"alerts","title":"Apprise","message":"sent"} | 200 | json | …
    POST /streams/alerts | title: Ours & tags: ok & priority: min | too | 201 | json | {"id":"T-14","at":"AT"}
    POST /alerts    | idempotency-key: k1 | once | 200 | json | {"id":"T-15",… | idempotency-replayed: (no such header)
    POST /alerts    | idempotency-key: k1 | once | 200 | json | {"id":"T-15",… | idempotency-replayed: true
    POST /          | x-email: a@h & x-call: 1 | {"topic":"alerts","message":"null","actions":null,"tags":null} | 200 | json | {"id":"T-16",…
    POST /          | - | {"topic":"alerts","actions":[{"action":"view","url":null},{"action":"view","url":"https://h/9"}]} | 200 | json | {"id":"T-17",…
    POST /streams/alerts | x-email: a@h & x-priority: Normal & priority: Normal & filename: f & delay: 1h & x-title: no & t: no | plain | 201 | json | {"id":"T-18",…
"#;

const TEXTS: [&str; 18] = [
    "Backup done",
    "⚠️ 💀 [urgent] Access detected\nAct now.",
    "🎉 [high] From Python\ndone\n#db1\nhttps://h/1\nhttps://h/2",
    "T\n**b**\nhttps://h/4",
    "Grüße\nsee file\nhttps://h/f.jpg",
    "[low] T\nbody",
    "triggered",
    "Title alone",
    "in the\nquery",
    "💿 [high] Low disk\n5.1 GB left\n#srv\nhttps://h/5\nhttps://h/6\nhttps://h/7",
    "🔴 [urgent] [Site] down",
    "triggered",
    "🚀 [high] Apprise\nsent",
    "🆗 [min] Ours\ntoo",
    "once",
    "null",
    "https://h/9",
    "plain",
];

const REFUSALS: &str = r#"
    POST /alerts    | in: 30 min         | x | 422 | problem | unsupported-notification delay
    POST /alerts?delay=9am | -           | x | 422 | problem | unsupported-notification
    POST /alerts    | email: a@h         | x | 422 | problem | unsupported-notification e-mail
    POST /alerts    | filename: a.jpg    | \xff\xd8 | 422 | problem | unsupported-notification Attach
    POST /alerts    | cache: no          | x | 422 | problem | unsupported-notification stored
    POST /alerts?template=github | -     | {} | 422 | problem | unsupported-notification webhook
    POST /          | - | {"topic":"alerts","message":"x","delay":"30min"} | 422 | problem | unsupported-notification
    POST /          | - | {"topic":"alerts","call":"yes"} | 422 | problem | unsupported-notification
    POST /alerts    | priority: 6        | x | 400 | problem | malformed-notification 5
    POST /          | - | {"topic":"alerts","priority":0} | 400 | problem | malformed-notification
    POST /          | - | hello          | 400 | problem | malformed-notification topic
    POST /          | - | {"message":"x"} | 400 | problem | malformed-notification topic
    POST /          | - | ["alerts","x"]  | 400 | problem | malformed-notification object
    POST /          | - | {"topic":"alerts","actions":[["view","http://h"]]} | 400 | problem | malformed-notification object
    POST /          | - | {"topic":"alerts","title":{}} | 400 | problem | malformed-notification
    POST /          | - | {"topic":"alerts","actions":"{x*1000}"} | 400 | problem | malformed-notification
    POST /          | - | {"topic":"alerts","title":"{x*16385}"} | 400 | problem | malformed-notification besides
    POST /          | - | -              | 400 | problem | malformed-notification
    POST /          | - | {"topic":"Alerts"} | 400 | problem | malformed-name
    POST /alerts?x=y | -                 | x | 400 | problem | malformed-query Known
    POST /alerts?auth=QmFzaWM | -        | x | 400 | problem | malformed-query Authorization
    POST /alerts?lines | -               | x | 400 | problem | malformed-query
    POST /alerts    | -                  | \xff | 400 | problem | not-utf8
    POST /alerts    | -                  | {x*65537} | 413 | problem | message-too-large
    POST /alerts    | title: T           | {x*65535} | 413 | problem | message-too-large
    POST /Alerts    | -                  | x | 400 | problem | malformed-name
    POST /alerts    | sec-fetch-site: cross-site | x | 403 | problem | cross-site
    POST /          | origin: https://elsewhere.example | {"topic":"alerts"} | 403 | problem | cross-site

    POST /health        | - | x | 404 | problem | not-found
    POST /favicon.svg   | - | x | 404 | problem | not-found
    PUT /app.log        | - | x | 404 | problem | not-found
    POST /pkg           | - | x | 404 | problem | not-found
    GET /pkg/publish    | - | - | 404 | problem | not-found
    POST /stream        | - | x | 405 | problem | method-not-allowed
    POST /sign-in       | - | x | 405 | problem | method-not-allowed
    POST /problems      | - | x | 405 | problem | method-not-allowed
    POST /a/b           | - | x | 404 | problem | not-found
    DELETE /alerts      | - | - | 405 | problem | method-not-allowed
    POST /alerts/publish | - | - | 405 | problem | method-not-allowed
    GET /alerts         | - | - | 404 | problem | not-found
    GET /favicon.svg    | - | - | 200 | image/svg+xml | …
    GET /alerts/publish?message=x | - | - | 403 | problem | get-needs-token
    GET /alerts/publish?message=x | authorization: Bearer x | - | 403 | problem | get-needs-token
"#;

const WITH_TOKENS: &str = r#"
    POST /ci            | authorization: Bearer <ci>    | one   | 200 | json | {"id":"T-1",…
    POST /ci            | authorization: Basic <basic>  | two   | 200 | json | {"id":"T-2",…
    POST /              | authorization: Basic <basic>  | {"topic":"ci","message":"three"} | 200 | json | {"id":"T-3",…
    GET /ci/publish?message=four&priority=high | authorization: Bearer <ci> | - | 200 | json | {"id":"T-4",…"priority":4} | cache-control: no-store
    GET /ci/trigger     | authorization: Basic <basic>  | -     | 200 | json | {"id":"T-5",…"message":"triggered"}
    GET /ci/send?m=six  | authorization: Bearer <ci> & sec-fetch-site: same-origin | - | 200 | json | {"id":"T-6",…

    POST /ci            | -                             | x     | 401 | problem | token-missing
    POST /ci            | authorization: Basic dTpw     | x     | 401 | problem | token-invalid
    POST /              | -                             | {"topic":"ci","message":"x"} | 401 | problem | token-missing
    POST /              | -                             | {x*5000} | 401 | problem | token-missing
    POST /other         | authorization: Bearer <ci>    | x     | 403 | problem | not-permitted
    POST /              | authorization: Bearer <ci>    | {"topic":"other"} | 403 | problem | not-permitted
    GET /ci/publish?message=x | -                       | -     | 401 | problem | token-missing
    GET /ci/publish?message=x | cookie: <cookie>=<ci>   | -     | 403 | problem | get-needs-token
    GET /ci/publish?message=x | authorization: Bearer <ci> & sec-fetch-site: cross-site | - | 403 | problem | cross-site
    GET /ci/publish?message=x | authorization: Bearer <ci> & sec-fetch-site: same-site  | - | 403 | problem | cross-site
    GET /ci/publish?message=x | authorization: Bearer <ci> & origin: https://elsewhere.example | - | 403 | problem | cross-site
    GET /ci/publish?delay=1h  | authorization: Bearer <ci> | -  | 422 | problem | unsupported-notification
    GET /other/publish  | authorization: Bearer <ci>    | -     | 403 | problem | not-permitted
"#;

#[tokio::test]
async fn what_ntfys_clients_send_becomes_messages() {
    let app = TestApp::start(&[]).await;
    table::check(&app, SHAPES).await;
    let texts: Vec<_> = app.log("alerts").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, TEXTS);
}

#[tokio::test]
async fn what_a_message_cannot_have_is_refused() {
    let app = TestApp::start(&[]).await;
    table::check(&app, REFUSALS).await;
    assert_eq!(app.get("/streams/alerts/messages").await.status(), 404);
}

#[tokio::test]
async fn a_token_is_a_bearer_token_or_a_password() {
    let app = TestApp::start(&["--secret", SECRET]).await;
    let claims =
        json!({ "name": "ci", "publish": ["ci"], "watch": ["ci"], "exp": NOW / 1000 + 3600 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token");
    let rows = WITH_TOKENS
        .replace("<ci>", &token)
        .replace("<basic>", &base64(&format!("anyone:{token}")))
        .replace("<cookie>", &crate::support::cookie_name(SECRET));
    table::check(&app, &rows).await;
    // HEAD, which a GET implies elsewhere, publishes nothing.
    let head = app.client.head(format!("{}/ci/publish", app.url)).bearer_auth(&token);
    assert_eq!(head.send().await.expect("a response").status(), 405);
    let bearer = format!("Bearer {token}");
    let log = app.get_with("/streams/ci/messages", &[("authorization", &bearer)]).await;
    let log: serde_json::Value = log.json().await.expect("JSON");
    let texts = log["messages"].as_array().expect("messages").iter();
    let texts: Vec<_> = texts.map(|message| message["data"].as_str().expect("text")).collect();
    assert_eq!(texts, ["one", "two", "three", "[high] four", "triggered", "six"]);
}

#[tokio::test]
async fn topics_are_below_the_base_path() {
    let app = TestApp::start(&["--base-path", "/t"]).await;
    for (path, body, status) in [
        ("/t/alerts", "one", 200),
        ("/t", r#"{"topic":"alerts","message":"two"}"#, 200),
        ("/alerts", "outside", 404),
        ("/", r#"{"topic":"alerts"}"#, 404),
    ] {
        assert_eq!(app.post(path, body).await.status(), status, "{path}");
    }
}

/// Basic credentials (RFC 7617), which HTTP clients encode themselves.
fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
