//! The metrics: counters count, gauges return to zero, and the exposition is valid `OpenMetrics`.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{TestApp, events, lines, next};

/// The value of each series in one scrape.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Scrapes once; panics if the exposition is invalid.
    async fn of(app: &TestApp) -> Self {
        let response = app.client.get(&app.metrics).send().await.expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        Self(parse(&response.text().await.expect("text")))
    }

    /// The sum of all series whose name and labels begin with `prefix`.
    fn get(&self, prefix: &str) -> f64 {
        let found: Vec<_> = self.0.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        assert!(!found.is_empty(), "there is no {prefix}");
        found.into_iter().map(|(_, value)| value).sum()
    }

    fn has(&self, series: &str, value: u32) -> bool {
        (self.get(series) - f64::from(value)).abs() < f64::EPSILON
    }

    /// Asserts that each series has its value.
    fn assert_values(&self, expected: &[(&str, u32)]) {
        for (series, value) in expected {
            assert!(self.has(series, *value), "{series} is {}, not {value}", self.get(series));
        }
    }
}

/// Scrapes until a series has this value.
async fn wait_for_value(app: &TestApp, series: &str, value: u32) {
    for _ in 0..3_000 {
        if Scrape::of(app).await.has(series, value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{series} remains {}", Scrape::of(app).await.get(series));
}

/// Parses an exposition in the `OpenMetrics` 1.0 text format; panics if it breaks a rule of the format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let (mut series, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut family = (String::new(), "");
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let (word, rest) = described.split_once(' ').expect("a word");
            let (name, value) = rest.split_once(' ').expect("a name");
            assert!(!value.is_empty(), "{line}");
            match word {
                "HELP" => family = (name.to_owned(), ""),
                "TYPE" => {
                    assert_eq!(name, family.0, "{line}");
                    assert!(["counter", "gauge", "histogram", "info"].contains(&value), "{line}");
                    family.1 = value;
                    assert_eq!(kinds.insert(name.to_owned(), value), None, "{name} is repeated");
                }
                "UNIT" => assert!(name == family.0 && name.ends_with(value), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').expect("a value");
        let name = labelled.split('{').next().expect("a name");
        let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line}"));
        let suffixes: &[&str] = match family.1 {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(suffixes.contains(&suffix), "{line} is not a {}", family.1);
        if let Some(labels) = labelled.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
            for label in labels.expect("labels").split("\",") {
                let (name, _) = label.split_once("=\"").expect("a label");
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value >= 0.0, "{line}");
        assert!(series.insert(labelled.to_owned(), value).is_none(), "{line} is repeated");
    }
    for (name, kind) in kinds {
        assert!(kind != "histogram" || is_cumulative(&series, &name), "{name}");
    }
    series
}

/// Whether the last buckets of the histograms of a family sum up to their counts.
fn is_cumulative(series: &BTreeMap<String, f64>, family: &str) -> bool {
    let sum = |suffix: &str| -> f64 {
        let found =
            series.iter().filter(|(name, _)| name.starts_with(&format!("{family}_{suffix}")));
        found.map(|(_, value)| value).sum()
    };
    let last = series.iter().filter(|(name, _)| {
        name.starts_with(&format!("{family}_bucket")) && name.contains("le=\"+Inf\"")
    });
    let last: f64 = last.map(|(_, value)| value).sum();
    (last - sum("count")).abs() < f64::EPSILON && sum("bucket") >= last
}

#[tokio::test]
async fn published_messages_are_counted() {
    let app = TestApp::start(&[]).await;
    let before = Scrape::of(&app).await;
    before.assert_values(&[
        ("tidings_streams", 0),
        ("tidings_stored_messages", 0),
        ("tidings_published_messages_total", 0),
    ]);
    app.publish("a", "one").await;
    app.publish_lines("b", lines((0..10).map(|n| n.to_string()))).await;
    for _ in 0..3 {
        let key = app.client.post(format!("{}/streams/a", app.url)).header("idempotency-key", "k");
        assert_eq!(key.body("two").send().await.expect("a response").status(), 201);
    }
    let form = app.client.post(format!("{}/api/publish", app.url));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let sent = form.body("stream=a&text=three").send().await.expect("a response");
    assert!(sent.status().is_success() || sent.status().is_redirection(), "{}", sent.status());
    app.end("b").await;

    let after = Scrape::of(&app).await;
    after.assert_values(&[
        ("tidings_published_messages_total", 13),
        ("tidings_idempotent_replays_total", 2),
        ("tidings_streams", 2),
        ("tidings_stored_messages", 13),
        ("tidings_commit_messages_sum", 13),
        ("tidings_store_trouble", 0),
        ("tidings_build_info{version=\"", 1),
    ]);
    assert!(after.get("tidings_store_bytes") >= before.get("tidings_store_bytes"));
    assert!(after.get("tidings_commit_duration_seconds_count") >= 5.0);
    assert!(after.get("process_start_time_seconds") > 1.7e9);

    app.delete("a").await;
    wait_for_value(&app, "tidings_streams", 1).await;
    wait_for_value(&app, "tidings_stored_messages", 10).await;
}

#[tokio::test]
async fn delivered_messages_are_counted_and_gauges_return_to_zero() {
    let app = TestApp::start(&["--counter-delay", "1h"]).await;
    let ids = [app.publish("news", "one").await, app.publish("news", "two").await];
    let mut early = app.watch("news", "earliest").await;
    let mut late = app.watch("news", &ids[0]).await;
    let mut counter = events(app.get("/stream").await);
    for reader in [&mut early, &mut late, &mut counter] {
        next(reader).await;
    }
    next(&mut early).await;
    let open = Scrape::of(&app).await;
    open.assert_values(&[
        ("tidings_watchers{kind=\"stored\"}", 2),
        ("tidings_watchers{kind=\"counter\"}", 1),
        ("tidings_watched_streams", 1),
        ("tidings_delivered_messages_total", 4),
        ("tidings_resumes_total", 1),
        ("tidings_resets_total", 0),
        ("tidings_slowest_reader_lag_messages", 0),
    ]);
    // More than four times `event: new_message`.
    assert!(open.get("tidings_delivered_bytes_total") > 72.0);

    drop((early, late, counter));
    wait_for_value(&app, "tidings_watchers", 0).await;
    wait_for_value(&app, "tidings_watched_streams", 0).await;
}

#[tokio::test]
async fn resets_are_counted_by_reason() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    let mut reader = app.watch("news", "1000000000000-7").await;
    let mut counter_reader = events(app.get_with("/stream", &[("last-event-id", "rubbish")]).await);
    for reader in [&mut reader, &mut counter_reader] {
        assert_eq!(next(reader).await.event, "reset");
    }
    next(&mut reader).await;
    app.delete("news").await;
    assert_eq!(next(&mut reader).await.event, "reset");
    let scrape = Scrape::of(&app).await;
    scrape.assert_values(&[
        ("tidings_resets_total{reason=\"unknown-cursor\"}", 2),
        ("tidings_resets_total{reason=\"deleted\"}", 1),
        ("tidings_resets_total{reason=\"trimmed\"}", 0),
        ("tidings_resumes_total", 2),
    ]);
}

#[tokio::test]
async fn requests_and_refusals_are_counted() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    app.end("news").await;
    assert_eq!(app.post("/streams/news", "too late").await.status(), 409);
    assert_eq!(app.post("/streams/Bad%20Name", "x").await.status(), 400);
    assert_eq!(app.get("/streams/news/messages?limit=0").await.status(), 400);
    assert_eq!(app.get("/nowhere").await.status(), 404);
    let page = [("accept", "text/html")];
    assert_eq!(app.get_with("/nowhere", &page).await.status(), 404);
    assert_eq!(app.get_with("/streams/Bad", &page).await.status(), 400);
    // An unknown method or path does not create a series.
    let unknown = "INVENTED".parse().expect("a method");
    assert_eq!(app.send(unknown, "/streams/news", "").await.status(), 405);

    let scrape = Scrape::of(&app).await;
    for (slug, value) in [
        ("stream-ended", 1),
        ("malformed-name", 2),
        ("malformed-query", 1),
        ("not-found", 2),
        ("method-not-allowed", 1),
        ("message-too-large", 0),
        ("connections", 0),
    ] {
        let series = format!("tidings_refusals_total{{reason=\"{slug}\"}}");
        scrape.assert_values(&[(&series, value)]);
    }
    for (route, method, class, value) in [
        ("/streams/{name}", "POST", "2xx", 1),
        ("/streams/{name}", "POST", "4xx", 2),
        ("/streams/{name}/end", "POST", "2xx", 1),
        ("/streams/{name}", "other", "4xx", 1),
        ("none", "GET", "4xx", 2),
    ] {
        let labels = format!("{{route=\"{route}\",method=\"{method}\",status=\"{class}\"}}");
        let series = format!("tidings_requests_total{labels}");
        scrape.assert_values(&[(&series, value)]);
    }
    let durations = "tidings_request_duration_seconds_count{route=\"/streams/{name}\"";
    assert!(scrape.get(durations) >= 4.0);
    for name in scrape.0.keys() {
        assert!(!name.contains("news") && !name.contains("INVENTED"), "{name}");
    }
}

/// The publisher decides how long an upload takes, so it does not count as latency of the server.
#[tokio::test]
async fn uploads_of_lines_are_not_in_the_duration_histogram() {
    let app = TestApp::start(&[]).await;
    app.publish_lines("log", lines((0..3).map(|n| n.to_string()))).await;
    let scrape = Scrape::of(&app).await;
    assert!(scrape.get("tidings_requests_total{route=\"/streams/{name}\",method=\"POST\"") > 0.0);
    let durations = "tidings_request_duration_seconds_count{route=\"/streams/{name}\"";
    assert!(!scrape.0.keys().any(|name| name.starts_with(durations)));
}

#[tokio::test]
async fn the_lag_of_a_stalled_reader_is_reported() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    let path = "/streams/news/events?last_event_id=latest";
    let stalled = app.get(path).await;
    wait_for_value(&app, "tidings_watchers", 1).await;
    Scrape::of(&app).await.assert_values(&[("tidings_slowest_reader_lag_messages", 0)]);
    // More than all buffers on the way hold.
    let text = "x".repeat(16 * 1024);
    for _ in 0..20 {
        app.publish_lines("news", lines((0..50).map(|_| text.clone()))).await;
    }
    let mut lag = 0.0;
    for _ in 0..3_000 {
        lag = Scrape::of(&app).await.get("tidings_slowest_reader_lag_messages");
        if lag > 100.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(lag > 100.0 && lag <= 1_000.0, "{lag}");

    // When it reads, its lag returns to zero.
    let mut reader = events(stalled);
    for _ in 0..1_000 {
        next(&mut reader).await;
    }
    wait_for_value(&app, "tidings_slowest_reader_lag_messages", 0).await;
    drop(reader);
    wait_for_value(&app, "tidings_watchers", 0).await;
}

/// An upload that waits for its rate limit reserves little memory.
#[tokio::test]
async fn lines_that_wait_for_the_rate_limit_reserve_only_their_size() {
    const BODIES: &str = "tidings_memory_bytes{part=\"bodies\"}";
    let app = TestApp::start(&["--publish-rate", "10"]).await;
    let upload = |stream: &str, key: Option<&str>| {
        let text = lines((0..1_000).map(|n| format!("{n:.>1000}")));
        let post = app.client.post(format!("{}/streams/{stream}?lines", app.url)).body(text);
        let post = key.into_iter().fold(post, |post, key| post.header("idempotency-key", key));
        tokio::spawn(post.send())
    };
    let without_key = upload("a", None);
    while app.log("a").await.len() < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wait_for_value(&app, BODIES, 0).await;
    without_key.abort();
    let with_key = upload("b", Some("key"));
    for attempt in 0.. {
        let bytes = Scrape::of(&app).await.get(BODIES);
        // Its text, and the overhead of a request.
        if (1_000_000.0..1_100_000.0).contains(&bytes) {
            break;
        }
        assert!(attempt < 3_000, "{bytes} bytes are reserved");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    with_key.abort();
    wait_for_value(&app, BODIES, 0).await;
}

#[tokio::test]
async fn memory_in_use_is_reported_and_returns_to_zero() {
    let app = TestApp::start(&[]).await;
    for _ in 0..4 {
        app.publish("news", &"x".repeat(60 * 1024)).await;
    }
    let [bodies, answers, tails, streams] = ["bodies", "answers", "tails", "streams"]
        .map(|part| format!("tidings_memory_bytes{{part=\"{part}\"}}"));
    let none = [(&*bodies, 0), (&*answers, 0), (&*tails, 0), (&*streams, 0)];
    Scrape::of(&app).await.assert_values(&none);

    // An unfinished body, a response that is not read, and a watched stream.
    let (sender, body) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    let post = app.client.post(format!("{}/streams/news", app.url));
    let upload = tokio::spawn(post.body(reqwest::Body::wrap_stream(body)).send());
    sender.unbounded_send(Ok(vec![b'x'; 1_000])).expect("a reader");
    let address = app.address().parse().expect("an address");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("a socket");
    let mut unread = socket.connect(address).await.expect("a connection");
    let request = b"GET /streams/news/messages HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    tokio::io::AsyncWriteExt::write_all(&mut unread, &request).await.expect("a server");
    let watching = app.watch("news", "latest").await;
    app.publish("news", "one").await;
    for _ in 0..3_000 {
        let scrape = Scrape::of(&app).await;
        // The maximum size of a body is reserved at once.
        if scrape.get(&bodies) >= 65_536.0 && scrape.get(&answers) > 0.0 && scrape.get(&tails) > 0.0
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let scrape = Scrape::of(&app).await;
    for part in [&bodies, &answers, &tails] {
        assert!(scrape.get(part) > 0.0, "{part}");
    }
    scrape.assert_values(&[
        ("tidings_memory_waits_total{part=\"bodies\"}", 0),
        ("tidings_memory_refusals_total{part=\"answers\"}", 0),
    ]);

    drop((sender, watching, unread));
    upload.await.expect("no panic").expect("a response");
    for (part, _) in none {
        wait_for_value(&app, part, 0).await;
    }
}

#[tokio::test]
async fn the_metrics_port_serves_only_metrics_and_the_main_port_none() {
    let app = TestApp::start(&[]).await;
    let base = app.metrics.strip_suffix("/metrics").expect("a path");
    for path in ["/", "/streams", "/health/live"] {
        let response = app.client.get(format!("{base}{path}")).send().await.expect("a response");
        assert_eq!(response.status(), 404, "{path}");
    }
    assert_eq!(app.client.post(&app.metrics).send().await.expect("a response").status(), 405);
    assert_eq!(app.get("/metrics").await.status(), 404);
}
