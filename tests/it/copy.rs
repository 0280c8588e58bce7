//! `tidings copy`: a copy is the same store for every cursor and every retry, also after it was interrupted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::{Client, StatusCode};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::{
    built_site,
    deployment::{blocking, empty_database},
    events, lines, next,
    process::{Server, exit_status, start_refused, tidings},
};

/// The advisory lock that a copy holds.
const COPY_LOCK: i64 = 0x5469_6469_0000_0003;
/// Flags of a server that keeps few messages, so that it trims.
const FEW: [&str; 1] = ["--keep-messages=50"];
/// Flags of a server that keeps all messages.
const ALL: [&str; 2] = ["--keep-messages=1000000", "--keep-bytes=1GiB"];

/// A folder for files, and a database. None where `PostgreSQL` is not installed.
struct Stores {
    folder: TempDir,
    site: TempDir,
    url: String,
    client: Client,
}

impl Stores {
    async fn new(database: &'static str) -> Option<Self> {
        let (_, url) = blocking(|| empty_database(database)).await?;
        let folder = tempfile::tempdir().expect("a folder");
        let client = Client::builder().no_proxy().build().expect("a client");
        Some(Self { folder, site: built_site(), url, client })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, store: &str, flags: &[&str]) -> Server {
        Server::start(self.site.path(), &[&["--data", store], flags].concat())
    }

    /// A client of the database.
    async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url, NoTls).await.expect("a session");
        tokio::spawn(connection);
        client
    }

    /// Changes rows of the database.
    async fn execute(&self, sql: &str) {
        assert!(self.connect().await.execute(sql, &[]).await.expect("SQL") > 0, "{sql}");
    }

    /// Asserts that no server starts on a store, for this reason.
    fn assert_no_server(&self, store: &str, reason: &str) {
        let mut server = tidings();
        server.args(["--listen=127.0.0.1:0", "--data", store, "--site-root"]).arg(self.site.path());
        let mut server = server.stderr(Stdio::piped()).spawn().expect("a process");
        assert_eq!(exit_status(&mut server), Some(1));
        let stderr = server.wait_with_output().expect("an end").stderr;
        let stderr = String::from_utf8(stderr).expect("text");
        assert!(stderr.contains(reason), "{reason}: {stderr}");
    }

    /// A store with two streams of 100,000 messages each.
    async fn large_file(&self) -> PathBuf {
        let file = self.file("large.db");
        let server = self.start(text(&file), &ALL);
        for stream in ["first", "second"] {
            let body = lines((0..100_000).map(|number| format!("{stream} message {number}")));
            let url = format!("{}/streams/{stream}?lines", server.url());
            let response = self.client.post(url).body(body).send().await.expect("a response");
            assert_eq!(response.status(), StatusCode::OK);
        }
        stop(server);
        file
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert_eq!(exit_status(&mut server.process), Some(0));
}

fn copy(from: &str, to: &str) -> std::process::Command {
    let mut command = tidings();
    command.args(["copy", "--from", from, "--to", to]);
    command
}

/// Copies, and returns the line on standard output and the log.
fn copied(from: &str, to: &str) -> (String, String) {
    let Output { status, stdout, stderr } = copy(from, to).output().expect("a process");
    let stderr = String::from_utf8(stderr).expect("text");
    assert!(status.success(), "{stderr}");
    (String::from_utf8(stdout).expect("text"), stderr)
}

fn refused(from: &str, to: &str, status: i32, reason: &str) {
    let (output, stderr) = start_refused(&mut copy(from, to));
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(reason), "{reason}: {stderr}");
}

/// A client of one server.
struct Api<'a> {
    client: &'a Client,
    url: String,
}

impl<'a> Api<'a> {
    fn new(stores: &'a Stores, server: &Server) -> Self {
        Self { client: &stores.client, url: server.url() }
    }

    /// Publishes; returns the status, the id, and whether it is a replay.
    async fn publish(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        key: Option<&str>,
    ) -> (u16, String, bool) {
        let mut request = self.client.post(format!("{}/streams/{path}", self.url)).body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.expect("a response");
        let replayed = response.headers().contains_key("idempotency-replayed");
        let status = response.status().as_u16();
        let answer: Value = response.json().await.expect("JSON");
        let id = answer.get("id").or(answer.get("last_id")).and_then(Value::as_str);
        (status, id.unwrap_or_default().to_owned(), replayed)
    }

    async fn delete(&self, stream: &str) {
        let request = self.client.delete(format!("{}/streams/{stream}", self.url));
        assert_eq!(request.send().await.expect("a response").status(), StatusCode::NO_CONTENT);
    }

    /// The status and the bytes that these paths below `/streams/` return.
    async fn read(&self, paths: &[String]) -> BTreeMap<String, (u16, Vec<u8>)> {
        let mut answers = BTreeMap::new();
        for path in paths {
            let url = format!("{}/streams/{path}", self.url);
            let response = self.client.get(url).send().await.expect("a response");
            let status = response.status().as_u16();
            let bytes = response.bytes().await.expect("a body").to_vec();
            answers.insert(path.clone(), (status, bytes));
        }
        answers
    }

    /// The ids of the first events after a cursor.
    async fn watch(&self, stream: &str, cursor: &str, count: usize) -> Vec<String> {
        let request = self.client.get(format!("{}/streams/{stream}/events", self.url));
        let response = request.header("last-event-id", cursor).send().await.expect("a response");
        let events = events(response).take(count).map(|event| {
            let event = event.expect("a valid stream");
            assert_eq!(event.event, "new_message");
            event.id
        });
        events.collect().await
    }
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').expect("an id").1.parse().expect("a number")
}

/// What is published to the first store.
struct Published {
    /// The ids of the messages of `news`, and of `trimmed`.
    news: Vec<String>,
    trimmed: Vec<String>,
    /// The keys of `news`: path, body, key, id.
    keyed: Vec<(&'static str, String, String, String)>,
    /// The greatest sequence of a deleted stream.
    deleted: u64,
    /// The paths that return every stream as a whole and from cursors.
    paths: Vec<String>,
}

impl Published {
    async fn to(api: &Api<'_>) -> Self {
        for n in 0..7 {
            assert_eq!(api.publish("deleted", format!("deleted {n}"), None).await.0, 201);
        }
        api.delete("deleted").await;
        let (mut news, mut keyed) = (Vec::new(), Vec::new());
        for n in 0..3 {
            news.push(api.publish("news", format!("message {n}"), None).await.1);
            let batch = lines((0..4).map(|line| format!("batch {n}, line {line}")));
            for (path, body) in [("news", format!("keyed {n}")), ("news?lines", batch)] {
                let key = format!("{path} {n}");
                let (_, id, replayed) = api.publish(path, body.clone(), Some(&key)).await;
                assert!(!replayed);
                news.push(id.clone());
                keyed.push((path, body, key, id));
            }
        }
        let mut trimmed = Vec::new();
        for n in 0..80 {
            trimmed.push(api.publish("trimmed", format!("message {n}"), None).await.1);
        }
        let texts = [
            "a\0b".to_owned(),
            "\0".to_owned(),
            "one\r\ntwo\rthree\nfour\r".to_owned(),
            "👩‍👩‍👧‍👦 e\u{301} \u{feff}\u{2028}".to_owned(),
            "x".repeat(64 * 1024),
            "é".repeat(32 * 1024),
        ];
        for body in texts {
            assert_eq!(api.publish("texts", body, None).await.0, 201);
        }
        let mut ended = Vec::new();
        for n in 0..3 {
            ended.push(api.publish("ended", format!("act {n}"), None).await.1);
        }
        assert_eq!(api.publish("ended/end", "the\0end\r\n", None).await.0, 200);

        let mut paths = Vec::new();
        for stream in ["deleted", "ended", "news", "texts", "trimmed"] {
            paths.push(format!("{stream}/messages?limit=1000"));
            paths.push(format!("{stream}/messages?limit=3&before=latest"));
        }
        for id in &trimmed {
            paths.push(format!("trimmed/messages?limit=1000&after={id}"));
            paths.push(format!("trimmed/messages?limit=2&before={id}"));
        }
        // An event stream that ends by itself.
        for id in ["earliest", &ended[0], &ended[2], "1-1"] {
            paths.push(format!("ended/events?last_event_id={id}"));
        }
        Self { news, trimmed, keyed, deleted: 7, paths }
    }

    /// Asserts that a server returns the same as before, and knows every key.
    async fn assert_same(&self, api: &Api<'_>, expected: &BTreeMap<String, (u16, Vec<u8>)>) {
        let found = api.read(&self.paths).await;
        for (path, expected) in expected {
            assert!(found[path] == *expected, "{path}: {:?}, not {expected:?}", found[path]);
        }
        let middle = self.news.len() / 2;
        let followed = api.watch("news", &self.news[middle], 1).await;
        assert!(sequence(&followed[0]) == sequence(&self.news[middle]) + 1);
        for (path, body, key, id) in &self.keyed {
            let (status, replayed_id, replayed) = api.publish(path, body.clone(), Some(key)).await;
            assert!(
                replayed && &replayed_id == id && status < 300,
                "{key}: {status} {replayed_id}"
            );
            assert_eq!(api.publish(path, "another text", Some(key)).await.0, 422, "{key}");
        }
        assert_eq!(api.publish("ended", "late", None).await.0, 409);
    }

    /// Asserts that a new message follows the last one, and a new stream every stream before it.
    async fn assert_continues(&self, api: &Api<'_>, new_stream: &str) {
        let response = api.client.get(format!("{}/streams/news/events", api.url));
        let newest = api.read(&["news/messages?limit=1&before=latest".to_owned()]).await;
        let newest: Value =
            serde_json::from_slice(&newest.first_key_value().expect("one").1.1).expect("JSON");
        let newest = newest["messages"][0]["id"].as_str().expect("an id");
        let response = response.header("last-event-id", newest).send().await;
        let mut watcher = events(response.expect("a response"));
        let (_, id, _) = api.publish("news", "after the copy", None).await;
        assert_eq!(sequence(&id), sequence(newest) + 1);
        let event = next(&mut watcher).await;
        assert_eq!((event.id, event.data.as_str()), (id, "after the copy"));
        let (_, id, _) = api.publish(new_stream, "hello", None).await;
        assert_eq!(sequence(&id), self.deleted + 1, "no id of a deleted stream is assigned again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_the_same_for_every_cursor_and_key() {
    let Some(stores) = Stores::new("copy_same").await else { return };
    let (file, back) = (stores.file("tidings.db"), stores.file("back.db"));
    let server = stores.start(text(&file), &FEW);
    let api = Api::new(&stores, &server);
    let published = Published::to(&api).await;
    let expected = api.read(&published.paths).await;
    let known = |id: &String| expected[&format!("trimmed/messages?limit=1000&after={id}")].0 == 200;
    let first_known = published.trimmed.iter().position(known).expect("a known cursor");
    assert!(first_known > 0, "some messages are trimmed, and the newest of them is a cursor");
    stop(server);
    let original = fs::read(&file).expect("a file");

    let (summary, log) = copied(text(&file), &stores.url);
    assert!(summary.starts_with("Copied and verified: 4 streams, "), "{summary}");
    assert!(summary.ends_with(", 6 idempotency keys\n"), "{summary}");
    assert!(log.contains("copying") && log.contains("verifying the copy"), "{log}");
    assert!(fs::read(&file).expect("a file") == original, "the source is not changed");
    let server = stores.start(&stores.url, &FEW);
    let api = Api::new(&stores, &server);
    published.assert_same(&api, &expected).await;
    published.assert_continues(&api, "created-in-the-database").await;
    let expected = api.read(&published.paths).await;
    server.kill();

    let (summary, _) = copied(&stores.url, text(&back));
    assert!(summary.starts_with("Copied and verified: 5 streams, "), "{summary}");
    let server = stores.start(text(&back), &FEW);
    let api = Api::new(&stores, &server);
    published.assert_same(&api, &expected).await;
    published.assert_continues(&api, "created-in-the-file").await;
    stop(server);
    let store = Connection::open(&back).expect("a file");
    let check: String =
        store.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("an answer");
    assert_eq!(check, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_continues_after_a_kill() {
    let Some(stores) = Stores::new("copy_killed").await else { return };
    let large = stores.large_file().await;
    let kill = |mut process: Child| {
        process.kill().expect("it runs");
        process.wait().expect("an end");
    };

    let client = stores.connect().await;
    let process = copy(text(&large), &stores.url).stderr(Stdio::null()).spawn().expect("a process");
    let count = async || {
        let has_table = "SELECT to_regclass('tidings.messages') IS NOT NULL";
        if !client.query_one(has_table, &[]).await.expect("SQL").get::<_, bool>(0) {
            return 0;
        }
        let count = "SELECT count(*) FROM tidings.messages";
        client.query_one(count, &[]).await.expect("SQL").get::<_, i64>(0)
    };
    for _ in 0..12_000 {
        if count().await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill(process);
    let reached = count().await;
    assert!(reached > 0 && reached < 200_000, "{reached}");
    stores.assert_no_server(&stores.url, "unfinished copy");
    let (summary, log) = copied(text(&large), &stores.url);
    assert!(summary.starts_with("Copied and verified: 2 streams, 200000 messages, "), "{summary}");
    assert!(log.contains("continuing the copy"), "{log}");

    let back = stores.file("back.db");
    let process = copy(&stores.url, text(&back)).stderr(Stdio::null()).spawn().expect("a process");
    let size = |suffix| fs::metadata(stores.file(suffix)).map_or(0, |file| file.len());
    for _ in 0..12_000 {
        if size("back.db") + size("back.db-wal") > 500_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill(process);
    stores.assert_no_server(text(&back), "unfinished copy");
    let (_, log) = copied(&stores.url, text(&back));
    assert!(log.contains("continuing the copy"), "{log}");
    let rows = "SELECT name, base, s.seq, s.millis, s.trimmed, s.count, s.bytes, key & 0xffffffffff, \
                m.millis, data FROM one.messages m JOIN one.streams s ON s.slot = key >> 40";
    let compare = Connection::open_in_memory().expect("a database");
    for (file, name) in [(&large, "one"), (&back, "other")] {
        compare.execute(&format!("ATTACH ?1 AS {name}"), [text(file)]).expect("attached");
    }
    let different = format!(
        "SELECT (SELECT count(*) FROM ({rows} EXCEPT {other})), (SELECT count(*) FROM ({rows}))",
        other = rows.replace("one.", "other.")
    );
    let different = compare.query_row(&different, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(different, Ok((0, 200_000)));
    stop(stores.start(text(&back), &ALL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_in_use_or_not_empty_is_refused() {
    let Some(stores) = Stores::new("copy_in_use").await else { return };
    let (file, new) = (stores.file("tidings.db"), stores.file("new.db"));
    let (file, new) = (text(&file), text(&new));
    refused(file, &stores.url, 1, "there is no file");
    refused(&stores.url, new, 1, "the database holds no store");
    let server = stores.start(file, &[]);
    assert_eq!(Api::new(&stores, &server).publish("news", "hello", None).await.0, 201);
    refused(file, &stores.url, 1, "another server holds");
    // It leaves a write-ahead log.
    server.kill();

    // A server that has stored nothing yet.
    let server = stores.start(&stores.url, &[]);
    refused(file, &stores.url, 1, "a server uses the database");
    refused(&stores.url, new, 1, "a server uses the database");
    assert_eq!(Api::new(&stores, &server).publish("news", "other", None).await.0, 201);
    stop(server);
    refused(file, &stores.url, 1, "the database holds a store");
    refused(&stores.url, file, 1, "it holds a store");

    let client = stores.connect().await;
    client.execute("SELECT pg_advisory_lock($1)", &[&COPY_LOCK]).await.expect("a lock");
    stores.assert_no_server(&stores.url, "`tidings copy` uses the database");
    refused(&stores.url, new, 1, "another `tidings copy` uses the database");
    client.execute("SELECT pg_advisory_unlock($1)", &[&COPY_LOCK]).await.expect("unlocked");

    client.batch_execute("DROP SCHEMA tidings CASCADE").await.expect("dropped");
    // A store that a server has created, and not used.
    stop(stores.start(&stores.url, &[]));
    copied(file, &stores.url);
    let server = stores.start(&stores.url, &[]);
    let api = Api::new(&stores, &server);
    assert_eq!(api.watch("news", "earliest", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_keeps_a_copy_unfinished() {
    let Some(stores) = Stores::new("copy_differs").await else { return };
    let file = stores.file("tidings.db");
    let file = text(&file);
    let server = stores.start(file, &FEW);
    Published::to(&Api::new(&stores, &server)).await;
    stop(server);
    copied(file, &stores.url);
    let unfinished = "UPDATE tidings.store SET version = -abs(version)";
    let of_news = "stream = (SELECT stream FROM tidings.streams WHERE name = 'news')";
    let changes = [
        ("messages", "SET data = data || 'x'::bytea WHERE seq = 10", "the message"),
        ("messages", "SET millis = millis + 1 WHERE seq = 10", "the message"),
        ("messages", "SET seq = seq + 1000000 WHERE seq = 10", "the message"),
        (
            "keys",
            "SET digest = '\\x00112233445566778899aabbccddeeff' WHERE seq > 10",
            "the idempotency key",
        ),
        ("keys", "SET used = used + 1 WHERE seq > 10", "the idempotency key"),
        ("streams", "SET count = count + 1 WHERE seq > 10", "the counts of the stream news"),
        ("streams", "SET bytes = bytes - 1 WHERE seq > 10", "the counts of the stream news"),
        ("streams", "SET keys = keys + 1 WHERE seq > 10", "the counts of the stream news"),
        ("streams", "SET closing = '' WHERE seq > 10", "(stream news)"),
        ("streams", "SET seq = seq + 1 WHERE seq > 10", "(stream news)"),
        ("streams", "SET trimmed_millis = 1 WHERE seq > 10", "(stream news)"),
        ("streams", "SET name = 'newz' WHERE seq > 10", "(stream news)"),
    ];
    for (table, change, reason) in changes {
        stores.execute(unfinished).await;
        let client = stores.connect().await;
        client
            .batch_execute(&format!("CREATE TABLE saved AS TABLE tidings.{table}"))
            .await
            .expect("saved");
        stores.execute(&format!("UPDATE tidings.{table} {change} AND {of_news}")).await;
        refused(file, &stores.url, 1, reason);
        stores.assert_no_server(&stores.url, "unfinished copy");
        let restore = format!(
            "TRUNCATE tidings.{table}; INSERT INTO tidings.{table} TABLE saved; DROP TABLE saved"
        );
        client.batch_execute(&restore).await.expect("restored");
    }
    // What is missing at the end is copied.
    stores.execute("DELETE FROM tidings.streams WHERE name = 'trimmed'").await;
    stores
        .execute(
            "DELETE FROM tidings.messages WHERE stream NOT IN (SELECT stream FROM tidings.streams)",
        )
        .await;
    copied(file, &stores.url);
    stop(stores.start(&stores.url, &FEW));
}

#[test]
fn a_copy_from_or_to_the_wrong_kind_of_store_is_refused() {
    let database = "postgres://user@host/database";
    for (from, to, reason) in [
        ("one.db", "other.db", "VACUUM INTO"),
        (database, database, "pg_dump"),
        (":memory:", database, "in memory"),
        (database, ":memory:", "in memory"),
        ("one.db", "postgres://user:secret@host/database", "--data-password-file"),
        ("postgres://user:secret@host/database", "one.db", "--data-password-file"),
        ("one.db", "postgres://host/database", "name a user"),
    ] {
        refused(from, to, 2, reason);
    }
}
