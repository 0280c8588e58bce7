//! A disk that fails, below `SQLite`: nothing that was acknowledged is lost, nothing that is said not
//! to be stored is stored, and what is not known is settled by a retry with the same key.

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
    all_pages, built_site, chance,
    faults::{EIO, ENOSPC, Faults, always_fail},
    process::{Server, tidings},
};

/// A server whose disk can be made to fail.
struct Faulty {
    server: Server,
    client: Client,
    faults: Faults,
    file: PathBuf,
    site: TempDir,
    /// Of the store, and of the faults.
    folders: [TempDir; 2],
}

impl Faulty {
    fn start() -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let file = folders[0].path().join("tidings.db");
        let (faults, site) = (Faults::new(&file, folders[1].path()), built_site());
        let server = spawn(&file, &faults, site.path());
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { server, client, faults, file, site, folders }
    }

    /// Kills the server and starts it on a disk that is as good as new.
    fn replace(self) -> Self {
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
        publish(&self.client, &self.url(), text).await.expect("an answer")
    }

    /// The texts that the stream holds.
    async fn log(&self) -> Vec<String> {
        let log = all_pages(&self.client, &format!("{}/messages", self.url())).await;
        log.into_iter().map(|(_, text)| text).collect()
    }

    async fn until_ready(&self) {
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

/// Publishes a message; its text is its key too.
async fn publish(client: &Client, url: &str, text: &str) -> reqwest::Result<Response> {
    client.post(url).header("idempotency-key", text).body(text.to_owned()).send().await
}

fn is_replayed(response: &Response) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

async fn problem(response: Response) -> Value {
    response.json().await.expect("JSON")
}

/// The flush of a commit fails, and the disk takes nothing more that could tell what became of it;
/// then the server dies. What it wrote is there: to say that nothing was stored would have been wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_not_claimed_to_have_stored_nothing() {
    let app = Faulty::start();
    assert_eq!(app.publish("first").await.status(), 201);
    app.faults.forget_calls();
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
    assert_eq!(ready.expect("an answer").status(), 503);
    assert_eq!(app.log().await, ["first", "before"], "readers see what is durable");

    let app = app.replace();
    assert_eq!(app.log().await, ["first", "before", "unknown"], "it was stored after all");
    let again = app.publish("unknown").await;
    assert!(again.status() == 201 && is_replayed(&again));
    assert_eq!(app.log().await, ["first", "before", "unknown"]);
}

/// The same, but the server lives on, and so does the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_settles_what_was_unknown() {
    let app = Faulty::start();
    assert_eq!(app.publish("before").await.status(), 201);
    app.faults.set(&[always_fail("sync", "-wal", EIO)]);
    assert_eq!(app.publish("unknown").await.status(), 500);
    let end = app.client.post(format!("{}/end", app.url())).send().await;
    assert_eq!(end.expect("an answer").status(), 500);
    let delete = app.client.delete(app.url()).send().await;
    assert_eq!(delete.expect("an answer").status(), 500);
    app.faults.set(&[]);
    app.until_ready().await;
    assert_eq!(app.publish("unknown").await.status(), 201);
    assert_eq!(app.log().await, ["before", "unknown"]);
    let app = app.replace();
    assert_eq!(app.log().await, ["before", "unknown"]);
}

/// Where the server can find out what became of a commit it says so, and it is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_known_is_not_left_open() {
    let app = Faulty::start();
    assert_eq!(app.publish("before").await.status(), 201);
    let name = "-wal";
    let rules = [
        // A single failure: the next transaction tells.
        format!("sync {name} 0 1 fail {EIO}"),
        format!("sync {name} 0 1 late {EIO}"),
        // What makes a transaction one is written last.
        format!("write {name} 0 1 fail {ENOSPC}"),
        format!("write {name} 0 1 torn {EIO}"),
        format!("write {name} 1 1 torn {ENOSPC}"),
    ];
    for round in ["the log is new", "it was begun anew"] {
        for rule in &rules {
            app.faults.forget_calls();
            app.faults.set(std::slice::from_ref(rule));
            let refused = app.publish(&format!("refused {rule}")).await;
            assert!(app.faults.have_acted(), "{rule}");
            assert_eq!(refused.status(), 503, "{round}: {rule}");
            assert_eq!(problem(refused).await["type"], "/problems#store-unavailable", "{rule}");
            app.faults.set(&[]);
            app.until_ready().await;
        }
        // So long that it is moved into the file, and written over from its beginning.
        for number in 0..120 {
            let text = format!("{number}").repeat(20_000);
            let answer = app.client.post(app.url()).body(text).send().await.expect("an answer");
            assert_eq!(answer.status(), 201);
        }
    }
    let app = app.replace();
    let mut short = app.log().await;
    short.retain(|text| text.len() < 100);
    assert_eq!(short, ["before"]);
    let stored = app.publish(&format!("refused {}", rules[0])).await;
    assert!(stored.status() == 201 && !is_replayed(&stored), "nothing was stored");
}

/// What was acknowledged is in the write-ahead log, whatever becomes of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_written_loses_nothing() {
    let app = Faulty::start();
    app.faults.set(&[
        always_fail("sync", ".", EIO),
        always_fail("write", ".", EIO),
        always_fail("truncate", "*", EIO),
    ]);
    let mut texts = Vec::new();
    for number in 0..150 {
        let text = format!("{number}").repeat(20_000);
        assert_eq!(
            app.client.post(app.url()).body(text.clone()).send().await.expect("an answer").status(),
            201
        );
        texts.push(text);
    }
    assert!(app.faults.have_acted(), "what is written ahead was to be moved into the file");
    let app = app.replace();
    assert!(app.log().await == texts);
}

/// What is written ahead grows while the file cannot be written: that is said, once, and is over when
/// the file can be written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_written_is_loud() {
    let app = Faulty::start();
    let fill = async || {
        for number in 0..150 {
            let text = format!("{number}").repeat(20_000);
            let answer = app.client.post(app.url()).body(text).send().await.expect("an answer");
            assert_eq!(answer.status(), 201, "it is in the write-ahead log");
        }
    };
    app.faults.set(&[always_fail("write", ".", EIO)]);
    fill().await;
    let ready = app.client.get(format!("{}/health/ready", app.server.url())).send().await;
    let ready = ready.expect("an answer");
    assert_eq!(ready.status(), 503);
    let problem = problem(ready).await;
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("Not ready") && detail.contains("I/O"), "{detail}");
    fill().await;
    app.faults.forget_calls();
    app.faults.set(&[]);
    app.until_ready().await;
    let moved = |(call, name, done): &(String, String, String)| {
        [call.as_str(), name.as_str(), done.as_str()] == ["write", ".", "pass"]
    };
    assert!(app.faults.calls().iter().any(moved), "it found out by itself");
    let Faulty { server, .. } = app;
    let said = server.kill_and_hear();
    let complaints = said.matches("its write-ahead log grows").count();
    assert_eq!(complaints, 1, "{said}");
}

/// What a publisher heard of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Stored,
    NotStored,
    Unknown,
}

/// Publishers that do not repeat anything, and what they heard.
struct Publishers {
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Publishers {
    fn start(app: &Faulty, round: usize) -> Self {
        let heard = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let publish_all = |publisher: usize| {
            let (client, url, heard) = (app.client.clone(), app.url(), Arc::clone(&heard));
            tokio::spawn(async move {
                for number in 0.. {
                    let text = format!("{round}/{publisher}/{number}");
                    let (said, gone) = match publish(&client, &url, &text).await {
                        Ok(answer) => (answer.status().as_u16(), false),
                        Err(_) => (0, true),
                    };
                    let said = match said {
                        201 => Heard::Stored,
                        503 => Heard::NotStored,
                        0 | 500 => Heard::Unknown,
                        other => panic!("{other}"),
                    };
                    heard.lock().await.insert(text, said);
                    if gone {
                        return;
                    }
                    if said != Heard::Stored {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        };
        let tasks = (0..4).map(publish_all).collect();
        Self { heard, tasks }
    }

    /// They end with the server.
    async fn stop(self) -> BTreeMap<String, Heard> {
        for task in self.tasks {
            task.await.expect("no panic");
        }
        Arc::into_inner(self.heard).expect("they have ended").into_inner()
    }
}

/// Faults at random, and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost_or_wrongly_claimed() {
    const ROUNDS: usize = 12;
    let mut chance = chance();
    let mut app = Faulty::start();
    let mut heard = BTreeMap::new();
    for round in 0..ROUNDS {
        let publishers = Publishers::start(&app, round);
        for _ in 0..chance.usize(1..4) {
            sleep(Duration::from_millis(chance.u64(20..150))).await;
            let rule = |chance: &mut fastrand::Rng| {
                let call = chance.choice(["sync", "sync", "write", "truncate"]).expect("one");
                let name = chance.choice(["-wal", "-wal", ".", "*"]).expect("one");
                let times = chance.choice([1, 1, 2, 7, -1]).expect("one");
                let action = chance.choice(["fail 5", "fail 28", "torn 5", "late 5", "delay 40"]);
                format!("{call} {name} {} {times} {}", chance.u32(0..20), action.expect("one"))
            };
            app.faults.set(&[rule(&mut chance), rule(&mut chance)]);
            if chance.bool() {
                sleep(Duration::from_millis(chance.u64(20..150))).await;
                app.faults.set(&[]);
            }
        }
        sleep(Duration::from_millis(chance.u64(20..150))).await;
        app = spawn_blocking(move || app.replace()).await.expect("no panic");
        heard.extend(publishers.stop().await);
        // Each once, and the more often the claims are looked at the better.
        let log = app.log().await;
        let mut times: HashMap<&str, usize> = HashMap::new();
        for text in &log {
            *times.entry(text).or_default() += 1;
        }
        for (text, heard) in &heard {
            match (times.get(&**text).copied().unwrap_or(0), heard) {
                (1, Heard::Stored | Heard::Unknown) | (0, Heard::NotStored | Heard::Unknown) => {}
                (times, heard) => panic!("{text}: {heard:?}, and stored {times} times"),
            }
        }
        for text in times.keys() {
            assert!(heard.contains_key(*text), "{text}: it was not published");
        }
    }
    let count = |which| heard.values().filter(|heard| **heard == which).count();
    println!(
        "{} stored, {} not stored, {} unknown",
        count(Heard::Stored),
        count(Heard::NotStored),
        count(Heard::Unknown)
    );
    assert!(count(Heard::Stored) > 100 && count(Heard::NotStored) + count(Heard::Unknown) > 10);
    let open: Vec<_> = heard.iter().filter(|(_, heard)| **heard == Heard::Unknown).collect();
    for (text, _) in &open {
        assert_eq!(app.publish(text).await.status(), 201, "{text}");
    }
    let log = app.log().await;
    for (text, _) in open {
        assert_eq!(log.iter().filter(|stored| *stored == text).count(), 1, "{text}");
    }
}
