//! Finding messages: the history through a filter, and the page of what was found.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{
    TestApp, built_site,
    deployment::{blocking, empty_database},
    lines,
    process::Server,
    table,
};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
/// The most messages that a request examines, and about how many bytes.
const MAX_EXAMINED: u64 = 20_000;
const MAX_EXAMINED_BYTES: u64 = 8 * 1024 * 1024;

const FILTERED_HISTORY: &str = r#"
    GET /streams/book/messages?contains=a | - | - | 404 | problem | no-such-stream
    POST /streams/book?lines | - | Error: disk\nerror: network\ninfo: disk\n\x1b[31mer\x1b[1mror\x1b[0m again\n{"error":null}\n | 200 | json | {"taken":5,"altered":0,"last_id":"T-5"}
    GET /streams/book/messages?contains=ERROR | - | - | 200 | json | {"messages":[{"id":"T-1",…},{"id":"T-2",…},{"id":"T-4",…},{"id":"T-5",…}],"next":null,"ended":null,"examined":5} | link: (no such header) & tidings-examined: 5 & cache-control: private, no-cache
    GET /streams/book/messages?contains=error&contains=disk | - | - | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"Error: disk"}],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?contains=error&excludes=disk | - | - | 200 | json | {"messages":[{"id":"T-2",…},{"id":"T-4",…},{"id":"T-5",…}],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?excludes=error&excludes=x | - | - | 200 | json | {"messages":[{"id":"T-3",…}],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?contains=31m | - | - | 200 | json | {"messages":[],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?contains=%22error%22 | - | - | 200 | json | {"messages":[{"id":"T-5",…}],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?contains=%20 | - | - | 200 | json | {"messages":[{"id":"T-1",…},{"id":"T-2",…},{"id":"T-3",…},{"id":"T-4",…}],"next":null,"ended":null,"examined":5}
    GET /streams/book/messages?contains=error&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-1",…},{"id":"T-2",…}],"next":"T-2","ended":null,"examined":2} | link: </streams/book/messages?after=T-2&limit=2&contains=error>; rel="next"
    GET /streams/book/messages?after=T-2&limit=2&contains=error | - | - | 200 | json | {"messages":[{"id":"T-4",…},{"id":"T-5",…}],"next":null,"ended":null,"examined":3} | link: (no such header)
    GET /streams/book/messages?before=latest&contains=error&limit=1 | - | - | 200 | json | {"messages":[{"id":"T-5",…}],"next":"T-5","ended":null,"examined":1} | link: </streams/book/messages?before=T-5&limit=1&contains=error>; rel="next"
    GET /streams/book/messages?before=T-5&contains=disk&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-1",…},{"id":"T-3",…}],"next":null,"ended":null,"examined":4}
    GET /streams/book/messages?before=T-1&contains=disk | - | - | 200 | json | {"messages":[],"next":null,"ended":null,"examined":0}
    GET /streams/book/messages?contains=disk&excludes=a%26b&limit=1 | accept: application/x-ndjson | - | 200 | ndjson | {"id":"T-1","at":"AT","data":"Error: disk"}\n | link: </streams/book/messages?after=T-1&limit=1&contains=disk&excludes=a%26b>; rel="next" & tidings-examined: 1
    GET /streams/book/messages?after=T-3&contains=disk | accept: application/x-ndjson | - | 200 | ndjson | - | link: (no such header) & tidings-examined: 2
    GET /streams/book/messages | - | - | 200 | json | {"messages":[…],"next":null,"ended":null} | tidings-examined: (no such header)
    POST /streams/book/end | - | error: the end | 200 | json | {"id":"T-6","at":"AT"}
    GET /streams/book/messages?contains=disk&excludes=error | - | - | 200 | json | {"messages":[{"id":"T-3",…}],"next":null,"ended":{"id":"T-6","at":"AT","data":"error: the end"},"examined":5}

    GET /streams/book/messages?contains= | - | - | 400 | problem | malformed-query contains; empty
    GET /streams/book/messages?contains=a&excludes= | - | - | 400 | problem | malformed-query excludes; empty
    GET /streams/book/messages?contains={a*512} | - | - | 200 | json | {"messages":[],…
    GET /streams/book/messages?contains={a*512}&excludes=b | - | - | 400 | problem | malformed-query 512 bytes
    GET /streams/book/messages?contains=a&contains=b&contains=c&contains=d&contains=e&contains=f&contains=g&contains=h&contains=i&contains=j&contains=k&contains=l&contains=m&contains=n&contains=o&contains=p | - | - | 200 | json | …
    GET /streams/book/messages?contains=a&contains=b&contains=c&contains=d&contains=e&contains=f&contains=g&contains=h&contains=i&contains=j&contains=k&contains=l&contains=m&contains=n&contains=o&contains=p&excludes=b | - | - | 400 | problem | malformed-query 16 words
    GET /streams/book/messages?contains=%ff | - | - | 200 | json | {"messages":[],…
    GET /streams/book/messages?contain=a | - | - | 400 | problem | malformed-query contain; contains, excludes
    GET /streams/book/messages?contains=a&limit=1&limit=1 | - | - | 400 | problem | malformed-query limit
    GET /streams/book/messages?contains=a&after=1000000000000-3 | - | - | 404 | problem | unknown-cursor
"#;

#[tokio::test]
async fn the_history_can_be_filtered() {
    let app = TestApp::start(&[]).await;
    table::check(&app, FILTERED_HISTORY).await;
}

/// What a scan of a whole stream has found: the texts, the number of messages examined, and the number of
/// requests.
struct Scan {
    texts: Vec<String>,
    examined: u64,
    requests: u64,
}

/// Follows `next` to the end. Asserts that each request does bounded work.
async fn scan(client: &reqwest::Client, history: &str, direction: &str, filter: &str) -> Scan {
    let mut scan = Scan { texts: Vec::new(), examined: 0, requests: 0 };
    let mut cursor = if direction == "after" { "earliest" } else { "latest" }.to_owned();
    loop {
        let url = format!("{history}?{direction}={cursor}&limit=100&{filter}");
        let page: Value =
            client.get(url).send().await.expect("a response").json().await.expect("JSON");
        let messages = page["messages"].as_array().expect("messages");
        let texts = messages.iter().map(|message| message["data"].as_str().expect("text"));
        scan.texts.extend(texts.map(ToOwned::to_owned));
        let examined = page["examined"].as_u64().expect("a number");
        assert!((1..=MAX_EXAMINED).contains(&examined), "{examined}");
        scan.examined += examined;
        scan.requests += 1;
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return scan,
        }
    }
}

/// Finds one message at each end of 30,000, from both ends. On a store with enough room.
async fn find_in_a_long_stream(client: &reqwest::Client, url: &str) {
    let history = format!("{url}/streams/long/messages");
    let middle = (0..30_000).map(|n| format!("message {n}"));
    let texts = ["Needle 1".to_owned()].into_iter().chain(middle).chain(["needle 2".to_owned()]);
    let upload = client.post(format!("{url}/streams/long?lines")).body(lines(texts)).send().await;
    assert_eq!(upload.expect("a response").status(), StatusCode::OK);
    for (direction, expected) in
        [("after", ["Needle 1", "needle 2"]), ("before", ["needle 2", "Needle 1"])]
    {
        let found = scan(client, &history, direction, "contains=needle").await;
        assert_eq!(found.texts, expected);
        assert_eq!((found.examined, found.requests > 1), (30_002, true));
        let found = scan(client, &history, direction, "contains=nothing").await;
        assert_eq!((found.texts.len(), found.examined), (0, 30_002));
        let found = scan(client, &history, direction, "excludes=needle&excludes=9").await;
        let all_but_nines = (0..30_000).filter(|n: &u32| !n.to_string().contains('9')).count();
        assert_eq!((found.texts.len(), found.examined), (all_but_nines, 30_002));
    }
}

#[tokio::test]
async fn a_request_examines_a_bounded_number_of_messages() {
    let app = TestApp::start(&[]).await;
    find_in_a_long_stream(&app.client, &app.url).await;
}

#[tokio::test]
async fn a_database_can_be_searched_too() {
    let Some((_, database)) = blocking(|| empty_database("find")).await else { return };
    let site = built_site();
    let flags = ["--data", &database, "--read-rate=0", "--publish-rate=0"];
    let server = Server::start(site.path(), &flags);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    find_in_a_long_stream(&client, &server.url()).await;
}

#[tokio::test]
async fn a_request_examines_a_bounded_number_of_bytes() {
    let app = TestApp::start(&["--keep-bytes=64MiB"]).await;
    let long = "x".repeat(60_000);
    let texts = (0..400).map(|n| format!("{n} {long}"));
    app.publish_lines("long", lines(texts)).await;
    let history = format!("{}/streams/long/messages", app.url);
    let found = scan(&app.client, &history, "before", "contains=y").await;
    let at_least = 400 * 60_000 / MAX_EXAMINED_BYTES;
    assert_eq!((found.texts.len(), found.examined), (0, 400));
    assert!(found.requests >= at_least, "{}", found.requests);
    // What was found is bounded like a page of the history.
    let page: Value =
        app.get("/streams/long/messages?contains=x&limit=1000").await.json().await.expect("JSON");
    assert_eq!(page["messages"].as_array().expect("messages").len(), 5);
    let found = scan(&app.client, &history, "after", "contains=x").await;
    assert_eq!((found.texts.len(), found.examined), (400, 400));
}

/// A search counts for ten pages.
#[tokio::test]
async fn searches_are_limited_like_other_reads() {
    let app = TestApp::start(&["--read-rate=1"]).await;
    app.publish("news", "one").await;
    let first = app.get("/streams/news/messages?contains=one").await;
    assert_eq!(first.status(), StatusCode::OK);
    for path in ["/streams/news/messages?contains=one", "/streams/news?find=one"] {
        let refused = app.get_with(path, &[BROWSER]).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(refused.headers().contains_key("retry-after"), "{path}");
    }
}

#[tokio::test]
async fn the_page_of_what_was_found_works_without_scripts() {
    let app = TestApp::start(&[]).await;
    let many = (0..20_150).map(|n| format!("message {n}"));
    let texts = ["<b>Needle</b>".to_owned()].into_iter().chain(many);
    app.publish_lines("news", lines(texts)).await;
    let page = async |path: &str| {
        let response = app.get_with(path, &[BROWSER]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.expect("text")
    };
    let rows = |html: &str| html.matches(r#"<li class="message""#).count();

    let live = page("/streams/news").await;
    assert!(live.contains(r#"href="/streams/news?find=""#), "{live}");
    let asked = page("/streams/news?find=").await;
    assert!(asked.contains(r#"role="search""#) && rows(&asked) == 0, "{asked}");
    assert_eq!(page("/streams/news?find=+-+").await.matches("examined.").count(), 0);

    // The newest hits first, each with a link to its place; then the older ones.
    let hits = page("/streams/news?find=MESSAGE+-9&view=log").await;
    assert_eq!(rows(&hits), 100);
    assert!(hits.contains("100 found in the "), "{hits}");
    assert!(hits.contains(" newest messages examined."), "{hits}");
    assert!(hits.contains(r#"value="MESSAGE -9""#) && hits.contains(r#"name="view" value="log""#));
    let link = |html: &str| {
        let link = html.split(r#"" rel="next""#).next().and_then(|html| html.rsplit('"').next());
        link.expect("a link").replace("&amp;", "&")
    };
    let older = page(&link(&hits)).await;
    assert!(older.contains("100 found in the") && older.contains("older messages examined."));
    assert!(older.contains(r#"<html lang="en" data-view="log">"#), "{older}");

    // An empty part is not the end.
    let examined = |html: &str| {
        let number =
            html.split(r#"data-examined=""#).nth(1).and_then(|html| html.split('"').next());
        number.expect("a number").parse::<u64>().expect("a number")
    };
    let mut rest = page("/streams/news?find=needle").await;
    let mut sum = examined(&rest);
    assert!(sum <= MAX_EXAMINED && rows(&rest) == 0);
    assert!(rest.contains(&format!("None in the {sum} newest messages examined.")), "{rest}");
    while rows(&rest) == 0 {
        assert!(rest.contains("Go on with older messages"), "{rest}");
        rest = page(&link(&rest)).await;
        sum += examined(&rest);
    }
    assert_eq!((rows(&rest), sum), (1, 20_151));
    assert!(rest.contains("older messages examined. That is all there are."), "{rest}");
    assert!(rest.contains("&lt;b>Needle&lt;/b>"), "{rest}");
    let place = rest
        .split(r#"<li class="message"><a href=""#)
        .nth(1)
        .and_then(|html| html.split('"').next());
    assert!(page(place.expect("a link")).await.contains(r#"aria-current="true""#));
}

#[tokio::test]
async fn what_cannot_be_found_is_an_error_page() {
    let app =
        TestApp::start(&["--secret", "0123456789abcdef0123456789abcdef", "--public", "news"]).await;
    let long = format!("/streams/news?find={}", "x".repeat(513));
    let many = format!("/streams/news?find={}", "x+".repeat(17));
    for (path, status, text) in [
        (long.as_str(), StatusCode::BAD_REQUEST, "find may have at most 512 bytes."),
        (&many, StatusCode::BAD_REQUEST, "find may have at most 16 words."),
        ("/streams/news?find=a&before=x", StatusCode::BAD_REQUEST, "A cursor is an id"),
        ("/streams/news?find=a&at=1-2", StatusCode::BAD_REQUEST, "Use either at or find"),
        ("/streams/NEWS?find=a", StatusCode::BAD_REQUEST, "Use 1 to 64"),
        ("/streams/news?find=a", StatusCode::NOT_FOUND, "no such stream"),
        ("/streams/other?find=a", StatusCode::UNAUTHORIZED, "Sign in"),
        ("/streams/other/messages?contains=a", StatusCode::UNAUTHORIZED, "token"),
    ] {
        let response = app.get_with(path, &[BROWSER]).await;
        assert_eq!(response.status(), status, "{path}");
        let html = response.text().await.expect("text");
        assert!(html.to_lowercase().contains(&text.to_lowercase()), "{path}: {html}");
    }
}
