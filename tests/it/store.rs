//! The store as a file: which are refused, and what happens when the disk is full.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::{Client, Response};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    NOW, TestApp, all_pages, built_site, events, lines, next,
    process::{Server, refused, tidings},
};

/// A file with a stream of some thousand messages, and the folder that holds it.
async fn stored() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    app.publish_lines("news", lines((0..5_000).map(|n| format!("message {n}")))).await;
    app.stop().await;
    (folder, file)
}

/// A server refuses the file, in a line that names it and says why; and leaves it as it was.
fn is_refused(file: &Path, why: &str) {
    let before = fs::read(file).ok();
    let site = built_site();
    let (output, said) =
        refused(tidings().arg("--data").arg(file).arg("--site-root").arg(site.path()));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(file.to_str().expect("text")) && said.contains(why), "{why}: {said}");
    assert_eq!(fs::read(file).ok(), before, "{why}: the file is not what it was");
}

/// Writes over a part of a file.
fn overwrite(file: &Path, from: u64, length: usize) {
    let mut file = fs::File::options().write(true).open(file).expect("a file");
    file.seek(SeekFrom::Start(from)).expect("a place");
    file.write_all(&vec![0xA5; length]).expect("written");
}

#[tokio::test]
async fn a_file_that_another_server_holds_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    app.publish("news", "hello").await;
    is_refused(&file, "another server holds");
    app.publish("news", "undisturbed").await;
    assert_eq!(app.log("news").await.len(), 2);
}

#[tokio::test]
async fn a_store_of_a_newer_server_is_refused() {
    let (_folder, file) = stored().await;
    let other = Connection::open(&file).expect("a database");
    other.pragma_update(None, "user_version", 99).expect("updated");
    other.close().expect("closed");
    is_refused(&file, "newer Tidings (schema 99)");
}

#[test]
fn a_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shopping.txt");
    fs::write(&file, "eggs, milk, a hundred other things\n".repeat(1_000)).expect("a file");
    is_refused(&file, "not a Tidings store");

    let file = folder.path().join("shopping.db");
    let other = Connection::open(&file).expect("a database");
    other
        .execute_batch("CREATE TABLE eggs (count INTEGER); INSERT INTO eggs VALUES (6)")
        .expect("made");
    other.close().expect("closed");
    is_refused(&file, "another program");
}

/// Makes of a store one whose server was killed.
fn was_killed(file: &Path) {
    let store = Connection::open(file).expect("a database");
    store.execute("UPDATE store SET clean = 0", []).expect("updated");
    store.close().expect("closed");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_folder, file) = stored().await;
    was_killed(&file);
    let sound = fs::read(&file).expect("a file");
    let length = u64::try_from(sound.len()).expect("a length");
    for (from, bytes) in [(length / 2, 20_000), (4096, 4096), (100, 50), (length - 8192, 8192)] {
        overwrite(&file, from, bytes);
        is_refused(&file, "damaged");
        fs::write(&file, &sound).expect("mended");
    }
    fs::write(&file, &sound[..sound.len() / 2]).expect("cut off");
    is_refused(&file, "damaged");
    fs::write(&file, &sound).expect("mended");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    assert_eq!(app.log("news").await.len(), 5_000, "it was only the damage");
}

/// A server that stopped in order leaves a file that is served at once: what can be seen at a glance
/// is refused all the same, and the rest is found in the background.
#[tokio::test]
async fn damage_that_is_found_in_the_background_is_loud() {
    let (_folder, file) = stored().await;
    let sound = fs::read(&file).expect("a file");
    let length = u64::try_from(sound.len()).expect("a length");
    overwrite(&file, 100, 50);
    is_refused(&file, "damaged");
    fs::write(&file, &sound[..sound.len() / 2]).expect("cut off");
    is_refused(&file, "damaged");

    fs::write(&file, &sound).expect("mended");
    overwrite(&file, length / 2, 20_000);
    let app = TestApp::start_on(&file, NOW, &[]).await;
    let mut detail = String::new();
    for _ in 0..600 {
        let ready = app.get("/health/ready").await;
        if ready.status() == 503 {
            let problem: Value = ready.json().await.expect("JSON");
            problem["detail"].as_str().expect("text").clone_into(&mut detail);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(detail.contains("Not ready") && detail.contains("its file is damaged"), "{detail}");
    let metrics = app.client.get(&app.metrics).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("\ntidings_store_damaged 1\n"), "{metrics}");
    app.publish("other", "it goes on as far as it can").await;
    app.stop().await;
    is_refused(&file, "damaged");
}

/// Damage that was not there when the file was checked is as loud as damage that the check finds.
#[tokio::test]
async fn damage_that_a_reader_meets_with_is_loud() {
    let (_folder, file) = stored().await;
    was_killed(&file);
    let app = TestApp::start_on(&file, NOW, &[]).await;
    assert_eq!(app.get("/health/ready").await.status(), 200, "it was checked before it is served");
    let length = fs::metadata(&file).expect("a file").len();
    overwrite(&file, 8192, usize::try_from(length).expect("a length") - 8192);
    let read = app.get("/streams/news/messages?limit=1000").await;
    assert_eq!(read.status(), 503);
    let ready: Value = app.get("/health/ready").await.json().await.expect("JSON");
    let detail = ready["detail"].as_str().expect("text");
    assert!(detail.contains("its file is damaged"), "{detail}");
    app.stop().await;
    is_refused(&file, "damaged");
}

/// A file that was prepared for the store keeps its owner and permissions: it stays the same file.
#[cfg(unix)]
#[tokio::test]
async fn an_empty_file_is_taken_as_it_is() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["touched.db", "created.db"] {
        let file = folder.path().join(name);
        fs::write(&file, "").expect("a file");
        if name == "created.db" {
            // By a program that has chosen what would stay.
            let other = Connection::open(&file).expect("a database");
            other.execute_batch("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL").expect("set");
            other.execute_batch("CREATE TABLE t (x); DROP TABLE t; VACUUM").expect("made");
            other.close().expect("closed");
            assert!(fs::metadata(&file).expect("a file").len() > 0);
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let before = fs::metadata(&file).expect("a file");
        let app = TestApp::start_on(&file, NOW, &[]).await;
        app.publish("news", "hello").await;
        let after = fs::metadata(&file).expect("a file");
        assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()), "{name}");
        app.stop().await;
        let store = Connection::open(&file).expect("a database");
        let number = |pragma| store.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        assert_eq!((number("page_size"), number("auto_vacuum")), (Ok(4096), Ok(2)), "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_stored_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("tidings.db"), NOW, &[]).await;
    app.publish("news", "hello").await;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).expect("a folder").flatten() {
        let mode = entry.metadata().expect("a file").permissions().mode();
        names.push(entry.file_name().into_string().expect("text"));
        assert_eq!(mode & 0o777, 0o600, "{names:?}");
    }
    names.sort();
    assert_eq!(names, ["tidings.db", "tidings.db-shm", "tidings.db-wal", "tidings.db.lock"]);
}

#[test]
fn a_file_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    is_refused(&folder.path().join("nowhere/tidings.db"), "cannot create");
    is_refused(folder.path(), "cannot be opened");
}

/// A stream on a server whose files can not grow beyond `blocks` of half a KiB.
struct Full {
    server: Server,
    client: Client,
}

impl Full {
    fn start(file: &Path, site: &Path, blocks: usize) -> Self {
        let mut shell = Command::new("sh");
        let run = format!(r#"trap "" XFSZ; ulimit -S -f {blocks}; exec "$0" "$@""#);
        shell.args(["-c", &run, env!("CARGO_BIN_EXE_tidings"), "--listen", "127.0.0.1:0"]);
        shell.arg("--data").arg(file).arg("--site-root").arg(site);
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { server: Server::spawn(&mut shell), client }
    }

    async fn publish(&self, text: &str) -> Response {
        let request = self.client.post(self.at("/streams/news")).header("idempotency-key", text);
        request.body(text.repeat(500)).send().await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.at(path)).send().await.expect("an answer")
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Lets the files grow. Tells whether this system can do that.
    fn make_room(&self) -> bool {
        let process = self.server.process.id().to_string();
        let lift = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status();
        lift.is_ok_and(|status| status.success())
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_survived() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    let full = Full::start(&file, site.path(), 800);
    let mut reader = events(full.get("/streams/news/events").await);

    let mut acknowledged = Vec::new();
    let (refused, refusal) = loop {
        let text = format!("message {}", acknowledged.len());
        let response = full.publish(&text).await;
        if response.status() != 201 {
            break (text, response);
        }
        let accepted: Value = response.json().await.expect("JSON");
        acknowledged.push((accepted["id"].as_str().expect("an id").to_owned(), text.repeat(500)));
        assert!(acknowledged.len() < 10_000, "the disk is not full");
    };
    assert_eq!(refusal.status(), 503);
    assert!(refusal.headers().contains_key("retry-after"));
    let problem: Value = refusal.json().await.expect("JSON");
    assert_eq!(problem["type"], "/problems#store-unavailable");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("disk") || detail.contains("I/O"), "what happened: {detail}");
    assert!(acknowledged.len() > 10, "{} before that", acknowledged.len());

    // What is smaller may still find room: these do not.
    for path in ["/streams/news?lines", "/streams/news/end", "/streams/other"] {
        let large = full.client.post(full.at(path)).body("x".repeat(64 * 1024)).send().await;
        assert_eq!(large.expect("an answer").status(), 503, "{path}");
    }
    // It tries by itself, and is not deceived by room for less.
    for _ in 0..20 {
        let ready = full.get("/health/ready").await;
        assert_eq!(ready.status(), 503);
        let problem: Value = ready.json().await.expect("JSON");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains("Not ready") && detail.contains("the store"), "{detail}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(full.get("/health/live").await.status(), 200);
    let history = full.at("/streams/news/messages");
    assert_eq!(all_pages(&full.client, &history).await, acknowledged, "who reads goes on");
    for (id, text) in &acknowledged {
        let event = next(&mut reader).await;
        assert_eq!((&event.id, &event.data), (id, text));
    }

    if !full.make_room() {
        eprintln!("without prlimit nobody sees it recover");
        return;
    }
    for _ in 0..600 {
        if full.get("/health/ready").await.status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let response = full.publish(&refused).await;
    assert_eq!(response.status(), 201, "it finds out by itself");
    assert!(!response.headers().contains_key("idempotency-replayed"), "nothing was stored");
    let accepted: Value = response.json().await.expect("JSON");
    acknowledged.push((accepted["id"].as_str().expect("an id").to_owned(), refused.repeat(500)));
    assert_eq!(next(&mut reader).await.id, accepted["id"], "nothing in between");
    assert_eq!(all_pages(&full.client, &history).await, acknowledged);

    full.server.kill();
    let app = TestApp::start_on(&file, NOW, &[]).await;
    assert_eq!(app.log("news").await, acknowledged);
}
