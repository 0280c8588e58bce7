use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::{sync::mpsc, time::advance};

use super::*;
use crate::server::{
    guard::ConcurrencyLimit, log::FreshnessSender, sse::subscription::PING_INTERVAL,
};

const RETRY: &str = "retry: 15000\n";
const FRESH: &str = "event: ping\ndata: {}\n\n";
const STALE: &str = "event: ping\ndata: {\"stale\":true}\n\n";

/// An event stream: the source of its frames, and its body.
struct Reading {
    frames: mpsc::UnboundedSender<&'static str>,
    body: axum::body::BodyDataStream,
}

impl Reading {
    fn start(freshness: Freshness, first: &str) -> Self {
        let (metrics, shutdown) = (Metrics::new(|_| {}), Shutdown::default());
        let events = EventStreams { metrics, shutdown, retry: Duration::from_secs(15) };
        let permit = ConcurrencyLimit::new(1, 1).acquire(None).expect("a permit");
        let grant = WatchGrant { permit, expires_at: None };
        let first = Batch { frames: first.to_owned(), ..Batch::default() };
        let (frames, received) = mpsc::unbounded_channel();
        let following = stream::unfold(received, |mut received| async move {
            let frames: &str = received.recv().await?;
            Some((Batch { frames: frames.into(), ..Batch::default() }, received))
        });
        let kind = StreamKind::Stored;
        let response = events.respond(Reader::Program, kind, freshness, grant, first, following);
        Self { frames, body: response.into_body().into_data_stream() }
    }

    /// What is sent without waiting.
    fn sent(&mut self) -> String {
        let mut text = String::new();
        while let Some(chunk) = self.body.next().now_or_never().flatten() {
            text += str::from_utf8(&chunk.expect("a chunk")).expect("UTF-8");
        }
        text
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_told_at_once_when_the_store_is_lost_and_found() {
    let store = FreshnessSender::default();
    let mut reading = Reading::start(store.subscribe(), "");
    assert_eq!(reading.sent(), format!("{RETRY}{FRESH}"));
    store.set_stale(true);
    assert_eq!(reading.sent(), STALE);
    store.set_stale(true);
    assert_eq!(reading.sent(), "", "told once");

    advance(PING_INTERVAL).await;
    assert_eq!(reading.sent(), STALE, "after 15 s of silence");
    reading.frames.send("frames\n").expect("open");
    assert_eq!(reading.sent(), "frames\n");
    advance(PING_INTERVAL).await;
    assert_eq!(reading.sent(), STALE, "after 15 s of silence");

    store.set_stale(false);
    assert_eq!(reading.sent(), FRESH);
    advance(PING_INTERVAL).await;
    assert_eq!(reading.sent(), FRESH);
    store.set_stale(true);
    store.set_stale(false);
    assert_eq!(reading.sent(), "");
    drop(store);
    assert_eq!(reading.sent(), "");
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_reader_is_woken_when_the_store_is_lost() {
    let store = FreshnessSender::default();
    let mut reading = Reading::start(store.subscribe(), "");
    reading.sent();
    let lost_at = Instant::now();
    let next = tokio::spawn(async move { reading.body.next().await });
    tokio::task::yield_now().await;
    store.set_stale(true);
    let ping = next.await.expect("no panic").expect("open").expect("a ping");
    assert_eq!((&*ping, lost_at.elapsed()), (STALE.as_bytes(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_begins_while_the_store_is_lost_is_told_at_first() {
    let store = FreshnessSender::default();
    store.set_stale(true);
    assert_eq!(Reading::start(store.subscribe(), "").sent(), format!("{RETRY}{STALE}"));
    let mut resumed = Reading::start(store.subscribe(), "frames\n");
    assert_eq!(resumed.sent(), format!("{RETRY}frames\n{STALE}"));
    store.set_stale(false);
    assert_eq!(resumed.sent(), FRESH);
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_ready_are_sent_before_the_news_about_the_store() {
    let store = FreshnessSender::default();
    let mut reading = Reading::start(store.subscribe(), "");
    reading.sent();
    store.set_stale(true);
    reading.frames.send("frames\n").expect("open");
    assert_eq!(reading.sent(), format!("frames\n{STALE}"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_never_loses_its_store_is_not_polled() {
    assert!(Freshness::always().poller().is_none());
    let mut reading = Reading::start(Freshness::always(), "frames\n");
    assert_eq!(reading.sent(), format!("{RETRY}frames\n"));
    advance(PING_INTERVAL).await;
    assert_eq!(reading.sent(), FRESH);
}
