//! Publishers and readers that reconnect: when the server is replaced by another one, they resume where
//! they were.

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

use super::{events, lines, read_history};

/// How long to wait before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A message: its id and its text.
pub(crate) type Message = (String, String);

/// An HTTP client that follows the server to a new URL; the stream is `news`.
#[derive(Clone)]
pub(crate) struct ReconnectingClient {
    pub(crate) http: Client,
    url: watch::Receiver<String>,
}

impl ReconnectingClient {
    /// A client, and the sender of the URL for all its clones.
    pub(crate) fn new(url: String) -> (Self, watch::Sender<String>) {
        let (url_sender, url) = watch::channel(url);
        let http = Client::builder().no_proxy().build().expect("a client");
        (Self { http, url }, url_sender)
    }

    /// The URL of a path below the stream.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/streams/news{path}", *self.url.borrow())
    }

    /// The messages that the server has stored.
    pub(crate) async fn log(&self) -> Vec<Message> {
        read_history(&self.http, &self.url("/messages")).await
    }

    /// Ends the stream, so that its readers finish.
    pub(crate) async fn end(&self) {
        let ended = self.http.post(self.url("/end")).send().await.expect("a response");
        assert_eq!(ended.status(), 200);
    }

    /// Publishes lines until `stop` is set, and ignores errors.
    pub(crate) async fn publish_lines(self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let lines = lines((0..50).map(|n| format!("line {n}")));
            let _ = self.http.post(self.url("?lines")).body(lines).send().await;
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads up to the end of the stream, reconnecting by cursor.
    pub(crate) async fn read(self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let cursor = messages.last().map_or("earliest", |(id, _)| id);
            let request = self.http.get(self.url("/events")).header("last-event-id", cursor);
            if let Ok(response) = request.send().await {
                let mut events = events(response);
                while let Some(Ok(event)) = events.next().await {
                    match event.event.as_str() {
                        "new_message" => messages.push((event.id, event.data)),
                        "end_event" => return messages,
                        "ping" => {}
                        other => panic!("{other} after {:?}: {}", messages.last(), event.data),
                    }
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Publishers that each publish one message after another, and repeat it until it is acknowledged.
pub(crate) struct Publishers {
    tasks: Vec<JoinHandle<()>>,
    /// The acknowledged messages of each publisher.
    acknowledged: Vec<Arc<Mutex<Vec<Message>>>>,
    stop: Arc<AtomicBool>,
}

impl Publishers {
    pub(crate) fn start(count: usize, client: &ReconnectingClient) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<_> = (0..count).map(|_| Arc::default()).collect();
        let publish = |(name, acknowledged)| {
            tokio::spawn(publish(client.clone(), name, Arc::clone(acknowledged), stop.clone()))
        };
        let tasks = acknowledged.iter().enumerate().map(publish).collect();
        Self { tasks, acknowledged, stop }
    }

    /// The messages of each publisher that are acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<Vec<Message>> {
        let copy = |messages: &Arc<Mutex<Vec<Message>>>| {
            messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.acknowledged.iter().map(copy).collect()
    }

    /// Waits until `more` messages of each publisher are acknowledged than now.
    pub(crate) async fn wait_for(&self, more: usize) {
        let lengths = || self.acknowledged().iter().map(Vec::len).collect::<Vec<_>>();
        let before = lengths();
        for _ in 0..6_000 {
            if lengths().iter().zip(&before).all(|(now, before)| *now >= before + more) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("messages are no longer acknowledged: {before:?}, {:?}", lengths());
    }

    /// Waits until their last message is acknowledged; returns the acknowledged messages of each.
    pub(crate) async fn stop(self) -> Vec<Vec<Message>> {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.acknowledged;
        join_all(self.tasks).await.into_iter().for_each(|task| task.expect("no panic"));
        let unwrap = |shared| Mutex::into_inner(Arc::into_inner(shared).expect("the only owner"));
        acknowledged.into_iter().map(|shared| unwrap(shared).expect("no panic")).collect()
    }
}

async fn publish(
    client: ReconnectingClient,
    name: usize,
    acknowledged: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{name}/{number}");
        let id = loop {
            let request = client.http.post(client.url("")).header("idempotency-key", &text);
            if let Ok(response) = request.body(text.clone()).send().await
                && response.status() == 201
                && let Ok(accepted) = response.json::<Value>().await
            {
                break accepted["id"].as_str().expect("an id").to_owned();
            }
            sleep(RETRY_PAUSE).await;
        };
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((id, text));
        number += 1;
    }
}

/// The messages of one publisher in a log.
pub(crate) fn of_publisher(log: &[Message], name: usize) -> Vec<Message> {
    let is_its = |(_, text): &&Message| {
        text.split_once('/').is_some_and(|(publisher, _)| publisher == name.to_string())
    };
    log.iter().filter(is_its).cloned().collect()
}
