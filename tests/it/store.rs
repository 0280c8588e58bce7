//! The database file: which files are refused, damage, permissions, and a full disk.

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
    NOW, TestApp, built_site, events, lines, next,
    process::{Server, start_refused, tidings},
    read_history,
};

/// A store with a stream of 5,000 messages: its folder, and the file.
async fn filled_store() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    app.publish_lines("news", lines((0..5_000).map(|n| format!("message {n}")))).await;
    app.stop().await;
    (folder, file)
}

/// Asserts that a server refuses the file with one line that names it and the reason, and does not change
/// it.
fn assert_file_refused(file: &Path, reason: &str) {
    let before = fs::read(file).ok();
    let site = built_site();
    let (output, stderr) =
        start_refused(tidings().arg("--data").arg(file).arg("--site-root").arg(site.path()));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(file.to_str().expect("text")) && stderr.contains(reason),
        "{reason}: {stderr}"
    );
    assert_eq!(fs::read(file).ok(), before, "{reason}: the file was changed");
}

/// Overwrites a part of a file.
fn overwrite(file: &Path, from: u64, length: usize) {
    let mut file = fs::File::options().write(true).open(file).expect("a file");
    file.seek(SeekFrom::Start(from)).expect("an offset");
    file.write_all(&vec![0xA5; length]).expect("written");
}

#[tokio::test]
async fn a_file_locked_by_another_server_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    app.publish("news", "hello").await;
    assert_file_refused(&file, "another server holds");
    app.publish("news", "undisturbed").await;
    assert_eq!(app.log("news").await.len(), 2);
}

#[tokio::test]
async fn a_store_of_a_newer_server_is_refused() {
    let (_folder, file) = filled_store().await;
    let other = Connection::open(&file).expect("a database");
    other.pragma_update(None, "user_version", 99).expect("updated");
    other.close().expect("closed");
    assert_file_refused(&file, "newer Tidings (schema 99)");
}

#[test]
fn a_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shopping.txt");
    fs::write(&file, "eggs, milk, a hundred other things\n".repeat(1_000)).expect("a file");
    assert_file_refused(&file, "not a Tidings store");

    let file = folder.path().join("shopping.db");
    let other = Connection::open(&file).expect("a database");
    other
        .execute_batch("CREATE TABLE eggs (count INTEGER); INSERT INTO eggs VALUES (6)")
        .expect("made");
    other.close().expect("closed");
    assert_file_refused(&file, "another program");
}

/// Marks a store as one whose server was killed.
fn mark_as_killed(file: &Path) {
    let store = Connection::open(file).expect("a database");
    store.execute("UPDATE store SET clean = 0", []).expect("updated");
    store.close().expect("closed");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_folder, file) = filled_store().await;
    mark_as_killed(&file);
    let intact = fs::read(&file).expect("a file");
    let length = u64::try_from(intact.len()).expect("a length");
    for (from, bytes) in [(length / 2, 20_000), (4096, 4096), (100, 50), (length - 8192, 8192)] {
        overwrite(&file, from, bytes);
        assert_file_refused(&file, "damaged");
        fs::write(&file, &intact).expect("restored");
    }
    fs::write(&file, &intact[..intact.len() / 2]).expect("cut off");
    assert_file_refused(&file, "damaged");
    fs::write(&file, &intact).expect("restored");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    assert_eq!(app.log("news").await.len(), 5_000, "the restored file is accepted");
}

/// After an orderly shutdown the file is served at once: damage found by the quick check is refused, other
/// damage is found by the check in the background.
#[tokio::test]
async fn damage_found_in_the_background_is_reported() {
    let (_folder, file) = filled_store().await;
    let intact = fs::read(&file).expect("a file");
    let length = u64::try_from(intact.len()).expect("a length");
    overwrite(&file, 100, 50);
    assert_file_refused(&file, "damaged");
    fs::write(&file, &intact[..intact.len() / 2]).expect("cut off");
    assert_file_refused(&file, "damaged");

    fs::write(&file, &intact).expect("restored");
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
    let metrics = app.client.get(&app.metrics).send().await.expect("a response");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("\ntidings_store_damaged 1\n"), "{metrics}");
    app.publish("other", "intact parts are still usable").await;
    app.stop().await;
    assert_file_refused(&file, "damaged");
}

/// Damage that occurs after the check is reported as well.
#[tokio::test]
async fn damage_found_by_a_read_is_reported() {
    let (_folder, file) = filled_store().await;
    mark_as_killed(&file);
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
    assert_file_refused(&file, "damaged");
}

/// A file that was prepared for the store keeps its owner and permissions: it stays the same file.
#[cfg(unix)]
#[tokio::test]
async fn an_empty_file_is_used_and_keeps_its_inode_and_mode() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["touched.db", "created.db"] {
        let file = folder.path().join(name);
        fs::write(&file, "").expect("a file");
        if name == "created.db" {
            // By a program that has set a page size and a journal mode, which would persist.
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
async fn the_files_of_a_store_are_private_to_their_owner() {
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
fn a_file_that_cannot_be_created_or_opened_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_file_refused(&folder.path().join("nowhere/tidings.db"), "cannot create");
    assert_file_refused(folder.path(), "cannot be opened");
}

/// A server whose files cannot grow beyond a number of blocks of 512 bytes.
struct FullDiskServer {
    inner: Server,
    client: Client,
}

impl FullDiskServer {
    fn start(file: &Path, site: &Path, blocks: usize) -> Self {
        let mut shell = Command::new("sh");
        let run = format!(r#"trap "" XFSZ; ulimit -S -f {blocks}; exec "$0" "$@""#);
        shell.args(["-c", &run, env!("CARGO_BIN_EXE_tidings"), "--listen", "127.0.0.1:0"]);
        shell.arg("--data").arg(file).arg("--site-root").arg(site);
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { inner: Server::spawn(&mut shell), client }
    }

    async fn publish(&self, text: &str) -> Response {
        let request = self.client.post(self.url("/streams/news")).header("idempotency-key", text);
        request.body(text.repeat(500)).send().await.expect("a response")
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.expect("a response")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.inner.url())
    }

    /// Lifts the limit on files; returns whether this system can do that.
    fn lift_limit(&self) -> bool {
        let process = self.inner.process.id().to_string();
        let lift = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status();
        lift.is_ok_and(|status| status.success())
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_survives_a_full_disk() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    let server = FullDiskServer::start(&file, site.path(), 800);
    let mut reader = events(server.get("/streams/news/events").await);

    let mut acknowledged = Vec::new();
    let (refused_text, refusal) = loop {
        let text = format!("message {}", acknowledged.len());
        let response = server.publish(&text).await;
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
    assert!(detail.contains("disk") || detail.contains("I/O"), "the reason: {detail}");
    assert!(acknowledged.len() > 10, "only {} acknowledged", acknowledged.len());

    // Smaller messages may still fit, large ones do not.
    for path in ["/streams/news?lines", "/streams/news/end", "/streams/other"] {
        let large = server.client.post(server.url(path)).body("x".repeat(64 * 1024)).send().await;
        assert_eq!(large.expect("a response").status(), 503, "{path}");
    }
    // The server retries, and room for a smaller write does not make it ready.
    for _ in 0..20 {
        let ready = server.get("/health/ready").await;
        assert_eq!(ready.status(), 503);
        let problem: Value = ready.json().await.expect("JSON");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains("Not ready") && detail.contains("the store"), "{detail}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server.get("/health/live").await.status(), 200);
    let history = server.url("/streams/news/messages");
    assert_eq!(
        read_history(&server.client, &history).await,
        acknowledged,
        "reading is still possible"
    );
    for (id, text) in &acknowledged {
        let event = next(&mut reader).await;
        assert_eq!((&event.id, &event.data), (id, text));
    }

    if !server.lift_limit() {
        eprintln!("skipped: without prlimit the recovery cannot be tested");
        return;
    }
    for _ in 0..600 {
        if server.get("/health/ready").await.status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let response = server.publish(&refused_text).await;
    assert_eq!(response.status(), 201, "the server has recovered");
    assert!(!response.headers().contains_key("idempotency-replayed"), "nothing was stored");
    let accepted: Value = response.json().await.expect("JSON");
    acknowledged
        .push((accepted["id"].as_str().expect("an id").to_owned(), refused_text.repeat(500)));
    assert_eq!(next(&mut reader).await.id, accepted["id"], "no other message");
    assert_eq!(read_history(&server.client, &history).await, acknowledged);

    server.inner.kill();
    let app = TestApp::start_on(&file, NOW, &[]).await;
    assert_eq!(app.log("news").await, acknowledged);
}
