//! Schema migration: a store of Tidings 0.1 (schema 1), written by that release and kept in
//! `tests/fixtures`, is upgraded completely, even if the server is killed at any moment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    TestApp, built_site,
    faults::{EIO, ENOSPC, Faults, kill_after},
    process::{Server, start_refused, tidings},
    read_history,
};

/// The server is killed before every `STRIDE`th call, and before each of the last `LAST` calls.
const STRIDE: usize = 4;
const LAST: usize = 16;

/// The contents of a fixture as the release that wrote it returned them: ids and texts.
#[derive(Debug, Deserialize)]
struct Expected {
    streams: BTreeMap<String, Stream>,
    /// Stream, idempotency key, message and id.
    keys: Vec<[String; 4]>,
    /// Ids of deleted streams.
    gone: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    messages: Vec<(String, String)>,
    end: Option<(String, String)>,
}

/// A copy of a fixture: its folder, the file, and its contents.
struct Fixture {
    folder: TempDir,
    file: PathBuf,
    expected: Expected,
}

impl Fixture {
    /// `schema-1` was closed; `schema-1-killed` was not, and has a part of it in its write-ahead log.
    fn copy(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let file = folder.path().join("tidings.db");
        for suffix in ["", "-wal"] {
            let from = fixtures.join(format!("{name}.db{suffix}"));
            if from.exists() {
                fs::copy(from, format!("{}{suffix}", file.display())).expect("copied");
            }
        }
        let expected = fs::read_to_string(fixtures.join(format!("{name}.json"))).expect("text");
        let expected = serde_json::from_str(&expected).expect("JSON");
        Self { folder, file, expected }
    }

    /// The Unix time of its newest message in milliseconds: later, its messages would be too old.
    fn now(&self) -> u64 {
        let ids = self.expected.streams.values().flat_map(|stream| &stream.messages);
        ids.map(|(id, _)| millis(id)).max().expect("messages")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a file")
    }

    /// Whether the folder holds no other files than the database and its lock.
    fn has_no_leftovers(&self) -> bool {
        let names = fs::read_dir(self.folder.path()).expect("a folder").flatten();
        let names: Vec<_> =
            names.map(|entry| entry.file_name().into_string().expect("text")).collect();
        names.iter().all(|name| ["tidings.db", "tidings.db.lock"].contains(&&**name))
    }
}

fn millis(id: &str) -> u64 {
    id.split_once('-').expect("an id").0.parse().expect("a number")
}

/// Asserts that a server on an upgraded store returns the contents of the fixture.
async fn assert_complete(client: &reqwest::Client, url: &str, expected: &Expected) {
    for (name, stream) in &expected.streams {
        let history = format!("{url}/streams/{name}/messages");
        assert_eq!(read_history(client, &history).await, stream.messages, "{name}");
        let page: Value =
            client.get(&history).send().await.expect("a response").json().await.expect("JSON");
        let end = stream.end.as_ref().map(|(id, _)| &id[..]);
        assert_eq!(page["ended"]["id"].as_str(), end, "{name}");
    }
    for [stream, key, text, id] in &expected.keys {
        let publish = |text: String| {
            let request = client.post(format!("{url}/streams/{stream}"));
            request.header("idempotency-key", key).body(text).send()
        };
        let retry = publish(text.clone()).await.expect("a response");
        assert_eq!(retry.status(), 201, "{key}");
        assert!(retry.headers().contains_key("idempotency-replayed"), "{key}");
        let accepted: Value = retry.json().await.expect("JSON");
        assert_eq!(accepted["id"], **id, "{key}");
        let other = publish(format!("{text}!")).await.expect("a response");
        assert_eq!(other.status(), 422, "{key}");
    }
}

fn open(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

#[tokio::test]
async fn a_store_of_the_first_release_is_upgraded_completely() {
    for name in ["schema-1", "schema-1-killed"] {
        let fixture = Fixture::copy(name);
        // The second start finds an upgraded store.
        for _ in 0..2 {
            let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
            assert_complete(&app.client, &app.url, &fixture.expected).await;
            for id in &fixture.expected.gone {
                let path = format!("/streams/again/messages?after={id}");
                assert_eq!(app.get(&path).await.status(), 404, "{id} was deleted");
            }
            app.stop().await;
            assert!(fixture.has_no_leftovers());
        }
        let number = |pragma: &str| {
            open(&fixture.file).pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        };
        assert_eq!(number("user_version"), Ok(2));
        assert_eq!(number("auto_vacuum"), Ok(2), "incremental");
        let deleted = b"SECRET";
        assert!(!fixture.bytes().windows(deleted.len()).any(|bytes| bytes == deleted));
    }
}

#[tokio::test]
async fn an_upgraded_stream_accepts_messages_and_applies_retention() {
    let fixture = Fixture::copy("schema-1");
    let later = fixture.now() + 1000;
    let app = TestApp::start_on(&fixture.file, later, &["--keep-messages", "100"]).await;
    let before = app.log("trimmed").await;
    let id = app.publish("trimmed", "one more").await;
    assert!(millis(&id) >= later, "{id}");
    let after = app.log("trimmed").await;
    assert_eq!(after.len(), before.len());
    assert_eq!(after[..99], before[1..]);
    app.delete("news").await;
    let id = app.publish("news", "created again").await;
    assert!(millis(&id) >= later, "{id}");
    let old_messages = &fixture.expected.streams["news"].messages;
    let (last, _) = old_messages.last().expect("messages");
    assert_eq!(app.get(&format!("/streams/news/messages?after={last}")).await.status(), 404);
}

/// A command that starts a server on a fixture, with fault injection.
fn upgrade_command(fixture: &Fixture, faults: &Faults, site: &Path) -> std::process::Command {
    let mut command = tidings();
    // The messages of a fixture must not be too old.
    command.args(["--listen=127.0.0.1:0", "--keep-age=10y", "--data"]).arg(&fixture.file);
    command.arg("--site-root").arg(site);
    faults.preload(&mut command);
    command
}

/// Kills the server before every few of the calls that change a file, from the first one until it serves:
/// whatever is on the disk then, the next server completes the upgrade.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_survives_a_kill_at_any_moment() {
    let site = built_site();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let fault_folder = tempfile::tempdir().expect("a folder");
    let reference = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&reference.file, fault_folder.path());
    Server::spawn(&mut upgrade_command(&reference, &faults, site.path())).kill();
    let total = faults.calls().len();
    let kill_points = (0..total).filter(|calls| calls % STRIDE == 0 || calls + LAST >= total);
    let mut killed = 0;
    for calls in kill_points {
        let fixture = Fixture::copy("schema-1-killed");
        let faults = Faults::new(&fixture.file, fault_folder.path());
        faults.set(&[kill_after(calls)]);
        let output = upgrade_command(&fixture, &faults, site.path()).output().expect("a process");
        // A killed process has no exit code.
        assert_eq!(output.status.code(), None, "{calls} of {total}");
        killed += 1;
        faults.set(&[]);
        let server = Server::spawn(&mut upgrade_command(&fixture, &faults, site.path()));
        assert_complete(&client, &server.url(), &fixture.expected).await;
        server.kill();
    }
    assert!(killed > 2 * 10, "{killed} kills in {total} calls");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_upgrade_on_a_full_disk_leaves_the_store_unchanged() {
    let site = built_site();
    let fault_folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::copy("schema-1");
    let before = fixture.bytes();
    let faults = Faults::new(&fixture.file, fault_folder.path());
    for calls in [0, 5, 12] {
        faults.set(&[format!("write -upgrade {calls} -1 fail {ENOSPC}")]);
        let (output, stderr) = start_refused(&mut upgrade_command(&fixture, &faults, site.path()));
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("nothing was changed") && stderr.contains("full"), "{stderr}");
        assert_eq!(fixture.bytes(), before);
        assert!(fixture.has_no_leftovers());
    }
    let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
    assert_complete(&app.client, &app.url, &fixture.expected).await;
}

/// The order of the calls: each step is durable before the next one relies on it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_replaces_the_store_in_a_crash_safe_order() {
    let site = built_site();
    let fault_folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&fixture.file, fault_folder.path());
    Server::spawn(&mut upgrade_command(&fixture, &faults, site.path())).kill();
    let calls: Vec<_> =
        faults.calls().into_iter().map(|(call, name, _)| format!("{call} {name}")).collect();
    let after = |from: usize, call: &str| {
        let found = calls[from..].iter().position(|found| found == call);
        from + found.unwrap_or_else(|| panic!("no {call} after call {from} of {calls:?}"))
    };
    let last = |call: &str| calls.iter().rposition(|found| found == call).expect("a call");
    let copy_synced = last("sync -upgrade");
    assert!(last("write -upgrade") < copy_synced, "{calls:?}");
    let old_store_synced = after(copy_synced, "sync .");
    let wal_removed = after(old_store_synced, "unlink -wal");
    let renamed = after(after(wal_removed, "sync /"), "rename -upgrade");
    let folder_synced = after(renamed, "sync /");
    assert!(calls[renamed + 1..folder_synced].is_empty(), "{calls:?}");

    // If the last sync fails, the store is the upgraded one, and the error says so.
    let fixture = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&fixture.file, fault_folder.path());
    let syncs = calls[..renamed].iter().filter(|call| *call == "sync /").count();
    faults.set(&[format!("sync / {syncs} 1 fail {EIO}")]);
    let (output, stderr) = start_refused(&mut upgrade_command(&fixture, &faults, site.path()));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("it was upgraded") && !stderr.contains("nothing was changed"),
        "{stderr}"
    );
    assert_eq!(
        open(&fixture.file).pragma_query_value(None, "user_version", |row| row.get(0)),
        Ok(2)
    );
    faults.set(&[]);
    let server = Server::spawn(&mut upgrade_command(&fixture, &faults, site.path()));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert_complete(&client, &server.url(), &fixture.expected).await;
}

/// A server that runs as root gives the new file to the owner of the old one.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_keeps_the_owner_of_the_store_where_it_can() {
    use std::os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    };
    const OWNER: u32 = 4711;
    const OTHER_USER: u32 = 4712;
    let site = built_site();
    let fault_folder = tempfile::tempdir().expect("a folder");
    let make_writable = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
    };
    make_writable(site.path());
    make_writable(fault_folder.path());
    let fixture = Fixture::copy("schema-1");
    let faults = Faults::new(&fixture.file, fault_folder.path());
    if chown(&fixture.file, Some(OWNER), Some(OWNER)).is_err() {
        eprintln!("skipped: only root can change the owner of a file");
        return;
    }
    let owner = || fs::metadata(&fixture.file).expect("a file").uid();
    faults.set(&["chown -upgrade 0 -1 fail 1".to_owned()]);
    let (_, stderr) = start_refused(&mut upgrade_command(&fixture, &faults, site.path()));
    assert!(
        stderr.contains("nothing was changed"),
        "the owner could not open a file of root: {stderr}"
    );
    assert_eq!(owner(), OWNER);
    faults.set(&[]);
    Server::spawn(&mut upgrade_command(&fixture, &faults, site.path())).kill();
    assert_eq!(owner(), OWNER);

    // Another user may write the file, but cannot change its owner.
    let fixture = Fixture::copy("schema-1");
    chown(&fixture.file, Some(OWNER), Some(OWNER)).expect("changed");
    make_writable(&fixture.file);
    make_writable(fixture.folder.path());
    let faults = Faults::new(&fixture.file, fault_folder.path());
    let mut command = upgrade_command(&fixture, &faults, site.path());
    let server = Server::spawn(command.uid(OTHER_USER).gid(OTHER_USER));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert_complete(&client, &server.url(), &fixture.expected).await;
    assert_eq!(fs::metadata(&fixture.file).expect("a file").uid(), OTHER_USER);
}

#[tokio::test]
async fn a_store_that_another_program_reads_is_not_upgraded() {
    let site = built_site();
    let fixture = Fixture::copy("schema-1");
    let reader = open(&fixture.file);
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").expect("read");
    let mut command = tidings();
    command.arg("--data").arg(&fixture.file).arg("--site-root").arg(site.path());
    let (output, stderr) = start_refused(&mut command);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    drop(reader);
    let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
    assert_complete(&app.client, &app.url, &fixture.expected).await;
}
