//! Copies of the store, taken while it is written, and a server that goes on from one.

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
    visitor::{Publishers, Visitor, of_publisher},
};

const PUBLISHERS: usize = 4;
/// What each publisher gets acknowledged before a copy, meanwhile or afterwards, and so on.
const MESSAGES: usize = 50;

/// How a copy is taken: with SQL, as the manual says, or page by page.
const WAYS: [fn(&Path, &Path); 4] = [with_sql, with_pages, with_sql_command, with_pages_command];

fn source(file: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(file, flags).expect("a store");
    source.busy_timeout(Duration::from_secs(10)).expect("patience");
    source
}

fn with_sql(file: &Path, copy: &Path) {
    let copy = copy.to_str().expect("text");
    source(file).execute("VACUUM INTO ?1", [copy]).expect("copied");
}

fn with_pages(file: &Path, copy: &Path) {
    let (source, mut copy) = (source(file), Connection::open(copy).expect("a copy"));
    let backup = Backup::new(&source, &mut copy).expect("a backup");
    // All in one step: it begins anew whenever something was written between two.
    backup.run_to_completion(i32::MAX, Duration::ZERO, None).expect("copied");
}

fn with_sql_command(file: &Path, copy: &Path) {
    with_command(file, &format!("VACUUM INTO '{}'", copy.display()));
}

fn with_pages_command(file: &Path, copy: &Path) {
    with_command(file, &format!(".backup '{}'", copy.display()));
}

fn with_command(file: &Path, what: &str) {
    let status = Command::new("sqlite3").arg(file).args([".timeout 10000", what]).status();
    assert!(status.expect("the command").success(), "{what}");
}

fn has_command() -> bool {
    let mut command = Command::new("sqlite3");
    command.arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_under_load_is_whole() {
    let ways = if has_command() { &WAYS[..] } else { &WAYS[..2] };
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    let copy_of = |way: usize| folder.path().join(format!("copy-{way}.db"));
    let flags = ["--publish-rate=0", "--log=warn"];
    let server = Server::start_on(&file, site.path(), &flags);
    let (visitor, tell) = Visitor::new(server.url());
    let publishers = Publishers::start(PUBLISHERS, &visitor);

    let mut before_each = Vec::new();
    for (way, take) in ways.iter().copied().enumerate() {
        publishers.until(MESSAGES).await;
        before_each.push(publishers.so_far());
        let (file, copy) = (file.clone(), copy_of(way));
        spawn_blocking(move || take(&file, &copy)).await.expect("no panic");
    }
    publishers.until(MESSAGES).await;
    publishers.stop().await;
    let log = visitor.log().await;
    server.kill();

    for (way, before) in before_each.into_iter().enumerate() {
        let copy = source(&copy_of(way));
        let sound: String =
            copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
        assert_eq!(sound, "ok", "way {way}");
        copy.close().expect("closed");

        // As the manual says: the old one goes with all that belongs to it.
        for entry in fs::read_dir(folder.path()).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().starts_with("tidings.db") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        fs::copy(copy_of(way), &file).expect("put in its place");
        let server = Server::start_on(&file, site.path(), &flags);
        tell.send_replace(server.url());
        let kept = visitor.log().await;
        assert!(log.starts_with(&kept) && kept.len() < log.len(), "way {way}: a part of the log");
        for (name, before) in before.iter().enumerate() {
            let kept = of_publisher(&kept, name);
            assert!(kept.starts_with(before), "way {way}: what was acknowledged before is there");
        }
        goes_on(&visitor, kept.last().expect("a message"), &log[kept.len()]).await;
    }
}

/// On a server that was restored: who has read up to the copy's end reads on, and who has read more
/// is told that it is not there, although its place has been taken by another message.
async fn goes_on(visitor: &Visitor, last: &(String, String), gone: &(String, String)) {
    let publish = visitor.client.post(visitor.url("")).body("after the restoration");
    assert_eq!(publish.send().await.expect("an answer").status(), 201);
    let watch = async |cursor: &str| {
        let request = visitor.client.get(visitor.url("/events")).header("last-event-id", cursor);
        events(request.send().await.expect("an answer"))
    };
    let event = next(&mut watch(&last.0).await).await;
    assert_eq!((&*event.event, &*event.data), ("new_message", "after the restoration"));

    let place = |id: &str| id.split_once('-').map(|(_, sequence)| sequence.to_owned());
    assert_eq!(place(&event.id), place(&gone.0), "the same place");
    let mut watcher = watch(&gone.0).await;
    let event = next(&mut watcher).await;
    assert_eq!(event.event, "reset");
    assert!(event.data.contains("unknown-cursor"), "{}", event.data);
    assert_eq!(next(&mut watcher).await.event, "new_message", "everything there is");
}
