//! Where history and live messages meet: readers that come while much is published.

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

use crate::support::{NOW, TestApp, chance, lines};

const READERS: usize = 250;
const PUBLISHERS: usize = 4;
/// Messages that are there before anybody comes: many pages of the log.
const HISTORY: usize = 4_000;
const RETRY: &str = "retry: 15000\n";

/// How a reader says where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Header,
    Query,
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Begin {
    Nothing,
    Earliest,
    Latest,
    /// After the message with this id.
    After(String),
}

/// What is shared by those who publish and those who read.
#[derive(Clone)]
struct Joint {
    client: Client,
    url: String,
    /// The ids that were acknowledged.
    ids: Arc<Mutex<Vec<String>>>,
    /// How many readers are still to come.
    awaited: Arc<AtomicUsize>,
}

impl Joint {
    /// Publishes one message after another, as fast as can be, until every reader has come.
    async fn publish(self, name: usize) {
        for n in 0.. {
            if self.awaited.load(Ordering::Relaxed) == 0 {
                return;
            }
            let message = self.client.post(&self.url).body(format!("{name}/{n}"));
            let accepted: Value =
                message.send().await.expect("an answer").json().await.expect("JSON");
            let id = accepted["id"].as_str().expect("an id").to_owned();
            self.ids.lock().expect("no panic").push(id);
        }
    }

    /// The same, as an upload that goes on.
    async fn publish_lines(self) {
        let pieces = futures::stream::unfold((self.clone(), 0), |(joint, n)| async move {
            if joint.awaited.load(Ordering::Relaxed) == 0 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let lines = lines((0..10).map(|line| format!("lines/{n}/{line}")));
            Some((Ok::<_, std::io::Error>(lines), (joint, n + 1)))
        });
        let upload = self.client.post(format!("{}?lines", self.url));
        let answer = upload.body(reqwest::Body::wrap_stream(pieces)).send().await;
        assert_eq!(answer.expect("an answer").status(), 200);
    }

    /// Comes as a reader; tells what was acknowledged last when it came.
    async fn come(&self, begin: &Begin, manner: Manner, agent: &str) -> (String, Response) {
        let newest = self.ids.lock().expect("no panic").last().expect("an id").clone();
        let cursor = match begin {
            Begin::Nothing => "",
            Begin::Earliest => "earliest",
            Begin::Latest => "latest",
            Begin::After(id) => id,
        };
        let url = format!("{}/events", self.url);
        let request = match manner {
            Manner::Header => self.client.get(url).header("last-event-id", cursor),
            Manner::Query => self.client.get(format!("{url}?last_event_id={cursor}")),
        };
        let response = request.header("user-agent", agent).send().await.expect("an answer");
        self.awaited.fetch_sub(1, Ordering::Relaxed);
        (newest, response)
    }

    /// Somewhere in what was published.
    fn some_id(&self, chance: &mut fastrand::Rng) -> Begin {
        let ids = self.ids.lock().expect("no panic");
        // Half of them near the newest, where log and memory meet.
        let oldest = if chance.bool() { ids.len().saturating_sub(5) } else { 0 };
        Begin::After(ids[chance.usize(oldest..ids.len())].clone())
    }
}

/// The stream as the wire has it, and where in it the frame of each message ends.
fn wire(log: &[(String, String)], end: &str) -> (String, HashMap<String, usize>) {
    let mut wire = String::new();
    let mut ends = HashMap::new();
    for (id, text) in log {
        write!(wire, "event: new_message\nid: {id}\ndata: {text}\n\n").expect("memory");
        ends.insert(id.clone(), wire.len());
    }
    write!(wire, "event: end_event\nid: {end}\ndata: bye\n\n").expect("memory");
    (wire, ends)
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').expect("an id").1.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reader_gets_what_follows_its_cursor_once_and_in_order() {
    let mut chance = chance();
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("tidings.db"), NOW, &[]).await;
    app.publish_lines("news", lines((0..HISTORY).map(|n| format!("before/{n}")))).await;
    let first = app.publish("news", "the first to be acknowledged").await;
    let joint = Joint {
        client: app.client.clone(),
        url: format!("{}/streams/news", app.url),
        ids: Arc::new(Mutex::new(vec![first])),
        awaited: Arc::new(AtomicUsize::new(READERS)),
    };
    let mut publishers: Vec<_> =
        (0..PUBLISHERS).map(|name| tokio::spawn(joint.clone().publish(name))).collect();
    publishers.push(tokio::spawn(joint.clone().publish_lines()));

    let mut readers = Vec::new();
    for n in 0..READERS {
        let begin = match chance.u8(0..8) {
            0 => Begin::Nothing,
            1 => Begin::Earliest,
            2..=3 => Begin::Latest,
            _ => joint.some_id(&mut chance),
        };
        let manner = if chance.bool() { Manner::Header } else { Manner::Query };
        let agent = if n % 4 == 0 { "Mozilla/5.0" } else { "curl" };
        let (newest, response) = joint.come(&begin, manner, agent).await;
        readers.push(tokio::spawn(async move {
            (begin, newest, response.text().await.expect("a response that ends well"))
        }));
    }
    for publisher in join_all(publishers).await {
        publisher.expect("no panic");
    }
    let ended: Value = app.post("/streams/news/end", "bye").await.json().await.expect("JSON");
    let (wire, ends) = wire(&app.log("news").await, ended["id"].as_str().expect("an id"));
    assert!(ends.len() > HISTORY + READERS, "{} messages are not much of a trial", ends.len());
    for reader in readers {
        let (begin, newest, said) = reader.await.expect("no panic");
        let said = said.strip_prefix(RETRY).expect("a pause first");
        let (ping, said) = match said.strip_prefix("event: ping\n") {
            Some(ping) => ping.split_once("data: {}\n\n").expect("the data of a ping"),
            None => ("", said),
        };
        let cursor = ping.strip_prefix("id: ").map(str::trim_end);
        let from = match &begin {
            Begin::Nothing | Begin::Earliest => 0,
            Begin::After(id) => {
                assert!(cursor.is_none_or(|cursor| cursor == id), "{begin:?} {cursor:?}");
                ends[id]
            }
            Begin::Latest => {
                let cursor = cursor.expect("a cursor");
                assert!(sequence(cursor) >= sequence(&newest), "{cursor} is not the latest");
                ends[cursor]
            }
        };
        assert!(said == &wire[from..], "{begin:?} {cursor:?} got something else than the rest");
    }
    app.until_none_is_open().await;
}
