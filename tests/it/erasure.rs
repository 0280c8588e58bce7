//! What is deleted, or trimmed, is gone: from every file of the store, within a bounded time; and the
//! file gets smaller.

use std::{collections::HashSet, fs, path::Path, thread, time::Duration};

use reqwest::Client;
use rusqlite::Connection;
use tokio::task::spawn_blocking;

use crate::support::{
    NOW, TestApp, built_site, chance, lines,
    process::{Server, exit_status},
};

/// The marks, `<…>`, that are legible in any file of a folder.
fn legible(folder: &Path) -> HashSet<String> {
    let mut found = HashSet::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        for piece in bytes.split(|byte| *byte == b'<') {
            let end = piece.iter().take(50).position(|byte| *byte == b'>');
            if let Some(Ok(mark)) = end.map(|end| std::str::from_utf8(&piece[..end])) {
                found.insert(format!("<{mark}>"));
            }
        }
    }
    found
}

/// A minute or so, as it is promised, on the server's clock.
const A_MINUTE_OR_SO: Duration = Duration::from_secs(90);

/// Waits until something is so, on the server's clock no longer than a minute or so: minutes pass in
/// seconds.
async fn until(what: impl Fn() -> Result<(), String>) {
    const STEP: Duration = Duration::from_millis(500);
    tokio::time::pause();
    let mut left = Ok(());
    let mut passed = Duration::ZERO;
    for _ in 0..3_000 {
        // What threads do takes its time.
        spawn_blocking(|| thread::sleep(Duration::from_millis(30))).await.expect("slept");
        if passed < A_MINUTE_OR_SO {
            tokio::time::advance(STEP).await;
            passed += STEP;
        }
        left = what();
        if left.is_ok() {
            tokio::time::resume();
            return;
        }
    }
    panic!("{left:?}");
}

/// Waits until none of these marks is legible.
async fn until_gone(folder: &Path, marks: &[String]) {
    until(|| {
        let legible = legible(folder);
        let left: Vec<_> = marks.iter().filter(|mark| legible.contains(*mark)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{} legible: {}", left.len(), left[0])) }
    })
    .await;
}

/// Texts that are nowhere else, of some bytes or of several pages, full of their mark: whatever part
/// of them stays is found.
fn texts(stream: &str, numbers: std::ops::Range<u32>, chance: &mut fastrand::Rng) -> Vec<String> {
    let text = |number| {
        let mark = format!("<{stream}:{number}>");
        let longest = chance.choice([30, 300, 3_000, 20_000]).expect("one");
        let length = chance.usize(1..longest);
        let filled = format!("{mark}{}", "x".repeat(40 - mark.len()));
        filled.repeat(1 + length / filled.len())
    };
    numbers.map(text).collect()
}

/// The mark of each text, which no other text has.
fn marks(texts: &[String]) -> Vec<String> {
    let mark = |text: &String| format!("{}>", text.split_once('>').expect("a mark").0);
    texts.iter().map(mark).collect()
}

#[tokio::test]
async fn what_is_deleted_is_gone_from_every_file() {
    let mut chance = chance();
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("tidings.db"), NOW, &[]).await;
    let names: Vec<String> = (0..20).map(|number| format!("stream-{number}")).collect();
    let (mut deleted, mut kept) = (Vec::new(), Vec::new());
    // Their messages are neighbours, and come in turns.
    for round in 0..10 {
        for (number, name) in names.iter().enumerate() {
            let some = texts(name, round * 10..round * 10 + chance.u32(1..10), &mut chance);
            app.publish_lines(name, lines(some.iter().cloned())).await;
            if number % 2 == 0 { &mut deleted } else { &mut kept }.extend(marks(&some));
        }
    }
    let closing = "<the closing text>".to_owned();
    app.post("/streams/stream-0/end", closing.clone()).await;
    deleted.push(closing);
    let are_legible = |marks: &[String]| {
        let legible = legible(folder.path());
        marks.iter().all(|mark| legible.contains(mark))
    };
    assert!(are_legible(&deleted) && are_legible(&kept));
    for name in names.iter().step_by(2) {
        app.delete(name).await;
    }
    until_gone(folder.path(), &deleted).await;
    assert!(are_legible(&kept), "only that");
}

#[tokio::test]
async fn what_is_trimmed_is_gone_from_every_file() {
    let mut chance = chance();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &["--keep-messages", "20"]).await;
    let names: Vec<String> = (0..10).map(|number| format!("stream-{number}")).collect();
    let (mut trimmed, mut kept) = (Vec::new(), Vec::new());
    let mut newest = vec![Vec::new(); names.len()];
    for round in 0..20 {
        for (number, name) in names.iter().enumerate() {
            let some = texts(name, round * 10..round * 10 + chance.u32(1..10), &mut chance);
            app.publish_lines(name, lines(some.iter().cloned())).await;
            newest[number].extend(marks(&some));
        }
    }
    for mut marks in newest {
        kept.extend(marks.split_off(marks.len() - 20));
        trimmed.extend(marks);
    }
    until_gone(folder.path(), &trimmed).await;
    let legible = legible(folder.path());
    assert!(kept.iter().all(|mark| legible.contains(mark)), "only that");
}

/// A server that is killed before it comes to it leaves that to the next one, and so does one that
/// stops while another program reads the file.
#[tokio::test]
async fn what_is_deleted_is_gone_after_a_restart() {
    let mut chance = chance();
    let site = built_site();
    for is_killed in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidings.db");
        let server = Server::start_on(&file, site.path(), &[]);
        let client = Client::builder().no_proxy().build().expect("a client");
        let (mut deleted, mut kept) = (Vec::new(), Vec::new());
        for round in 0..10 {
            for (name, marked) in [("deleted", &mut deleted), ("kept", &mut kept)] {
                let some = texts(name, round * 10..round * 10 + 10, &mut chance);
                marked.extend(marks(&some));
                let url = format!("{}/streams/{name}?lines", server.url());
                let answer = client.post(url).body(lines(some.into_iter())).send().await;
                assert_eq!(answer.expect("an answer").status(), 200);
            }
        }
        let reader = Connection::open(&file).expect("a database");
        reader.execute_batch("BEGIN; SELECT count(*) FROM messages").expect("read");
        let url = format!("{}/streams/deleted", server.url());
        assert_eq!(client.delete(url).send().await.expect("an answer").status(), 204);
        // Time for what the reader lets be done.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_killed {
            server.kill();
        } else {
            let mut server = server;
            server.signal("TERM");
            let stopped = spawn_blocking(move || exit_status(&mut server.process)).await;
            assert_eq!(stopped.expect("no panic"), Some(0));
        }
        let there = legible(folder.path());
        assert!(deleted.iter().any(|mark| there.contains(mark)), "it was not in the way");
        // The last program that closes the file would move what is written ahead.
        let app = TestApp::start_on(&file, NOW, &["--keep-age", "10y"]).await;
        drop(reader);
        until_gone(folder.path(), &deleted).await;
        let there = legible(folder.path());
        assert!(kept.iter().all(|mark| there.contains(mark)), "only that");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_file_gets_smaller() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    for name in ["one", "two"] {
        app.publish_lines(name, lines((0..10_000).map(|n| format!("{n:01000}")))).await;
    }
    let size = || fs::metadata(&file).expect("a file").len();
    app.delete("one").await;
    until(|| {
        let size = size();
        if (10_000_000..12_000_000).contains(&size) { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;
}
