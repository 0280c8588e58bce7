//! Disk failures below `SQLite`: no acknowledged message is lost, no message reported as not stored is
//! stored, and an unknown outcome is settled by a retry with the same idempotency key.

#![cfg(target_os = "linux")]

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use crate::support::{
    built_site,
    faults::{EIO, ENOSPC, Faults, always_fail},
    process::{Server, tidings},
    read_history, seeded_rng,
};

/// A server with fault injection.
struct FaultyServer {
    server: Server,
    client: Client,
    faults: Faults,
    file: PathBuf,
    site: TempDir,
    /// The folders of the store and of the fault rules.
    folders: [TempDir; 2],
}

impl FaultyServer {
    fn start() -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let file = folders[0].path().join("tidings.db");
        let (faults, site) = (Faults::new(&file, folders[1].path()), built_site());
        let server = spawn(&file, &faults, site.path());
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { server, client, faults, file, site, folders }
    }

    /// Kills the server, and starts another one without faults on its store.
    fn restart_without_faults(self) -> Self {
        let Self { server, client, faults, file, site, folders } = self;
        server.kill();
        faults.set(&[]);
        let server = spawn(&file, &faults, site.path());
        Self { server, client, faults, file, site, folders }
    }

    fn url(&self) -> String {
        format!("{}/streams/news", self.server.url())
    }

    async fn publish(&self, text: &str) -> Response {
        publish(&self.client, &self.url(), text).await.expect("a response")
    }

    /// The texts that the stream holds.
    async fn log(&self) -> Vec<String> {
        let log = read_history(&self.client, &format!("{}/messages", self.url())).await;
        log.into_iter().map(|(_, text)| text).collect()
    }

    async fn wait_until_ready(&self) {
        for _ in 0..600 {
            let ready = self.client.get(format!("{}/health/ready", self.server.url())).send().await;
            if ready.is_ok_and(|ready| ready.status() == 200) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not recover");
    }
}

fn spawn(file: &Path, faults: &Faults, site: &Path) -> Server {
    let mut command = tidings();
    command.args(["--listen=127.0.0.1:0", "--log=warn", "--data"]).arg(file);
    command.arg("--site-root").arg(site);
    faults.preload(&mut command);
    Server::spawn(&mut command)
}

/// Publishes a message whose text is also its idempotency key.
async fn publish(client: &Client, url: &str, text: &str) -> reqwest::Result<Response> {
    client.post(url).header("idempotency-key", text).body(text.to_owned()).send().await
}

fn is_replayed(response: &Response) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

async fn problem(response: Response) -> Value {
    response.json().await.expect("JSON")
}

/// The sync of a commit fails, and so do the writes that could find out its outcome; then the server is
/// killed. The message is stored, so a response that it is not would have been wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_is_reported_as_unknown() {
    let app = FaultyServer::start();
    assert_eq!(app.publish("first").await.status(), 201);
    app.faults.clear_calls();
    assert_eq!(app.publish("before").await.status(), 201);
    let written = |(call, name, _): &(String, String, String)| call == "write" && name == "-wal";
    let writes = app.faults.calls().iter().filter(|call| written(call)).count();
    let full = format!("write -wal {writes} -1 fail {ENOSPC}");
    app.faults.set(&[always_fail("sync", "-wal", EIO), full]);
    let unknown = app.publish("unknown").await;
    assert_eq!(unknown.status(), 500);
    assert!(unknown.headers().contains_key("retry-after"));
    let problem = problem(unknown).await;
    assert_eq!(problem["type"], "/problems#outcome-unknown");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("same Idempotency-Key") && detail.contains("I/O"), "{detail}");
    let ready = app.client.get(format!("{}/health/ready", app.server.url())).send().await;
    assert_eq!(ready.expect("a response").status(), 503);
    assert_eq!(app.log().await, ["first", "before"], "readers see only durable messages");

    let app = app.restart_without_faults();
    assert_eq!(app.log().await, ["first", "before", "unknown"], "it was stored");
    let retry = app.publish("unknown").await;
    assert!(retry.status() == 201 && is_replayed(&retry));
    assert_eq!(app.log().await, ["first", "before", "unknown"]);
}

/// The server keeps running, and the disk works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_settles_an_unknown_outcome() {
    let app = FaultyServer::start();
    assert_eq!(app.publish("before").await.status(), 201);
    app.faults.set(&[always_fail("sync", "-wal", EIO)]);
    assert_eq!(app.publish("unknown").await.status(), 500);
    let end = app.client.post(format!("{}/end", app.url())).send().await;
    assert_eq!(end.expect("a response").status(), 500);
    let delete = app.client.delete(app.url()).send().await;
    assert_eq!(delete.expect("a response").status(), 500);
    app.faults.set(&[]);
    app.wait_until_ready().await;
    assert_eq!(app.publish("unknown").await.status(), 201);
    assert_eq!(app.log().await, ["before", "unknown"]);
    let app = app.restart_without_faults();
    assert_eq!(app.log().await, ["before", "unknown"]);
}

/// Where the server can determine that a failed commit stored nothing, it responds so, and nothing is
/// stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_with_a_known_outcome_is_reported_as_not_stored() {
    let app = FaultyServer::start();
    assert_eq!(app.publish("before").await.status(), 201);
    let name = "-wal";
    let rules = [
        // A single failure: the next transaction shows the outcome.
        format!("sync {name} 0 1 fail {EIO}"),
        format!("sync {name} 0 1 late {EIO}"),
        // The commit frame of a transaction is written last.
        format!("write {name} 0 1 fail {ENOSPC}"),
        format!("write {name} 0 1 torn {EIO}"),
        format!("write {name} 1 1 torn {ENOSPC}"),
    ];
    for round in ["a new write-ahead log", "a restarted write-ahead log"] {
        for rule in &rules {
            app.faults.clear_calls();
            app.faults.set(std::slice::from_ref(rule));
            let refused = app.publish(&format!("refused {rule}")).await;
            assert!(app.faults.any_triggered(), "{rule}");
            assert_eq!(refused.status(), 503, "{round}: {rule}");
            assert_eq!(problem(refused).await["type"], "/problems#store-unavailable", "{rule}");
            app.faults.set(&[]);
            app.wait_until_ready().await;
        }
        // Enough for a checkpoint, after which the log is overwritten from its beginning.
        for number in 0..120 {
            let text = format!("{number}").repeat(20_000);
            let response = app.client.post(app.url()).body(text).send().await.expect("a response");
            assert_eq!(response.status(), 201);
        }
    }
    let app = app.restart_without_faults();
    let mut short_texts = app.log().await;
    short_texts.retain(|text| text.len() < 100);
    assert_eq!(short_texts, ["before"]);
    let stored = app.publish(&format!("refused {}", rules[0])).await;
    assert!(stored.status() == 201 && !is_replayed(&stored), "nothing was stored");
}

/// Acknowledged messages are in the write-ahead log, even if the database file cannot be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_checkpoints_fail() {
    let app = FaultyServer::start();
    app.faults.set(&[
        always_fail("sync", ".", EIO),
        always_fail("write", ".", EIO),
        always_fail("truncate", "*", EIO),
    ]);
    let mut texts = Vec::new();
    for number in 0..150 {
        let text = format!("{number}").repeat(20_000);
        assert_eq!(
            app.client
                .post(app.url())
                .body(text.clone())
                .send()
                .await
                .expect("a response")
                .status(),
            201
        );
        texts.push(text);
    }
    assert!(app.faults.any_triggered(), "no checkpoint was attempted");
    let app = app.restart_without_faults();
    assert!(app.log().await == texts);
}

/// The write-ahead log grows while checkpoints fail: the server logs it once, is not ready, and recovers
/// when the file can be written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_checkpoints_are_reported() {
    let app = FaultyServer::start();
    let fill = async || {
        for number in 0..150 {
            let text = format!("{number}").repeat(20_000);
            let response = app.client.post(app.url()).body(text).send().await.expect("a response");
            assert_eq!(response.status(), 201, "it is in the write-ahead log");
        }
    };
    app.faults.set(&[always_fail("write", ".", EIO)]);
    fill().await;
    let ready = app.client.get(format!("{}/health/ready", app.server.url())).send().await;
    let ready = ready.expect("a response");
    assert_eq!(ready.status(), 503);
    let problem = problem(ready).await;
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("Not ready") && detail.contains("I/O"), "{detail}");
    fill().await;
    app.faults.clear_calls();
    app.faults.set(&[]);
    app.wait_until_ready().await;
    let is_checkpoint = |(call, name, action): &(String, String, String)| {
        [call.as_str(), name.as_str(), action.as_str()] == ["write", ".", "pass"]
    };
    assert!(
        app.faults.calls().iter().any(is_checkpoint),
        "a checkpoint succeeds without a request"
    );
    let FaultyServer { server, .. } = app;
    let log = server.kill_and_read_log();
    let reports = log.matches("its write-ahead log grows").count();
    assert_eq!(reports, 1, "{log}");
}

/// The outcome of a publication as its publisher knows it; `Unknown` also if no response arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    NotStored,
    Unknown,
}

/// Publishers that do not retry, and the outcome of each message.
struct Publishers {
    outcomes: Arc<Mutex<BTreeMap<String, Outcome>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Publishers {
    fn start(app: &FaultyServer, round: usize) -> Self {
        let outcomes = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let publish_all = |publisher: usize| {
            let (client, url, outcomes) = (app.client.clone(), app.url(), Arc::clone(&outcomes));
            tokio::spawn(async move {
                for number in 0.. {
                    let text = format!("{round}/{publisher}/{number}");
                    let (status, is_server_gone) = match publish(&client, &url, &text).await {
                        Ok(response) => (response.status().as_u16(), false),
                        Err(_) => (0, true),
                    };
                    let outcome = match status {
                        201 => Outcome::Stored,
                        503 => Outcome::NotStored,
                        0 | 500 => Outcome::Unknown,
                        other => panic!("{other}"),
                    };
                    outcomes.lock().await.insert(text, outcome);
                    if is_server_gone {
                        return;
                    }
                    if outcome != Outcome::Stored {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        };
        let tasks = (0..4).map(publish_all).collect();
        Self { outcomes, tasks }
    }

    /// Waits until they end, which they do when the server is killed; returns the outcomes.
    async fn stop(self) -> BTreeMap<String, Outcome> {
        for task in self.tasks {
            task.await.expect("no panic");
        }
        Arc::into_inner(self.outcomes).expect("the only owner").into_inner()
    }
}

/// Random faults, and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing_and_every_response_is_right() {
    const ROUNDS: usize = 12;
    let mut rng = seeded_rng();
    let mut app = FaultyServer::start();
    let mut outcomes = BTreeMap::new();
    for round in 0..ROUNDS {
        let publishers = Publishers::start(&app, round);
        for _ in 0..rng.usize(1..4) {
            sleep(Duration::from_millis(rng.u64(20..150))).await;
            let rule = |rng: &mut fastrand::Rng| {
                let call = rng.choice(["sync", "sync", "write", "truncate"]).expect("a choice");
                let name = rng.choice(["-wal", "-wal", ".", "*"]).expect("a choice");
                let times = rng.choice([1, 1, 2, 7, -1]).expect("a choice");
                let action = rng.choice(["fail 5", "fail 28", "torn 5", "late 5", "delay 40"]);
                format!("{call} {name} {} {times} {}", rng.u32(0..20), action.expect("a choice"))
            };
            app.faults.set(&[rule(&mut rng), rule(&mut rng)]);
            if rng.bool() {
                sleep(Duration::from_millis(rng.u64(20..150))).await;
                app.faults.set(&[]);
            }
        }
        sleep(Duration::from_millis(rng.u64(20..150))).await;
        app = spawn_blocking(move || app.restart_without_faults()).await.expect("no panic");
        outcomes.extend(publishers.stop().await);
        // Each message is stored once or not at all, as its outcome says; checked after every round.
        let log = app.log().await;
        let mut times: HashMap<&str, usize> = HashMap::new();
        for text in &log {
            *times.entry(text).or_default() += 1;
        }
        for (text, outcome) in &outcomes {
            match (times.get(&**text).copied().unwrap_or(0), outcome) {
                (1, Outcome::Stored | Outcome::Unknown)
                | (0, Outcome::NotStored | Outcome::Unknown) => {}
                (times, outcome) => panic!("{text}: {outcome:?}, and stored {times} times"),
            }
        }
        for text in times.keys() {
            assert!(outcomes.contains_key(*text), "{text}: it was not published");
        }
    }
    let count = |counted| outcomes.values().filter(|outcome| **outcome == counted).count();
    println!(
        "{} stored, {} not stored, {} unknown",
        count(Outcome::Stored),
        count(Outcome::NotStored),
        count(Outcome::Unknown)
    );
    assert!(
        count(Outcome::Stored) > 100 && count(Outcome::NotStored) + count(Outcome::Unknown) > 10
    );
    let unknown: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Unknown).collect();
    for (text, _) in &unknown {
        assert_eq!(app.publish(text).await.status(), 201, "{text}");
    }
    let log = app.log().await;
    for (text, _) in unknown {
        assert_eq!(log.iter().filter(|stored| *stored == text).count(), 1, "{text}");
    }
}
