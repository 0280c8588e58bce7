//! Invariant 1 of the design: every acknowledged message reaches every reader whose cursor precedes
//! it, once, in order, through kill -9.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use reqwest::Client;
use serde_json::Value;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::support::{all_pages, built_site, chance, events, lines, process::Server};

const KILLS: usize = 60;
const PUBLISHERS: usize = 4;
const READERS: usize = 5;
/// How long anybody waits before trying again.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the server is now, and a client that does not wait for one that is dead.
#[derive(Clone)]
struct Visitor {
    client: Client,
    url: watch::Receiver<String>,
}

impl Visitor {
    fn url(&self, path: &str) -> String {
        format!("{}/streams/news{path}", *self.url.borrow())
    }

    /// Publishes one message after another, each until it is acknowledged; gives back what was.
    async fn publish(self, name: usize, stop: Arc<AtomicBool>) -> Vec<(String, String)> {
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let text = format!("{name}/{}", acknowledged.len());
            let id = loop {
                let request = self.client.post(self.url("")).header("idempotency-key", &text);
                if let Ok(response) = request.body(text.clone()).send().await
                    && response.status() == 201
                    && let Ok(accepted) = response.json::<Value>().await
                {
                    break accepted["id"].as_str().expect("an id").to_owned();
                }
                sleep(PAUSE).await;
            };
            acknowledged.push((id, text));
        }
        acknowledged
    }

    /// Publishes lines and does not care what becomes of them.
    async fn publish_lines(self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let lines = lines((0..50).map(|n| format!("line {n}")));
            let _ = self.client.post(self.url("?lines")).body(lines).send().await;
            sleep(PAUSE).await;
        }
    }

    /// Reads up to the end of the stream, reconnecting by cursor.
    async fn read(self) -> Vec<(String, String)> {
        let mut seen: Vec<(String, String)> = Vec::new();
        loop {
            let cursor = seen.last().map_or("earliest", |(id, _)| id);
            let request = self.client.get(self.url("/events")).header("last-event-id", cursor);
            let Ok(response) = request.send().await else {
                sleep(PAUSE).await;
                continue;
            };
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
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_sixty_kills() {
    let mut chance = chance();
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let start = {
        let file: PathBuf = folder.path().join("tidings.db");
        let site = site.path().to_owned();
        move || Server::start_on(&file, &site, &[])
    };
    let mut server = start();
    let (tell, url) = watch::channel(server.url());
    let client = Client::builder().no_proxy().build().expect("a client");
    let visitor = Visitor { client, url };
    let stop = Arc::new(AtomicBool::new(false));

    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|name| tokio::spawn(visitor.clone().publish(name, Arc::clone(&stop))))
        .collect();
    let careless = tokio::spawn(visitor.clone().publish_lines(Arc::clone(&stop)));
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(visitor.clone().read())).collect();

    for _ in 0..KILLS {
        sleep(Duration::from_millis(chance.u64(0..200))).await;
        let start = start.clone();
        let kill = move || {
            server.kill();
            start()
        };
        server = spawn_blocking(kill).await.expect("no panic");
        tell.send_replace(server.url());
    }
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = join_all(publishers).await;
    careless.await.expect("no panic");
    let ended = visitor.client.post(visitor.url("/end")).send().await.expect("an answer");
    assert_eq!(ended.status(), 200);

    let log = all_pages(&visitor.client, &visitor.url("/messages")).await;
    for messages in acknowledged {
        let messages = messages.expect("no panic");
        assert!(messages.len() > KILLS / 2, "{} is not much of a trial", messages.len());
        let name = messages[0].1.split_once('/').expect("a name").0;
        let of_this_one =
            log.iter().filter(|(_, text)| text.split_once('/').is_some_and(|(n, _)| n == name));
        assert!(of_this_one.eq(&messages), "each once, in order: {name}");
    }
    for reader in readers {
        let seen = reader.await.expect("no panic");
        assert_eq!(seen.len(), log.len());
        assert!(seen == log, "a reader has what the log has");
    }
}
