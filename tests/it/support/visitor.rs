//! Publishers and readers that do not give up: a server goes and another one comes, and they go on
//! where they were.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use reqwest::Client;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{all_pages, events, lines};

/// How long anybody waits before trying again.
const PAUSE: Duration = Duration::from_millis(20);

/// An id and a text.
pub(crate) type Seen = (String, String);

/// Where the server is now, and a client that does not wait for one that is dead.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) client: Client,
    url: watch::Receiver<String>,
}

impl Visitor {
    /// A visitor, and how to tell all its clones where the server has moved.
    pub(crate) fn new(url: String) -> (Self, watch::Sender<String>) {
        let (tell, url) = watch::channel(url);
        let client = Client::builder().no_proxy().build().expect("a client");
        (Self { client, url }, tell)
    }

    /// A path of the stream that everybody is at.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/streams/news{path}", *self.url.borrow())
    }

    /// What the server has stored.
    pub(crate) async fn log(&self) -> Vec<Seen> {
        all_pages(&self.client, &self.url("/messages")).await
    }

    /// Ends the stream, which lets the readers go.
    pub(crate) async fn end(&self) {
        let ended = self.client.post(self.url("/end")).send().await.expect("an answer");
        assert_eq!(ended.status(), 200);
    }

    /// Publishes lines and does not care what becomes of them.
    pub(crate) async fn publish_lines(self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let lines = lines((0..50).map(|n| format!("line {n}")));
            let _ = self.client.post(self.url("?lines")).body(lines).send().await;
            sleep(PAUSE).await;
        }
    }

    /// Reads up to the end of the stream, reconnecting by cursor.
    pub(crate) async fn read(self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        loop {
            let cursor = seen.last().map_or("earliest", |(id, _)| id);
            let request = self.client.get(self.url("/events")).header("last-event-id", cursor);
            if let Ok(response) = request.send().await {
                let mut events = events(response);
                while let Some(Ok(event)) = events.next().await {
                    match event.event.as_str() {
                        "new_message" => seen.push((event.id, event.data)),
                        "end_event" => return seen,
                        "ping" => {}
                        other => panic!("{other} after {:?}: {}", seen.last(), event.data),
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }
}

/// Publishers that give one message after another, each until it is acknowledged.
pub(crate) struct Publishers {
    tasks: Vec<JoinHandle<()>>,
    /// What was acknowledged to each.
    acknowledged: Vec<Arc<Mutex<Vec<Seen>>>>,
    stop: Arc<AtomicBool>,
}

impl Publishers {
    pub(crate) fn start(number: usize, visitor: &Visitor) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<_> = (0..number).map(|_| Arc::default()).collect();
        let publish = |(name, acknowledged)| {
            tokio::spawn(publish(visitor.clone(), name, Arc::clone(acknowledged), stop.clone()))
        };
        let tasks = acknowledged.iter().enumerate().map(publish).collect();
        Self { tasks, acknowledged, stop }
    }

    /// What has been acknowledged to each so far.
    pub(crate) fn so_far(&self) -> Vec<Vec<Seen>> {
        let copy = |one: &Arc<Mutex<Vec<Seen>>>| {
            one.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.acknowledged.iter().map(copy).collect()
    }

    /// Waits until each has `more` acknowledged than now.
    pub(crate) async fn until(&self, more: usize) {
        let lengths = || self.so_far().iter().map(Vec::len).collect::<Vec<_>>();
        let before = lengths();
        for _ in 0..6_000 {
            if lengths().iter().zip(&before).all(|(now, before)| *now >= before + more) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody takes messages any more: {before:?}, {:?}", lengths());
    }

    /// Lets them finish what they are at; gives back what was acknowledged to each.
    pub(crate) async fn stop(self) -> Vec<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        let so_far = self.acknowledged;
        join_all(self.tasks).await.into_iter().for_each(|task| task.expect("no panic"));
        let taken = |one| Mutex::into_inner(Arc::into_inner(one).expect("it is done"));
        so_far.into_iter().map(|one| taken(one).expect("no panic")).collect()
    }
}

async fn publish(
    visitor: Visitor,
    name: usize,
    acknowledged: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{name}/{number}");
        let id = loop {
            let request = visitor.client.post(visitor.url("")).header("idempotency-key", &text);
            if let Ok(response) = request.body(text.clone()).send().await
                && response.status() == 201
                && let Ok(accepted) = response.json::<Value>().await
            {
                break accepted["id"].as_str().expect("an id").to_owned();
            }
            sleep(PAUSE).await;
        };
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((id, text));
        number += 1;
    }
}

/// Of a log, the messages of a publisher.
pub(crate) fn of_publisher(log: &[Seen], name: usize) -> Vec<Seen> {
    let mine = |(_, text): &&Seen| {
        text.split_once('/').is_some_and(|(publisher, _)| publisher == name.to_string())
    };
    log.iter().filter(mine).cloned().collect()
}
