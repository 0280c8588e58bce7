//! The description of the HTTP interface: compared with the router, and with responses to each operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::StreamExt as _;
use reqwest::{Client, Method, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use syn::{
    Expr, ExprLit, ExprMethodCall, Item, Lit,
    visit::{self, Visit},
};

use crate::{
    support::{
        NOW, TestApp,
        contract::{Answer, Contract},
        cookie_name, events_with_pings,
    },
    webhook::webhook_secret,
};

const SECRET: &str = "a secret of a length that is enough";

#[tokio::test]
async fn the_paths_are_those_of_the_router() {
    let app = TestApp::start(&[]).await;
    let contract = Contract::of(&app).await;
    let described: BTreeSet<String> = contract.paths().into_keys().map(str::to_owned).collect();
    let routes: BTreeSet<String> = routes().into_iter().chain(pages()).collect();
    assert_eq!(described, routes);
}

/// The `Allow` header of a refused method has those that the router knows.
#[tokio::test]
async fn the_methods_are_those_of_the_router() {
    let app = TestApp::start(&[]).await;
    for (path, mut methods) in Contract::of(&app).await.paths() {
        let address = path.replace("{name}", "a").replace("{topic}", "a");
        let refused = app.send(Method::PATCH, &address, "").await;
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allow = refused.headers()["allow"].to_str().expect("text");
        let mut allowed: Vec<_> = allow.split(',').map(str::trim).collect();
        if methods.contains(&"GET".to_owned()) {
            methods.push("HEAD".to_owned());
        }
        methods.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(methods, allowed, "{path}");
    }
}

#[tokio::test]
async fn no_topic_is_named_like_another_address() {
    let app = TestApp::start(&[]).await;
    let contract = Contract::of(&app).await;
    let topic = &contract.0["paths"]["/{topic}"]["post"]["parameters"];
    let topic = topic.as_array().expect("parameters").iter().find(|one| one["name"] == "topic");
    let schema = &topic.expect("the topic")["schema"];
    assert!(contract.validate(schema, &json!("alerts")).is_ok());
    for path in contract.paths().into_keys() {
        let first = path.split('/').nth(1).unwrap_or_default();
        assert!(contract.validate(schema, &json!(first)).is_err(), "{path}");
    }
}

#[tokio::test]
async fn the_document_is_consistent() {
    let app = TestApp::start(&[]).await;
    let Contract(document) = Contract::of(&app).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut references = Vec::new();
    find_references(&document, &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for operation in item.as_object().expect("operations").values() {
            assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{operation}");
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = parameter.trim_end_matches('}');
                let parameters = operation["parameters"].as_array().expect("parameters");
                let found = parameters.iter().any(|one| one["name"] == name && one["in"] == "path");
                assert!(found, "{path}: {name}");
            }
        }
    }
}

fn find_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| find_references(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| find_references(value, found)),
        _ => {}
    }
}

/// Requests, and the status of the response: `request | headers | body | status`, where `-` is empty, `&`
/// separates headers, `TOKEN` is one for every stream, `SECRET` that of the webhook of `ci`, and `ID` the id of
/// the first message. In their order.
const REQUESTS: &str = r#"
    POST /streams/a                     | authorization: Bearer TOKEN | one | 201
    POST /streams/a                     | authorization: Bearer TOKEN & idempotency-key: k | two | 201
    POST /streams/a                     | authorization: Bearer TOKEN & idempotency-key: k | two | 201
    POST /streams/a                     | authorization: Bearer TOKEN & idempotency-key: k | three | 422
    POST /streams/a                     | authorization: Bearer TOKEN & content-encoding: br | x | 415
    POST /streams/a                     | authorization: Bearer TOKEN & content-encoding: gzip | x | 400
    POST /streams/a                     | authorization: Bearer TOKEN & sec-fetch-site: cross-site | x | 403
    POST /streams/a                     | authorization: Bearer TOKEN | - | 400
    POST /streams/a                     | -                           | x | 401
    POST /streams/a                     | authorization: Bearer x     | x | 401
    POST /streams/a?lines               | authorization: Bearer TOKEN | x | 200
    PUT /streams/a                      | authorization: Bearer TOKEN & title: T | x | 201
    PUT /streams/a?x                    | authorization: Bearer TOKEN | x | 400
    PUT /streams/a,a                    | authorization: Bearer TOKEN | x | 400
    POST /streams/ci/webhook?show=x     | x-gitlab-token: SECRET      | {} | 201
    POST /streams/a/webhook?from=github | authorization: Bearer TOKEN | {} | 201
    POST /streams/a/webhook             | authorization: Bearer TOKEN | {} | 400
    POST /streams/a/webhook             | -                           | {} | 401
    POST /streams/a/webhook             | x-hub-signature-256: x      | {} | 403
    POST /a                             | authorization: Bearer TOKEN & priority: 5 & tags: tada | x | 200
    POST /a                             | authorization: Bearer TOKEN & delay: 1h | x | 422
    PUT /a?click=http://h&title=T       | authorization: Bearer TOKEN | x | 200
    PUT /a?priority=x                   | authorization: Bearer TOKEN | x | 400
    PUT /api                            | authorization: Bearer TOKEN | x | 404
    POST /                              | authorization: Bearer TOKEN | {"topic":"a","priority":1} | 200
    POST /                              | authorization: Bearer TOKEN | {} | 400
    PUT /                               | authorization: Bearer TOKEN | {"topic":"a"} | 200
    PUT /                               | -                           | {"topic":"a"} | 401
    POST /streams                       | authorization: Bearer TOKEN | {"topic":"a"} | 200
    POST /streams                       | authorization: Bearer TOKEN | x | 400
    PUT /streams                        | authorization: Bearer TOKEN | {"topic":"a"} | 200
    PUT /streams                        | authorization: Bearer TOKEN | x | 400
    GET /a/publish?message=x            | authorization: Bearer TOKEN | - | 200
    GET /a/publish?message=x            | -                           | - | 401
    GET /a/send                         | authorization: Bearer TOKEN | - | 200
    GET /a/send?auth=x                  | authorization: Bearer TOKEN | - | 400
    GET /a/trigger                      | authorization: Bearer TOKEN | - | 200
    GET /a/trigger                      | authorization: Bearer TOKEN & sec-fetch-site: cross-site | - | 403

    GET /streams/a/messages             | authorization: Bearer TOKEN | - | 200
    GET /streams/a/messages?limit=1     | authorization: Bearer TOKEN & accept: application/x-ndjson | - | 200
    GET /streams/a/messages?contains=o  | authorization: Basic BASIC  | - | 200
    GET /streams/a/messages?limit=0     | authorization: Bearer TOKEN | - | 400
    GET /streams/a/messages?after=1-1   | authorization: Bearer TOKEN | - | 404
    GET /streams/b/messages             | authorization: Bearer TOKEN | - | 404
    HEAD /streams/a/messages            | authorization: Bearer TOKEN | - | 200
    GET /streams/a/feed.atom            | authorization: Bearer TOKEN | - | 200
    GET /streams/a/feed.atom            | authorization: Bearer TOKEN & if-none-match: * | - | 304
    GET /streams/a/feed.atom            | -                           | - | 401
    GET /streams/a/feed.json            | authorization: Bearer TOKEN | - | 200
    GET /streams/b/feed.json            | authorization: Bearer TOKEN | - | 404
    GET /streams                        | authorization: Bearer TOKEN & accept: application/json | - | 200
    GET /streams?limit=0                | authorization: Bearer TOKEN & accept: application/json | - | 400
    GET /streams                        | authorization: Bearer TOKEN & accept: text/event-stream | - | 200
    GET /streams                        | authorization: Bearer TOKEN & accept: text/html | - | 200
    GET /streams/a/events               | authorization: Bearer TOKEN | - | 200
    GET /streams/a/events?watchers      | authorization: Bearer TOKEN | - | 200
    GET /streams/a,b/events             | authorization: Bearer TOKEN | - | 200
    GET /streams/a/events?last_event_id=x | authorization: Bearer TOKEN | - | 400
    GET /streams/a/events               | -                           | - | 401
    GET /stream                         | -                           | - | 200
    GET /stream?last_event_id=x         | -                           | - | 400

    GET /                               | accept: text/html           | - | 200
    GET /                               | accept: text/plain          | - | 200
    GET /streams/a                      | authorization: Bearer TOKEN & accept: text/html | - | 200
    GET /streams/a?at=ID                | authorization: Bearer TOKEN | - | 200
    GET /streams/a?view=x               | authorization: Bearer TOKEN & accept: text/plain | - | 400
    GET /streams/a                      | accept: text/html           | - | 401
    GET /sign-in                        | accept: text/html           | - | 200
    GET /problems                       | accept: text/html           | - | 200
    GET /favicon.svg                    | -                           | - | 200
    HEAD /favicon.svg                   | -                           | - | 200
    GET /nothing                        | -                           | - | 404
    GET /nothing                        | accept: text/html           | - | 404
    POST /api/publish                   | authorization: Bearer TOKEN | stream=a&text=x | 200
    POST /api/publish                   | authorization: Bearer TOKEN & accept: text/html | stream=a&text=x | 303
    POST /api/publish                   | authorization: Bearer TOKEN & accept: text/html | stream=a&text= | 400
    POST /api/publish                   | authorization: Bearer TOKEN | stream=a | 400
    POST /api/end                       | authorization: Bearer TOKEN | stream=b&text=x | 404
    POST /api/sign-in                   | -                           | token=TOKEN&to=/ | 204
    POST /api/sign-in                   | accept: text/html           | token=TOKEN&to=/ | 303
    POST /api/sign-in                   | -                           | token=x&to=/ | 401
    POST /api/sign-in                   | accept: text/html           | token=x&to=/ | 401
    POST /api/sign-out                  | -                           | to=/ | 204
    POST /api/sign-out                  | -                           | x | 400
    GET /health/live                    | -                           | - | 200
    GET /health/ready                   | -                           | - | 200
    GET /openapi.json                   | -                           | - | 200
    GET /openapi.json                   | if-none-match: *            | - | 304

    POST /streams/a/end                 | authorization: Bearer TOKEN | - | 200
    POST /streams/a/end                 | authorization: Bearer TOKEN | - | 409
    POST /streams/a                     | authorization: Bearer TOKEN | x | 409
    GET /streams/a/events?last_event_id=latest | authorization: Bearer TOKEN | - | 200
    DELETE /streams/a                   | authorization: Bearer TOKEN | - | 204
    DELETE /streams/a                   | authorization: Bearer TOKEN | - | 404
    POST /a                             | authorization: Bearer TOKEN | x | 200
    POST /api/end                       | authorization: Bearer TOKEN | stream=a&text=x | 200

    PATCH /streams/a                    | -                           | - | 405
    GET /streams/a/nothing              | -                           | - | 404
"#;

/// Operations that refuse nothing but what no single client causes: limits, and the state of the server.
const NEVER_REFUSED: [&str; 6] =
    ["describe", "isLive", "isReady", "showCounter", "showProblems", "showSignIn"];

#[tokio::test]
async fn every_operation_responds_as_described() {
    let flags = ["--secret", SECRET, "--counter-count", "1", "--counter-delay", "1ms"];
    let app = TestApp::start(&flags).await;
    let contract = Contract::of(&app).await;
    let client = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let mut values = vec![
        ("TOKEN", token()),
        ("SECRET", webhook_secret(SECRET)),
        ("BASIC", BASE64.encode(format!("user:{}", token()))),
    ];
    let mut statuses: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for row in REQUESTS.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let fill = |text: &str| {
            values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let cells: Vec<_> = row.split(" | ").map(str::trim).collect();
        let [request, headers, body, status] = cells.as_slice() else { panic!("{row}") };
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let (method, path): (Method, _) = (method.parse().expect("a method"), fill(path));
        let mut request = client.request(method.clone(), format!("{}{path}", app.url));
        for header in headers.split(" & ").filter(|header| *header != "-") {
            let (name, value) = header.split_once(": ").expect("a header");
            request = request.header(name, fill(value));
        }
        request = request.body(if *body == "-" { String::new() } else { fill(body) });
        let response = request.send().await.expect("a response");
        let (received, headers) = (response.status(), response.headers().clone());
        assert_eq!(received.as_str(), *status, "{row}");
        let content_type = headers.get("content-type").map_or(&b""[..], |value| value.as_bytes());
        let (body, events) = if content_type.starts_with(b"text/event-stream") {
            (Vec::new(), events_with_pings(response).take(1).collect::<Vec<_>>().await)
        } else {
            (response.bytes().await.expect("a body").into(), Vec::new())
        };
        let answer = Answer { method, path, status: received, headers, body };
        let Some(operation) = contract.check(&answer) else { continue };
        for event in events {
            contract.check_event(&answer.path, &event.expect("a valid stream"));
        }
        if values.len() == 3 {
            let accepted: Value = serde_json::from_slice(&answer.body).expect("JSON");
            values.push(("ID", accepted["id"].as_str().expect("an id").to_owned()));
        }
        statuses.entry(operation.to_owned()).or_default().insert(received.as_u16());
    }
    for item in contract.0["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            let seen = statuses.get(id).unwrap_or_else(|| panic!("{id} is not among the requests"));
            assert!(seen.range(200..400).count() > 0, "{id} was not answered: {seen:?}");
            let is_refused = seen.range(400..).count() > 0;
            assert_eq!(is_refused, !NEVER_REFUSED.contains(&id), "{id}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn the_document_is_of_its_server() {
    let app = TestApp::start(&["--max-message-bytes", "1234"]).await;
    let Contract(document) = Contract::of(&app).await;
    let publish = &document["paths"]["/streams/{name}"]["post"];
    assert_eq!(publish["requestBody"]["content"]["text/plain"]["schema"]["maxLength"], 1234);
    assert_eq!(publish["security"], Value::Null, "an open server asks for no token");
    assert_eq!(document["servers"][0]["url"], "/");

    let flags = ["--secret", SECRET, "--public", "open", "--base-path", "/tidings"];
    let app = TestApp::start(&flags).await;
    let response = app.get("/tidings/openapi.json").await;
    let tag = response.headers()["etag"].to_str().expect("text").to_owned();
    let document: Value = response.json().await.expect("JSON");
    assert_eq!(document["servers"][0]["url"], "/tidings");
    let operation = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    let token = json!([{"bearer": []}, {"basic": []}, {"cookie": []}]);
    assert_eq!(operation("/streams/{name}", "post"), token);
    let optional = json!([{"bearer": []}, {"basic": []}, {"cookie": []}, {}]);
    assert_eq!(operation("/streams/{name}/messages", "get"), optional, "some are public");
    assert_eq!(document["components"]["securitySchemes"]["cookie"]["name"], cookie_name(SECRET));
    let problems = document.to_string();
    assert!(problems.contains("\"/tidings/problems#malformed-name\""));
    assert!(!problems.contains("\"/problems#"));

    let known = app.get_with("/tidings/openapi.json", &[("if-none-match", &tag)]).await;
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let start = app.get_with("/tidings/", &[("accept", "text/html")]).await;
    let link = start.headers()["link"].to_str().expect("text");
    assert_eq!(link, "</tidings/openapi.json>; rel=\"service-desc\"; type=\"application/json\"");
}

/// A token for every stream.
fn token() -> String {
    let claims = json!({ "name": "t", "publish": ["*"], "watch": ["*"], "exp": NOW / 1000 + 3600 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// The paths in `router.rs`: texts, or constants that are found in the module they are named with.
fn routes() -> Vec<String> {
    struct Routes(Vec<String>);
    impl<'code> Visit<'code> for Routes {
        fn visit_expr_method_call(&mut self, call: &'code ExprMethodCall) {
            if call.method == "route" {
                self.0.push(text_of(call.args.first().expect("a path")));
            }
            visit::visit_expr_method_call(self, call);
        }
    }
    let code = fs::read_to_string(root().join("server/router.rs")).expect("text");
    let mut routes = Routes(Vec::new());
    routes.visit_file(&syn::parse_file(&code).expect("Rust"));
    // The pages are routed by the paths that the app has: see below.
    routes.0.retain(|path| !path.is_empty());
    assert!(routes.0.len() > 15, "{:?}", routes.0);
    routes.0
}

/// The text of a literal or of a constant; empty for anything else.
fn text_of(expression: &Expr) -> String {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.value(),
        Expr::Path(path) => {
            let names: Vec<_> =
                path.path.segments.iter().map(|part| part.ident.to_string()).collect();
            let [module, constant] = names.as_slice() else { panic!("{names:?}") };
            let files = files(&root())
                .into_iter()
                .filter(|file| file.file_stem().is_some_and(|stem| stem == module.as_str()));
            let mut found = files.filter_map(|file| constant_in(&file, constant));
            found.next().unwrap_or_else(|| panic!("{names:?} is not found"))
        }
        _ => String::new(),
    }
}

fn constant_in(file: &Path, name: &str) -> Option<String> {
    let code = fs::read_to_string(file).expect("text");
    let items = syn::parse_file(&code).expect("Rust").items;
    items.into_iter().find_map(|item| match item {
        Item::Const(item) if item.ident == name => Some(text_of(&item.expr)),
        _ => None,
    })
}

/// The paths of the pages, as the routes of the app have them: `path=(StaticSegment("a"), ParamSegment("b"))`.
fn pages() -> Vec<String> {
    let code = fs::read_to_string(root().join("app.rs")).expect("text");
    let paths = code.lines().filter_map(|line| line.trim().strip_prefix("path="));
    let paths: Vec<_> = paths
        .map(|path| {
            let segments = path.split("Segment(\"").collect::<Vec<_>>();
            let segments = segments.windows(2).map(|pair| {
                let name = pair[1].split('"').next().expect("a name");
                if pair[0].ends_with("Param") { format!("/{{{name}}}") } else { format!("/{name}") }
            });
            segments.collect::<String>()
        })
        .collect();
    assert!(paths.len() >= 5, "{paths:?}");
    paths
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.is_dir());
    folders.iter().flat_map(|folder| self::files(folder)).chain(files).collect()
}
