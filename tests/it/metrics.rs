//! The metrics: each moves as it should, gauges come back to nothing, and Prometheus can read them.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{TestApp, events, lines, next};

/// What a server says of itself: the value of each series.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks once. What is not an exposition that Prometheus takes fails.
    async fn of(app: &TestApp) -> Self {
        let answer = app.client.get(&app.metrics).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.headers()["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        Self(parse(&answer.text().await.expect("text")))
    }

    /// The sum of all series whose name and labels begin so.
    fn get(&self, series: &str) -> f64 {
        let found: Vec<_> = self.0.iter().filter(|(name, _)| name.starts_with(series)).collect();
        assert!(!found.is_empty(), "there is no {series}");
        found.into_iter().map(|(_, value)| value).sum()
    }

    fn has(&self, series: &str, value: u32) -> bool {
        (self.get(series) - f64::from(value)).abs() < f64::EPSILON
    }

    /// Each series has its value.
    fn says(&self, expected: &[(&str, u32)]) {
        for (series, value) in expected {
            assert!(self.has(series, *value), "{series} is {} and not {value}", self.get(series));
        }
    }
}

/// Asks until a series has this value.
async fn until(app: &TestApp, series: &str, value: u32) {
    for _ in 0..3_000 {
        if Scrape::of(app).await.has(series, value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{series} stays {}", Scrape::of(app).await.get(series));
}

/// The series of an exposition in the text format of `OpenMetrics` 1.0, whose rules it has to follow.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let (mut series, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut family = (String::new(), "");
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let (word, rest) = described.split_once(' ').expect("a word");
            let (name, said) = rest.split_once(' ').expect("a name");
            assert!(!said.is_empty(), "{line}");
            match word {
                "HELP" => family = (name.to_owned(), ""),
                "TYPE" => {
                    assert_eq!(name, family.0, "{line}");
                    assert!(["counter", "gauge", "histogram", "info"].contains(&said), "{line}");
                    family.1 = said;
                    assert_eq!(kinds.insert(name.to_owned(), said), None, "{name} comes twice");
                }
                "UNIT" => assert!(name == family.0 && name.ends_with(said), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').expect("a value");
        let name = labelled.split('{').next().expect("a name");
        let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line}"));
        let fits: &[&str] = match family.1 {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(fits.contains(&suffix), "{line} is no {}", family.1);
        if let Some(labels) = labelled.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
            for label in labels.expect("labels").split("\",") {
                let (name, _) = label.split_once("=\"").expect("a label");
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value >= 0.0, "{line}");
        assert!(series.insert(labelled.to_owned(), value).is_none(), "{line} comes twice");
    }
    for (name, kind) in kinds {
        assert!(kind != "histogram" || is_cumulative(&series, &name), "{name}");
    }
    series
}

/// Whether the buckets of each histogram of a family rise, to the number of all.
fn is_cumulative(series: &BTreeMap<String, f64>, family: &str) -> bool {
    let sum = |ending: &str| -> f64 {
        let of = series.iter().filter(|(name, _)| name.starts_with(&format!("{family}_{ending}")));
        of.map(|(_, value)| value).sum()
    };
    let all = series.iter().filter(|(name, _)| {
        name.starts_with(&format!("{family}_bucket")) && name.contains("le=\"+Inf\"")
    });
    let all: f64 = all.map(|(_, value)| value).sum();
    (all - sum("count")).abs() < f64::EPSILON && sum("bucket") >= all
}

#[tokio::test]
async fn what_is_published_is_counted() {
    let app = TestApp::start(&[]).await;
    let before = Scrape::of(&app).await;
    before.says(&[
        ("tidings_streams", 0),
        ("tidings_stored_messages", 0),
        ("tidings_published_messages_total", 0),
    ]);
    app.publish("a", "one").await;
    app.publish_lines("b", lines((0..10).map(|n| n.to_string()))).await;
    for _ in 0..3 {
        let key = app.client.post(format!("{}/streams/a", app.url)).header("idempotency-key", "k");
        assert_eq!(key.body("two").send().await.expect("an answer").status(), 201);
    }
    let form = app.client.post(format!("{}/api/publish", app.url));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let sent = form.body("stream=a&text=three").send().await.expect("an answer");
    assert!(sent.status().is_success() || sent.status().is_redirection(), "{}", sent.status());
    app.end("b").await;

    let after = Scrape::of(&app).await;
    after.says(&[
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
    until(&app, "tidings_streams", 1).await;
    until(&app, "tidings_stored_messages", 10).await;
}

#[tokio::test]
async fn what_is_read_is_counted_and_gauges_come_back_to_nothing() {
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
    open.says(&[
        ("tidings_watchers{kind=\"stored\"}", 2),
        ("tidings_watchers{kind=\"counter\"}", 1),
        ("tidings_watched_streams", 1),
        ("tidings_delivered_messages_total", 4),
        ("tidings_resumes_total", 1),
        ("tidings_resets_total", 0),
        ("tidings_slowest_reader_lag_messages", 0),
    ]);
    // Four times `event: new_message`, and more.
    assert!(open.get("tidings_delivered_bytes_total") > 72.0);

    drop((early, late, counter));
    until(&app, "tidings_watchers", 0).await;
    until(&app, "tidings_watched_streams", 0).await;
}

#[tokio::test]
async fn resets_are_counted_by_their_reason() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    let mut lost = app.watch("news", "1000000000000-7").await;
    let mut lost_run = events(app.get_with("/stream", &[("last-event-id", "rubbish")]).await);
    for reader in [&mut lost, &mut lost_run] {
        assert_eq!(next(reader).await.event, "reset");
    }
    next(&mut lost).await;
    app.delete("news").await;
    assert_eq!(next(&mut lost).await.event, "reset");
    let scrape = Scrape::of(&app).await;
    scrape.says(&[
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
    // Whoever makes up methods and paths makes no series.
    let strange = "INVENTED".parse().expect("a method");
    assert_eq!(app.send(strange, "/streams/news", "").await.status(), 405);

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
        scrape.says(&[(&series, value)]);
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
        scrape.says(&[(&series, value)]);
    }
    let durations = "tidings_request_duration_seconds_count{route=\"/streams/{name}\"";
    assert!(scrape.get(durations) >= 4.0);
    for name in scrape.0.keys() {
        assert!(!name.contains("news") && !name.contains("INVENTED"), "{name}");
    }
}

/// An upload takes as long as its publisher pleases: it says nothing of the server.
#[tokio::test]
async fn uploads_of_lines_are_no_latency() {
    let app = TestApp::start(&[]).await;
    app.publish_lines("log", lines((0..3).map(|n| n.to_string()))).await;
    let scrape = Scrape::of(&app).await;
    assert!(scrape.get("tidings_requests_total{route=\"/streams/{name}\",method=\"POST\"") > 0.0);
    let durations = "tidings_request_duration_seconds_count{route=\"/streams/{name}\"";
    assert!(!scrape.0.keys().any(|name| name.starts_with(durations)));
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_seen_to_be_behind() {
    let app = TestApp::start(&[]).await;
    app.publish("news", "one").await;
    let path = "/streams/news/events?last_event_id=latest";
    let stalled = app.get(path).await;
    until(&app, "tidings_watchers", 1).await;
    Scrape::of(&app).await.says(&[("tidings_slowest_reader_lag_messages", 0)]);
    // More than the buffers on the way hold.
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

    // Once it reads, it comes to the head; and when it goes, nobody is behind.
    let mut reader = events(stalled);
    for _ in 0..1_000 {
        next(&mut reader).await;
    }
    until(&app, "tidings_slowest_reader_lag_messages", 0).await;
    drop(reader);
    until(&app, "tidings_watchers", 0).await;
}

/// A publisher that is held back holds next to nothing meanwhile.
#[tokio::test]
async fn lines_that_wait_for_their_rate_reserve_no_more_than_they_are() {
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
    until(&app, BODIES, 0).await;
    without_key.abort();
    let with_key = upload("b", Some("key"));
    for attempt in 0.. {
        let bytes = Scrape::of(&app).await.get(BODIES);
        // Its text, and what a request takes beside it.
        if (1_000_000.0..1_100_000.0).contains(&bytes) {
            break;
        }
        assert!(attempt < 3_000, "{bytes} bytes are reserved");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    with_key.abort();
    until(&app, BODIES, 0).await;
}

#[tokio::test]
async fn memory_in_use_is_seen_and_comes_back_to_nothing() {
    let app = TestApp::start(&[]).await;
    for _ in 0..4 {
        app.publish("news", &"x".repeat(60 * 1024)).await;
    }
    let [bodies, answers, tails, streams] = ["bodies", "answers", "tails", "streams"]
        .map(|part| format!("tidings_memory_bytes{{part=\"{part}\"}}"));
    let none = [(&*bodies, 0), (&*answers, 0), (&*tails, 0), (&*streams, 0)];
    Scrape::of(&app).await.says(&none);

    // A body that has not come to its end, an answer that is not read, and a stream that is watched.
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
        // What one may take is reserved as a whole.
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
    scrape.says(&[
        ("tidings_memory_waits_total{part=\"bodies\"}", 0),
        ("tidings_memory_refusals_total{part=\"answers\"}", 0),
    ]);

    drop((sender, watching, unread));
    upload.await.expect("no panic").expect("an answer");
    for (part, _) in none {
        until(&app, part, 0).await;
    }
}

#[tokio::test]
async fn there_is_nothing_else_on_that_port_and_no_metrics_on_the_other() {
    let app = TestApp::start(&[]).await;
    let base = app.metrics.strip_suffix("/metrics").expect("a path");
    for path in ["/", "/streams", "/health/live"] {
        let answer = app.client.get(format!("{base}{path}")).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
    }
    assert_eq!(app.client.post(&app.metrics).send().await.expect("an answer").status(), 405);
    assert_eq!(app.get("/metrics").await.status(), 404);
}
