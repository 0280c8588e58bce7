//! The counter stream: its events on the wire, pings, slow readers, shutdown, and CORS.

use std::time::Duration;

use futures::{StreamExt as _, future::join_all};
use reqwest::{Method, StatusCode};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use crate::support::{NOW, TestApp, all_events, events, sequences};

/// The wire contract, byte for byte.
#[tokio::test(start_paused = true)]
async fn a_run_has_the_documented_bytes() {
    let app = TestApp::start(&["--counter-count", "3"]).await;
    let response = app.get("/stream").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let expected = format!(
        "retry: 15000\n\
         event: new_message\nid: {NOW}-1\ndata: Counter value 1\n\n\
         event: new_message\nid: {}-2\ndata: Counter value 2\n\n\
         event: new_message\nid: {}-3\ndata: Counter value 3\n\n\
         event: end_event\nid: {}-4\ndata: End of the stream\n\n",
        NOW + 1_000,
        NOW + 2_000,
        NOW + 3_000,
    );
    assert_eq!(response.text().await.expect("text"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_sends_twenty_values_one_per_second_and_ends() {
    let app = TestApp::start(&[]).await;
    let begin = Instant::now();
    let mut stream = events(app.get("/stream").await);
    for n in 1..=20_u64 {
        let event = stream.next().await.expect("a value").expect("valid");
        assert_eq!(
            (event.event.as_str(), event.data, event.id),
            ("new_message", format!("Counter value {n}"), format!("{}-{n}", NOW + (n - 1) * 1000))
        );
        assert_eq!(begin.elapsed().as_secs(), n - 1, "value {n} is due then");
    }
    let end = stream.next().await.expect("the end").expect("valid");
    assert_eq!(
        (end.event.as_str(), end.data.as_str(), end.id),
        ("end_event", "End of the stream", format!("{}-21", NOW + 20_000))
    );
    assert!(stream.next().await.is_none(), "the server closes the response");
}

#[tokio::test(start_paused = true)]
async fn concurrent_readers_each_get_a_run_of_their_own() {
    let app = TestApp::start(&[]).await;
    let first = async { all_events(app.get("/stream").await).await };
    let second = async {
        tokio::time::sleep(Duration::from_millis(7_500)).await;
        all_events(app.get("/stream").await).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(sequences(&first), (1..=21).collect::<Vec<_>>());
    assert_eq!(sequences(&second), (1..=21).collect::<Vec<_>>());
    assert_ne!(first[0].id, second[0].id, "each has a run of its own");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_complete_and_in_order() {
    let app = TestApp::start(&["--counter-delay", "0ms", "--counter-count", "20000"]).await;
    let events = all_events(app.get("/stream").await).await;
    assert_eq!(sequences(&events), (1..=20_001).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn pings_without_id_are_sent_during_silence() {
    let app = TestApp::start(&["--counter-delay", "40s", "--counter-count", "2"]).await;
    let text = app.get("/stream").await.text().await.expect("text");
    let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, ["new_message", "ping", "ping", "new_message", "ping", "ping", "end_event"]);
    assert!(text.contains("event: ping\ndata: {}\n\n"), "{text}");
}

#[tokio::test]
async fn event_streams_close_when_their_readers_disconnect() {
    let app = TestApp::start(&["--counter-delay", "50ms", "--counter-count", "1000000"]).await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        let mut stream = events(app.get("/stream").await);
        stream.next().await.expect("a value").expect("valid");
        readers.push(stream);
    }
    assert_eq!(app.open_streams().await, 50);
    drop(readers);
    app.wait_until_no_stream_is_open().await;
}

/// Design, *Slow reader*: one that takes no byte for a minute is disconnected.
#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_disconnected_after_a_minute() {
    let app = TestApp::start(MORE_THAN_THE_BUFFERS_HOLD).await;
    let _stalled = stalled_reader(&app).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(app.open_streams().await, 1);
    tokio::time::sleep(Duration::from_secs(90)).await;
    app.wait_until_no_stream_is_open().await;
}

const MORE_THAN_THE_BUFFERS_HOLD: &[&str] =
    &["--counter-delay", "0ms", "--counter-count", "1000000"];

/// A reader that requests the stream and reads nothing.
async fn stalled_reader(app: &TestApp) -> TcpStream {
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    connection
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_does_not_delay_the_shutdown_beyond_ten_seconds() {
    let app = TestApp::start(MORE_THAN_THE_BUFFERS_HOLD).await;
    let _stalled = stalled_reader(&app).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let begin = Instant::now();
    app.shutdown.begin();
    app.server.await.expect("no panic").expect("no failure");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_stream_at_a_frame_boundary_with_a_retry() {
    let app = TestApp::start(&[]).await;
    let texts = join_all((0..10).map(|_| async { app.get("/stream").await.text().await }));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        app.shutdown.begin();
    };
    let (texts, ()) = tokio::join!(texts, stop);
    let mut retries = Vec::new();
    for text in texts {
        let text = text.expect("a response that ends well");
        assert!(text.ends_with("\n\n"), "{text}");
        assert!(text.contains("Counter value 3") && !text.contains("Counter value 4"), "{text}");
        let (_, retry) = text.rsplit_once("retry: ").expect("a retry field");
        let retry = retry.strip_suffix("\nevent: ping\ndata: {}\n\n").expect("a ping with it");
        retries.push(retry.parse::<u64>().expect("a number"));
    }
    assert!(retries.iter().all(|retry| (500..=15_000).contains(retry)), "{retries:?}");
    retries.dedup();
    assert!(retries.len() > 1, "readers do not all reconnect at the same time");
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_is_not_ready_for_a_second_before_it_closes() {
    let app = TestApp::start(&[]).await;
    assert_eq!(app.get("/health/ready").await.status(), StatusCode::OK);
    app.shutdown.begin();
    let response = app.get("/health/ready").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    let problem: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(problem["type"], "/problems#draining");
    let late = app.get("/stream").await.text().await.expect("text");
    assert!(late.contains("retry: ") && !late.contains("event: new_message"), "{late}");
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test(start_paused = true)]
async fn six_connections_of_one_client_are_served() {
    let app = TestApp::start(&[]).await;
    let runs = join_all((0..6).map(|_| async { all_events(app.get("/stream").await).await })).await;
    assert!(runs.iter().all(|run| run.len() == 21));
}

#[tokio::test]
async fn cors_allows_only_configured_origins() {
    const FIRST: &str = "https://us.example";
    const SECOND: &str = "https://them.example:8443";
    let cases: [(&[&str], &str, Option<&str>); 5] = [
        (&[], SECOND, None),
        (&["--allow-origin", SECOND], SECOND, Some(SECOND)),
        (&["--allow-origin", FIRST, "--allow-origin", SECOND], SECOND, Some(SECOND)),
        (&["--allow-origin", FIRST], SECOND, None),
        (&["--allow-origin", "*"], SECOND, Some("*")),
    ];
    for (arguments, origin, expected) in cases {
        let app = TestApp::start(arguments).await;
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let preflight = headers.iter().fold(
            app.client.request(Method::OPTIONS, format!("{}/stream", app.url)),
            |request, (name, value)| request.header(*name, *value),
        );
        let watching = app.get_with("/stream", &headers[..1]).await;
        let preflight = preflight.send().await.expect("a response");
        for response in [&watching, &preflight] {
            let allowed = response.headers().get("access-control-allow-origin");
            let allowed = allowed.map(|origin| origin.to_str().expect("text"));
            assert_eq!(allowed, expected, "{arguments:?}");
        }
        let page = app.get_with("/", &headers[..1]).await;
        assert!(
            !page.headers().contains_key("access-control-allow-origin"),
            "pages have no CORS headers"
        );
    }
}
