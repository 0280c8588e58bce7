//! The transition from history to live messages: readers that connect while messages are published.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::support::{NOW, TestApp, lines, seeded_rng};

const READERS: usize = 250;
const PUBLISHERS: usize = 4;
/// The number of messages published before the first reader connects: many pages of the log.
const HISTORY: usize = 4_000;
const RETRY: &str = "retry: 15000\n";

/// How a reader sends its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CursorSource {
    Header,
    Query,
}

/// The cursor of a reader; `Nothing` sends none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cursor {
    Nothing,
    Earliest,
    Latest,
    /// After the message with this id.
    After(String),
}

/// The state that publishers and readers share.
#[derive(Clone)]
struct Shared {
    client: Client,
    url: String,
    /// The acknowledged ids.
    ids: Arc<Mutex<Vec<String>>>,
    /// How many readers have not connected yet.
    missing_readers: Arc<AtomicUsize>,
}

impl Shared {
    /// Publishes one message after another, without a pause, until every reader has connected.
    async fn publish(self, name: usize) {
        for n in 0.. {
            if self.missing_readers.load(Ordering::Relaxed) == 0 {
                return;
            }
            let message = self.client.post(&self.url).body(format!("{name}/{n}"));
            let accepted: Value =
                message.send().await.expect("a response").json().await.expect("JSON");
            let id = accepted["id"].as_str().expect("an id").to_owned();
            self.ids.lock().expect("no panic").push(id);
        }
    }

    /// Publishes lines with one long upload until every reader has connected.
    async fn publish_lines(self) {
        let pieces = futures::stream::unfold((self.clone(), 0), |(shared, n)| async move {
            if shared.missing_readers.load(Ordering::Relaxed) == 0 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let lines = lines((0..10).map(|line| format!("lines/{n}/{line}")));
            Some((Ok::<_, std::io::Error>(lines), (shared, n + 1)))
        });
        let upload = self.client.post(format!("{}?lines", self.url));
        let response = upload.body(reqwest::Body::wrap_stream(pieces)).send().await;
        assert_eq!(response.expect("a response").status(), 200);
    }

    /// Connects a reader; returns the newest acknowledged id before that, and the response.
    async fn connect(
        &self,
        cursor: &Cursor,
        source: CursorSource,
        agent: &str,
    ) -> (String, Response) {
        let newest = self.ids.lock().expect("no panic").last().expect("an id").clone();
        let value = match cursor {
            Cursor::Nothing => "",
            Cursor::Earliest => "earliest",
            Cursor::Latest => "latest",
            Cursor::After(id) => id,
        };
        let url = format!("{}/events", self.url);
        let request = match source {
            CursorSource::Header => self.client.get(url).header("last-event-id", value),
            CursorSource::Query => self.client.get(format!("{url}?last_event_id={value}")),
        };
        let response = request.header("user-agent", agent).send().await.expect("a response");
        self.missing_readers.fetch_sub(1, Ordering::Relaxed);
        (newest, response)
    }

    /// A cursor at a random acknowledged message.
    fn random_cursor(&self, rng: &mut fastrand::Rng) -> Cursor {
        let ids = self.ids.lock().expect("no panic");
        // Half of them near the newest, where readers change from the log to the tail in memory.
        let oldest = if rng.bool() { ids.len().saturating_sub(5) } else { 0 };
        Cursor::After(ids[rng.usize(oldest..ids.len())].clone())
    }
}

/// The expected bytes of the event stream, and the offset at which the frame of each message ends.
fn expected_bytes(log: &[(String, String)], end: &str) -> (String, HashMap<String, usize>) {
    let mut bytes = String::new();
    let mut ends = HashMap::new();
    for (id, text) in log {
        write!(bytes, "event: new_message\nid: {id}\ndata: {text}\n\n").expect("memory");
        ends.insert(id.clone(), bytes.len());
    }
    write!(bytes, "event: end_event\nid: {end}\ndata: bye\n\n").expect("memory");
    (bytes, ends)
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').expect("an id").1.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reader_gets_the_messages_after_its_cursor_once_and_in_order() {
    let mut rng = seeded_rng();
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("tidings.db"), NOW, &[]).await;
    app.publish_lines("news", lines((0..HISTORY).map(|n| format!("before/{n}")))).await;
    let first = app.publish("news", "the first to be acknowledged").await;
    let shared = Shared {
        client: app.client.clone(),
        url: format!("{}/streams/news", app.url),
        ids: Arc::new(Mutex::new(vec![first])),
        missing_readers: Arc::new(AtomicUsize::new(READERS)),
    };
    let mut publishers: Vec<_> =
        (0..PUBLISHERS).map(|name| tokio::spawn(shared.clone().publish(name))).collect();
    publishers.push(tokio::spawn(shared.clone().publish_lines()));

    let mut readers = Vec::new();
    for n in 0..READERS {
        let cursor = match rng.u8(0..8) {
            0 => Cursor::Nothing,
            1 => Cursor::Earliest,
            2..=3 => Cursor::Latest,
            _ => shared.random_cursor(&mut rng),
        };
        let source = if rng.bool() { CursorSource::Header } else { CursorSource::Query };
        let agent = if n % 4 == 0 { "Mozilla/5.0" } else { "curl" };
        let (newest, response) = shared.connect(&cursor, source, agent).await;
        readers.push(tokio::spawn(async move {
            (cursor, newest, response.text().await.expect("a response that ends well"))
        }));
    }
    for publisher in join_all(publishers).await {
        publisher.expect("no panic");
    }
    let ended: Value = app.post("/streams/news/end", "bye").await.json().await.expect("JSON");
    let (bytes, ends) =
        expected_bytes(&app.log("news").await, ended["id"].as_str().expect("an id"));
    assert!(ends.len() > HISTORY + READERS, "only {} messages", ends.len());
    for reader in readers {
        let (cursor, newest, text) = reader.await.expect("no panic");
        let text = text.strip_prefix(RETRY).expect("retry first");
        let (ping, text) = match text.strip_prefix("event: ping\n") {
            Some(ping) => ping.split_once("data: {}\n\n").expect("the data of a ping"),
            None => ("", text),
        };
        let confirmed = ping.strip_prefix("id: ").map(str::trim_end);
        let from = match &cursor {
            Cursor::Nothing | Cursor::Earliest => 0,
            Cursor::After(id) => {
                assert!(
                    confirmed.is_none_or(|confirmed| confirmed == id),
                    "{cursor:?} {confirmed:?}"
                );
                ends[id]
            }
            Cursor::Latest => {
                let confirmed = confirmed.expect("a cursor");
                assert!(sequence(confirmed) >= sequence(&newest), "{confirmed} is not the latest");
                ends[confirmed]
            }
        };
        assert!(text == &bytes[from..], "{cursor:?} {confirmed:?} got other events");
    }
    app.wait_until_no_stream_is_open().await;
}
