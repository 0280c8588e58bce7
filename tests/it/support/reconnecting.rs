//! Publishers and readers that reconnect: when the server is replaced by another one, they resume where
//! they were.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use reqwest::Client;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{events, lines, read_history};

/// How long to wait before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// After how long without data a connection is given up: longer than the interval of the pings.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// After how long without an answer a message is published again, perhaps to another server.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// The most events that a reader of several servers takes from one of them before it moves on.
const MAX_EVENTS_PER_SERVER: usize = 400;

/// A message: its id and its text.
pub(crate) type Message = (String, String);

/// An HTTP client that follows the servers to new URLs; the stream is `news`.
#[derive(Clone)]
pub(crate) struct ReconnectingClient {
    pub(crate) http: Client,
    urls: watch::Receiver<Vec<String>>,
}

impl ReconnectingClient {
    /// A client, and the sender of the URLs for all its clones.
    pub(crate) fn new(urls: Vec<String>) -> (Self, watch::Sender<Vec<String>>) {
        let (url_sender, urls) = watch::channel(urls);
        let http = Client::builder().no_proxy().read_timeout(READ_TIMEOUT).build();
        (Self { http: http.expect("a client"), urls }, url_sender)
    }

    /// The URL of a path below the stream, at one of the servers.
    pub(crate) fn url(&self, path: &str) -> String {
        let urls = self.urls.borrow();
        format!("{}/streams/news{path}", urls[fastrand::usize(..urls.len())])
    }

    /// The messages that the server has stored.
    pub(crate) async fn log(&self) -> Vec<Message> {
        read_history(&self.http, &self.url("/messages")).await
    }

    /// Ends the stream, so that its readers finish.
    pub(crate) async fn end(&self) {
        loop {
            let ended = self.http.post(self.url("/end")).timeout(PUBLISH_TIMEOUT).send().await;
            // Without an answer it is tried again.
            match ended.map_or(503, |ended| ended.status().as_u16()) {
                // It has ended already, if an earlier attempt was not answered.
                200 | 409 => return,
                503 => sleep(RETRY_PAUSE).await,
                status => panic!("the stream does not end: {status}"),
            }
        }
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
            let is_alone = self.urls.borrow().len() == 1;
            let max = if is_alone { usize::MAX } else { fastrand::usize(1..MAX_EVENTS_PER_SERVER) };
            if let Ok(response) = request.send().await {
                let mut events = events(response).take(max);
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
        Self::start_paced(count, client, Duration::ZERO)
    }

    /// Publishers that pause after each message.
    pub(crate) fn start_paced(count: usize, client: &ReconnectingClient, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<_> = (0..count).map(|_| Arc::default()).collect();
        let publish = |(name, acknowledged)| {
            let acknowledged = Arc::clone(acknowledged);
            tokio::spawn(publish(client.clone(), name, acknowledged, stop.clone(), pause))
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

    /// How many messages of each publisher are acknowledged.
    fn counts(&self) -> Vec<usize> {
        let length = |messages: &Arc<Mutex<Vec<Message>>>| {
            messages.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.acknowledged.iter().map(length).collect()
    }

    /// Waits until `more` messages of each publisher are acknowledged than now.
    pub(crate) async fn wait_for(&self, more: usize) {
        let before = self.counts();
        for _ in 0..6_000 {
            if self.counts().iter().zip(&before).all(|(now, before)| *now >= before + more) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("messages are no longer acknowledged: {before:?}, {:?}", self.counts());
    }

    /// The longest time without an acknowledgement until a task has ended and one more has come.
    pub(crate) async fn longest_pause_until(&self, task: &JoinHandle<()>) -> Duration {
        let count = || self.counts().iter().sum::<usize>();
        let (mut seen, mut since, mut longest) = (count(), Instant::now(), Duration::ZERO);
        loop {
            sleep(Duration::from_millis(5)).await;
            let now = count();
            longest = longest.max(since.elapsed());
            if now > seen {
                (seen, since) = (now, Instant::now());
                if task.is_finished() {
                    return longest;
                }
            }
            assert!(longest < Duration::from_mins(3), "messages are no longer acknowledged");
        }
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
    pause: Duration,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{name}/{number}");
        let id = loop {
            let request = client.http.post(client.url("")).header("idempotency-key", &text);
            if let Ok(response) = request.body(text.clone()).timeout(PUBLISH_TIMEOUT).send().await
                && response.status() == 201
                && let Ok(accepted) = response.json::<Value>().await
            {
                break accepted["id"].as_str().expect("an id").to_owned();
            }
            sleep(RETRY_PAUSE).await;
        };
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((id, text));
        number += 1;
        sleep(pause).await;
    }
}

/// The messages of one publisher in a log.
pub(crate) fn of_publisher(log: &[Message], name: usize) -> Vec<Message> {
    let is_its = |(_, text): &&Message| {
        text.split_once('/').is_some_and(|(publisher, _)| publisher == name.to_string())
    };
    log.iter().filter(is_its).cloned().collect()
}
