//! A store of Tidings 0.1 (schema 1), written by that release and kept in `tests/fixtures`, is
//! upgraded: with everything that it holds, whenever the server is killed meanwhile.

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
    TestApp, all_pages, built_site,
    faults::{EIO, ENOSPC, Faults, kill_after},
    process::{Server, refused, tidings},
};

/// Every so many calls the server is killed, and at each of the last so many.
const STRIDE: usize = 4;
const LAST: usize = 16;

/// What a fixture holds, as the release said that wrote it: ids and texts.
#[derive(Debug, Deserialize)]
struct Expected {
    streams: BTreeMap<String, Stream>,
    /// Stream, idempotency key, message and id.
    keys: Vec<[String; 4]>,
    /// Ids of streams that were deleted.
    gone: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    messages: Vec<(String, String)>,
    end: Option<(String, String)>,
}

/// A copy of a fixture: its folder, the file, and what it holds.
struct Fixture {
    folder: TempDir,
    file: PathBuf,
    expected: Expected,
}

impl Fixture {
    /// `schema-1` was closed, `schema-1-killed` was not: a part of it is in its write-ahead log.
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

    /// When its newest message was published: later, its messages would be too old.
    fn now(&self) -> u64 {
        let ids = self.expected.streams.values().flat_map(|stream| &stream.messages);
        ids.map(|(id, _)| millis(id)).max().expect("messages")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a file")
    }

    /// Whether there is nothing beside the file that a server could fall over.
    fn is_alone(&self) -> bool {
        let names = fs::read_dir(self.folder.path()).expect("a folder").flatten();
        let names: Vec<_> =
            names.map(|entry| entry.file_name().into_string().expect("text")).collect();
        names.iter().all(|name| ["tidings.db", "tidings.db.lock"].contains(&&**name))
    }
}

fn millis(id: &str) -> u64 {
    id.split_once('-').expect("an id").0.parse().expect("a number")
}

/// A server on an upgraded store holds what the release said.
async fn is_complete(client: &reqwest::Client, url: &str, expected: &Expected) {
    for (name, stream) in &expected.streams {
        let history = format!("{url}/streams/{name}/messages");
        assert_eq!(all_pages(client, &history).await, stream.messages, "{name}");
        let page: Value =
            client.get(&history).send().await.expect("an answer").json().await.expect("JSON");
        let end = stream.end.as_ref().map(|(id, _)| &id[..]);
        assert_eq!(page["ended"]["id"].as_str(), end, "{name}");
    }
    for [stream, key, text, id] in &expected.keys {
        let publish = |text: String| {
            let request = client.post(format!("{url}/streams/{stream}"));
            request.header("idempotency-key", key).body(text).send()
        };
        let again = publish(text.clone()).await.expect("an answer");
        assert_eq!(again.status(), 201, "{key}");
        assert!(again.headers().contains_key("idempotency-replayed"), "{key}");
        let accepted: Value = again.json().await.expect("JSON");
        assert_eq!(accepted["id"], **id, "{key}");
        let other = publish(format!("{text}!")).await.expect("an answer");
        assert_eq!(other.status(), 422, "{key}");
    }
}

fn open(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

#[tokio::test]
async fn a_store_of_the_first_release_is_upgraded_with_all_it_holds() {
    for name in ["schema-1", "schema-1-killed"] {
        let fixture = Fixture::copy(name);
        // Twice: it is upgraded once.
        for _ in 0..2 {
            let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
            is_complete(&app.client, &app.url, &fixture.expected).await;
            for id in &fixture.expected.gone {
                let path = format!("/streams/again/messages?after={id}");
                assert_eq!(app.get(&path).await.status(), 404, "{id} was deleted");
            }
            app.stop().await;
            assert!(fixture.is_alone());
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
async fn an_upgraded_stream_goes_on_and_forgets_as_any_other() {
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
    let id = app.publish("news", "begins anew").await;
    assert!(millis(&id) >= later, "{id}");
    let known = &fixture.expected.streams["news"].messages;
    let (last, _) = known.last().expect("messages");
    assert_eq!(app.get(&format!("/streams/news/messages?after={last}")).await.status(), 404);
}

/// A server that upgrades a store, with faults.
fn upgrading(fixture: &Fixture, faults: &Faults, site: &Path) -> std::process::Command {
    let mut command = tidings();
    // What a fixture holds never becomes too old.
    command.args(["--listen=127.0.0.1:0", "--keep-age=10y", "--data"]).arg(&fixture.file);
    command.arg("--site-root").arg(site);
    faults.preload(&mut command);
    command
}

/// Kills the server before every few of the calls that change a file, from the first one until it
/// serves: whatever is on the disk then, the next one makes of it the whole store.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_survives_a_kill_at_any_moment() {
    let site = built_site();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let other = tempfile::tempdir().expect("a folder");
    let whole = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&whole.file, other.path());
    Server::spawn(&mut upgrading(&whole, &faults, site.path())).kill();
    let all = faults.calls().len();
    let moments = (0..all).filter(|moment| moment % STRIDE == 0 || moment + LAST >= all);
    let mut killed = 0;
    for moment in moments {
        let fixture = Fixture::copy("schema-1-killed");
        let faults = Faults::new(&fixture.file, other.path());
        faults.set(&[kill_after(moment)]);
        let output = upgrading(&fixture, &faults, site.path()).output().expect("a process");
        // Killed, it has no status.
        assert_eq!(output.status.code(), None, "{moment} of {all}");
        killed += 1;
        faults.set(&[]);
        let server = Server::spawn(&mut upgrading(&fixture, &faults, site.path()));
        is_complete(&client, &server.url(), &fixture.expected).await;
        server.kill();
    }
    assert!(killed > 2 * 10, "{killed} of {all} moments");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_upgrade_without_room_leaves_the_store_as_it_was() {
    let site = built_site();
    let other = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::copy("schema-1");
    let before = fixture.bytes();
    let faults = Faults::new(&fixture.file, other.path());
    for calls in [0, 5, 12] {
        faults.set(&[format!("write -upgrade {calls} -1 fail {ENOSPC}")]);
        let (output, said) = refused(&mut upgrading(&fixture, &faults, site.path()));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nothing was changed") && said.contains("full"), "{said}");
        assert_eq!(fixture.bytes(), before);
        assert!(fixture.is_alone());
    }
    let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
    is_complete(&app.client, &app.url, &fixture.expected).await;
}

/// Each thing is durable before what relies on it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_puts_the_copy_in_place_in_order() {
    let site = built_site();
    let other = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&fixture.file, other.path());
    Server::spawn(&mut upgrading(&fixture, &faults, site.path())).kill();
    let calls: Vec<_> =
        faults.calls().into_iter().map(|(call, name, _)| format!("{call} {name}")).collect();
    let after = |from: usize, call: &str| {
        let found = calls[from..].iter().position(|one| one == call);
        from + found.unwrap_or_else(|| panic!("no {call} after call {from} of {calls:?}"))
    };
    let last = |call: &str| calls.iter().rposition(|one| one == call).expect("a call");
    let copied = last("sync -upgrade");
    assert!(last("write -upgrade") < copied, "{calls:?}");
    let old_is_whole = after(copied, "sync .");
    let log_is_gone = after(old_is_whole, "unlink -wal");
    let renamed = after(after(log_is_gone, "sync /"), "rename -upgrade");
    let durable = after(renamed, "sync /");
    assert!(calls[renamed + 1..durable].is_empty(), "{calls:?}");

    // Where the last step fails the store is the new one, and nothing else is claimed.
    let fixture = Fixture::copy("schema-1-killed");
    let faults = Faults::new(&fixture.file, other.path());
    let syncs = calls[..renamed].iter().filter(|call| *call == "sync /").count();
    faults.set(&[format!("sync / {syncs} 1 fail {EIO}")]);
    let (output, said) = refused(&mut upgrading(&fixture, &faults, site.path()));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it was upgraded") && !said.contains("nothing was changed"), "{said}");
    assert_eq!(
        open(&fixture.file).pragma_query_value(None, "user_version", |row| row.get(0)),
        Ok(2)
    );
    faults.set(&[]);
    let server = Server::spawn(&mut upgrading(&fixture, &faults, site.path()));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    is_complete(&client, &server.url(), &fixture.expected).await;
}

/// A server that is started as root gives the new file to the owner of the old one.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_leaves_the_store_to_its_owner_where_it_may() {
    use std::os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    };
    const OWNER: u32 = 4711;
    const OTHER: u32 = 4712;
    let site = built_site();
    let other = tempfile::tempdir().expect("a folder");
    let open_up = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
    };
    open_up(site.path());
    open_up(other.path());
    let fixture = Fixture::copy("schema-1");
    let faults = Faults::new(&fixture.file, other.path());
    if chown(&fixture.file, Some(OWNER), Some(OWNER)).is_err() {
        eprintln!("only root can have a file of somebody else");
        return;
    }
    let owner = || fs::metadata(&fixture.file).expect("a file").uid();
    faults.set(&["chown -upgrade 0 -1 fail 1".to_owned()]);
    let (_, said) = refused(&mut upgrading(&fixture, &faults, site.path()));
    assert!(
        said.contains("nothing was changed"),
        "what root owned its owner could not open: {said}"
    );
    assert_eq!(owner(), OWNER);
    faults.set(&[]);
    Server::spawn(&mut upgrading(&fixture, &faults, site.path())).kill();
    assert_eq!(owner(), OWNER);

    // Another user who may write it.
    let fixture = Fixture::copy("schema-1");
    chown(&fixture.file, Some(OWNER), Some(OWNER)).expect("changed");
    open_up(&fixture.file);
    open_up(fixture.folder.path());
    let faults = Faults::new(&fixture.file, other.path());
    let mut upgrading = upgrading(&fixture, &faults, site.path());
    let server = Server::spawn(upgrading.uid(OTHER).gid(OTHER));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    is_complete(&client, &server.url(), &fixture.expected).await;
    assert_eq!(fs::metadata(&fixture.file).expect("a file").uid(), OTHER);
}

#[tokio::test]
async fn a_store_that_another_program_reads_is_not_upgraded_under_its_feet() {
    let site = built_site();
    let fixture = Fixture::copy("schema-1");
    let reader = open(&fixture.file);
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").expect("read");
    let mut command = tidings();
    command.arg("--data").arg(&fixture.file).arg("--site-root").arg(site.path());
    let (output, said) = refused(&mut command);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    drop(reader);
    let app = TestApp::start_on(&fixture.file, fixture.now(), &[]).await;
    is_complete(&app.client, &app.url, &fixture.expected).await;
}
