//! Backups: copies of the store taken while it is written, and a server that starts from one.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, backup::Backup};
use tokio::task::spawn_blocking;

use crate::support::{
    built_site, events, next,
    process::Server,
    reconnecting::{Publishers, ReconnectingClient, of_publisher},
};

const PUBLISHERS: usize = 4;
/// How many messages of each publisher are acknowledged before each copy, and after the last.
const MESSAGES: usize = 50;

/// The ways to take a copy: with SQL, as the manual says, or page by page; by the library or the command.
const METHODS: [fn(&Path, &Path); 4] = [with_sql, with_pages, with_sql_command, with_pages_command];

fn source(file: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(file, flags).expect("a store");
    source.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    source
}

fn with_sql(file: &Path, copy: &Path) {
    let copy = copy.to_str().expect("text");
    source(file).execute("VACUUM INTO ?1", [copy]).expect("copied");
}

fn with_pages(file: &Path, copy: &Path) {
    let (source, mut copy) = (source(file), Connection::open(copy).expect("a copy"));
    let backup = Backup::new(&source, &mut copy).expect("a backup");
    // All pages in one step: the backup restarts whenever something is written between two steps.
    backup.run_to_completion(i32::MAX, Duration::ZERO, None).expect("copied");
}

fn with_sql_command(file: &Path, copy: &Path) {
    with_command(file, &format!("VACUUM INTO '{}'", copy.display()));
}

fn with_pages_command(file: &Path, copy: &Path) {
    with_command(file, &format!(".backup '{}'", copy.display()));
}

fn with_command(file: &Path, command: &str) {
    let status = Command::new("sqlite3").arg(file).args([".timeout 10000", command]).status();
    assert!(status.expect("the command").success(), "{command}");
}

fn has_command() -> bool {
    let mut command = Command::new("sqlite3");
    command.arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_under_load_is_complete() {
    let methods = if has_command() { &METHODS[..] } else { &METHODS[..2] };
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    let copy_of = |method: usize| folder.path().join(format!("copy-{method}.db"));
    let flags = ["--publish-rate=0", "--log=warn"];
    let server = Server::start_on(&file, site.path(), &flags);
    let (client, url_sender) = ReconnectingClient::new(vec![server.url()]);
    let publishers = Publishers::start(PUBLISHERS, &client);

    let mut before_each = Vec::new();
    for (method, take_copy) in methods.iter().copied().enumerate() {
        publishers.wait_for(MESSAGES).await;
        before_each.push(publishers.acknowledged());
        let (file, copy) = (file.clone(), copy_of(method));
        spawn_blocking(move || take_copy(&file, &copy)).await.expect("no panic");
    }
    publishers.wait_for(MESSAGES).await;
    publishers.stop().await;
    let log = client.log().await;
    server.kill();

    for (method, before) in before_each.into_iter().enumerate() {
        let copy = source(&copy_of(method));
        let result: String =
            copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a response");
        assert_eq!(result, "ok", "method {method}");
        copy.close().expect("closed");

        // As the manual says: the old store is removed with all its files.
        for entry in fs::read_dir(folder.path()).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().starts_with("tidings.db") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        fs::copy(copy_of(method), &file).expect("put in its place");
        let server = Server::start_on(&file, site.path(), &flags);
        url_sender.send_replace(vec![server.url()]);
        let kept = client.log().await;
        assert!(
            log.starts_with(&kept) && kept.len() < log.len(),
            "method {method}: a part of the log"
        );
        for (name, before) in before.iter().enumerate() {
            let kept = of_publisher(&kept, name);
            assert!(
                kept.starts_with(before),
                "method {method}: what was acknowledged before the copy is in it"
            );
        }
        assert_resumes_after_restore(&client, kept.last().expect("a message"), &log[kept.len()])
            .await;
    }
}

/// On a restored server: a reader with the last id of the copy resumes, and a reader with a later id gets
/// a `reset`, although another message has the same sequence now.
async fn assert_resumes_after_restore(
    client: &ReconnectingClient,
    last: &(String, String),
    missing: &(String, String),
) {
    let publish = client.http.post(client.url("")).body("after the restoration");
    assert_eq!(publish.send().await.expect("a response").status(), 201);
    let watch = async |cursor: &str| {
        let request = client.http.get(client.url("/events")).header("last-event-id", cursor);
        events(request.send().await.expect("a response"))
    };
    let event = next(&mut watch(&last.0).await).await;
    assert_eq!((&*event.event, &*event.data), ("new_message", "after the restoration"));

    let sequence = |id: &str| id.split_once('-').map(|(_, sequence)| sequence.to_owned());
    assert_eq!(sequence(&event.id), sequence(&missing.0), "the same sequence");
    let mut watcher = watch(&missing.0).await;
    let event = next(&mut watcher).await;
    assert_eq!(event.event, "reset");
    assert!(event.data.contains("unknown-cursor"), "{}", event.data);
    assert_eq!(next(&mut watcher).await.event, "new_message", "all messages follow");
}
