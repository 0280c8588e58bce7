//! The counter as its readers get it.

use std::time::Duration;

use futures::{StreamExt as _, future::join_all};
use reqwest::{Method, StatusCode};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use crate::support::{NOW, TestApp, all_events, events, sequences};

/// The wire contract, byte for byte.
#[tokio::test(start_paused = true)]
async fn a_whole_run_on_the_wire() {
    let app = TestApp::start(&["--counter-count", "3"]).await;
    let response = app.get("/stream").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let expected = format!(
        "retry: 15000\n\
         event: new_message\nid: {NOW}-1\ndata: Counter value 1\n\n\
         event: new_message\nid: {NOW}-2\ndata: Counter value 2\n\n\
         event: new_message\nid: {NOW}-3\ndata: Counter value 3\n\n\
         event: end_event\nid: {NOW}-4\ndata: End of the stream\n\n"
    );
    assert_eq!(response.text().await.expect("text"), expected);
}

#[tokio::test(start_paused = true)]
async fn twenty_values_one_a_second_and_the_end() {
    let app = TestApp::start(&[]).await;
    let begin = Instant::now();
    let mut stream = events(app.get("/stream").await);
    for n in 1..=20_u64 {
        let event = stream.next().await.expect("a value").expect("valid");
        assert_eq!(
            (event.event.as_str(), event.data, event.id),
            ("new_message", format!("Counter value {n}"), format!("{NOW}-{n}"))
        );
        assert_eq!(begin.elapsed().as_secs(), n - 1, "value {n} is due then");
    }
    let end = stream.next().await.expect("the end").expect("valid");
    assert_eq!(
        (end.event.as_str(), end.data.as_str(), end.id),
        ("end_event", "End of the stream", format!("{NOW}-21"))
    );
    assert!(stream.next().await.is_none(), "the server closes the response");
}

#[tokio::test(start_paused = true)]
async fn readers_at_once_each_see_a_whole_run() {
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
async fn a_burst_is_whole_and_in_order() {
    let app = TestApp::start(&["--counter-delay", "0ms", "--counter-count", "20000"]).await;
    let events = all_events(app.get("/stream").await).await;
    assert_eq!(sequences(&events), (1..=20_001).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_pings_without_id() {
    let app = TestApp::start(&["--counter-delay", "40s", "--counter-count", "2"]).await;
    let text = app.get("/stream").await.text().await.expect("text");
    let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, ["new_message", "ping", "ping", "new_message", "ping", "ping", "end_event"]);
    assert!(text.contains("event: ping\ndata: {}\n\n"), "{text}");
}

#[tokio::test]
async fn a_reader_that_has_gone_costs_nothing() {
    let app = TestApp::start(&["--counter-delay", "50ms", "--counter-count", "1000000"]).await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        let mut stream = events(app.get("/stream").await);
        stream.next().await.expect("a value").expect("valid");
        readers.push(stream);
    }
    assert_eq!(app.open_streams().await, 50);
    drop(readers);
    app.until_none_is_open().await;
}

/// Design, *Slow reader*: one that takes no byte for a minute is disconnected.
#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_let_go() {
    let app = TestApp::start(MORE_THAN_BUFFERS_HOLD).await;
    let _stalled = stalled_reader(&app).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(app.open_streams().await, 1);
    tokio::time::sleep(Duration::from_secs(90)).await;
    app.until_none_is_open().await;
}

const MORE_THAN_BUFFERS_HOLD: &[&str] = &["--counter-delay", "0ms", "--counter-count", "1000000"];

/// A reader that asks for the stream and takes nothing of it.
async fn stalled_reader(app: &TestApp) -> TcpStream {
    let address = app.url.strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    connection
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_does_not_keep_the_server() {
    let app = TestApp::start(MORE_THAN_BUFFERS_HOLD).await;
    let _stalled = stalled_reader(&app).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let begin = Instant::now();
    app.shutdown.begin();
    app.server.await.expect("no panic").expect("no failure");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_stream_at_a_frame_boundary() {
    let app = TestApp::start(&[]).await;
    let texts = join_all((0..10).map(|_| async { app.get("/stream").await.text().await }));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        app.shutdown.begin();
    };
    let (texts, ()) = tokio::join!(texts, stop);
    let mut pauses = Vec::new();
    for text in texts {
        let text = text.expect("a response that ends well");
        assert!(text.ends_with("\n\n"), "{text}");
        assert!(text.contains("Counter value 3") && !text.contains("Counter value 4"), "{text}");
        let (_, pause) = text.rsplit_once("retry: ").expect("a pause");
        let pause = pause.strip_suffix("\nevent: ping\ndata: {}\n\n").expect("a ping with it");
        pauses.push(pause.parse::<u64>().expect("a number"));
    }
    assert!(pauses.iter().all(|pause| (500..=15_000).contains(pause)), "{pauses:?}");
    pauses.dedup();
    assert!(pauses.len() > 1, "not all come back at the same moment");
    app.server.await.expect("no panic").expect("no failure");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_says_for_a_second_that_it_is_not_ready() {
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
async fn a_full_connection_pool_of_a_browser_is_served() {
    let app = TestApp::start(&[]).await;
    let runs = join_all((0..6).map(|_| async { all_events(app.get("/stream").await).await })).await;
    assert!(runs.iter().all(|run| run.len() == 21));
}

#[tokio::test]
async fn pages_of_other_origins_may_listen_only_if_allowed() {
    const US: &str = "https://us.example";
    const THEM: &str = "https://them.example:8443";
    let cases: [(&[&str], &str, Option<&str>); 5] = [
        (&[], THEM, None),
        (&["--allow-origin", THEM], THEM, Some(THEM)),
        (&["--allow-origin", US, "--allow-origin", THEM], THEM, Some(THEM)),
        (&["--allow-origin", US], THEM, None),
        (&["--allow-origin", "*"], THEM, Some("*")),
    ];
    for (arguments, origin, expected) in cases {
        let app = TestApp::start(arguments).await;
        let asks = [("origin", origin), ("access-control-request-method", "GET")];
        let preflight = asks.iter().fold(
            app.client.request(Method::OPTIONS, format!("{}/stream", app.url)),
            |request, (name, value)| request.header(*name, *value),
        );
        let listening = app.get_with("/stream", &asks[..1]).await;
        let asking = preflight.send().await.expect("an answer");
        for response in [&listening, &asking] {
            let allowed = response.headers().get("access-control-allow-origin");
            let allowed = allowed.map(|origin| origin.to_str().expect("text"));
            assert_eq!(allowed, expected, "{arguments:?}");
        }
        let page = app.get_with("/", &asks[..1]).await;
        assert!(!page.headers().contains_key("access-control-allow-origin"), "pages are ours");
    }
}
