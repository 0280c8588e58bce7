//! Secure deletion: deleted and trimmed messages are erased from every file of the store within a bounded
//! time, and the file gets smaller.

use std::{collections::HashSet, fs, path::Path, thread, time::Duration};

use reqwest::Client;
use rusqlite::Connection;
use tokio::task::spawn_blocking;

use crate::support::{
    NOW, TestApp, built_site, lines,
    process::{Server, exit_status},
    seeded_rng,
};

/// The markers, `<…>`, that are found in any file of a folder.
fn markers_in(folder: &Path) -> HashSet<String> {
    let mut found = HashSet::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        for piece in bytes.split(|byte| *byte == b'<') {
            let end = piece.iter().take(50).position(|byte| *byte == b'>');
            if let Some(Ok(marker)) = end.map(|end| std::str::from_utf8(&piece[..end])) {
                found.insert(format!("<{marker}>"));
            }
        }
    }
    found
}

/// How long erasure may take on the server's clock: the documented minute, with a margin.
const ERASURE_TIMEOUT: Duration = Duration::from_secs(90);

/// Waits until the check succeeds, on the server's clock at most [`ERASURE_TIMEOUT`]; the clock is
/// advanced, so that minutes take seconds.
async fn wait_until(check: impl Fn() -> Result<(), String>) {
    const STEP: Duration = Duration::from_millis(500);
    tokio::time::pause();
    let mut result = Ok(());
    let mut elapsed = Duration::ZERO;
    for _ in 0..3_000 {
        // The threads of the server work in real time.
        spawn_blocking(|| thread::sleep(Duration::from_millis(30))).await.expect("a pause");
        if elapsed < ERASURE_TIMEOUT {
            tokio::time::advance(STEP).await;
            elapsed += STEP;
        }
        result = check();
        if result.is_ok() {
            tokio::time::resume();
            return;
        }
    }
    panic!("{result:?}");
}

/// Waits until none of these markers is found.
async fn wait_until_erased(folder: &Path, markers: &[String]) {
    wait_until(|| {
        let found = markers_in(folder);
        let left: Vec<_> = markers.iter().filter(|marker| found.contains(*marker)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{} found: {}", left.len(), left[0])) }
    })
    .await;
}

/// Texts of a few bytes up to several database pages, filled with a unique marker each, so that any
/// remaining part of a text is found.
fn marked_texts(
    stream: &str,
    numbers: std::ops::Range<u32>,
    rng: &mut fastrand::Rng,
) -> Vec<String> {
    let text = |number| {
        let marker = format!("<{stream}:{number}>");
        let max_length = rng.choice([30, 300, 3_000, 20_000]).expect("a length");
        let length = rng.usize(1..max_length);
        let unit = format!("{marker}{}", "x".repeat(40 - marker.len()));
        unit.repeat(1 + length / unit.len())
    };
    numbers.map(text).collect()
}

/// The marker of each text.
fn markers_of(texts: &[String]) -> Vec<String> {
    let marker = |text: &String| format!("{}>", text.split_once('>').expect("a marker").0);
    texts.iter().map(marker).collect()
}

#[tokio::test]
async fn deleted_messages_are_erased_from_every_file() {
    let mut rng = seeded_rng();
    let folder = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_on(&folder.path().join("tidings.db"), NOW, &[]).await;
    let names: Vec<String> = (0..20).map(|number| format!("stream-{number}")).collect();
    let (mut deleted, mut kept) = (Vec::new(), Vec::new());
    // The messages of all streams are interleaved in the file.
    for round in 0..10 {
        for (number, name) in names.iter().enumerate() {
            let texts = marked_texts(name, round * 10..round * 10 + rng.u32(1..10), &mut rng);
            app.publish_lines(name, lines(texts.iter().cloned())).await;
            if number % 2 == 0 { &mut deleted } else { &mut kept }.extend(markers_of(&texts));
        }
    }
    let closing = "<the closing text>".to_owned();
    app.post("/streams/stream-0/end", closing.clone()).await;
    deleted.push(closing);
    let are_found = |markers: &[String]| {
        let found = markers_in(folder.path());
        markers.iter().all(|marker| found.contains(marker))
    };
    assert!(are_found(&deleted) && are_found(&kept));
    for name in names.iter().step_by(2) {
        app.delete(name).await;
    }
    wait_until_erased(folder.path(), &deleted).await;
    assert!(are_found(&kept), "other messages are kept");
}

#[tokio::test]
async fn trimmed_messages_are_erased_from_every_file() {
    let mut rng = seeded_rng();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &["--keep-messages", "20"]).await;
    let names: Vec<String> = (0..10).map(|number| format!("stream-{number}")).collect();
    let (mut trimmed, mut kept) = (Vec::new(), Vec::new());
    let mut newest = vec![Vec::new(); names.len()];
    for round in 0..20 {
        for (number, name) in names.iter().enumerate() {
            let texts = marked_texts(name, round * 10..round * 10 + rng.u32(1..10), &mut rng);
            app.publish_lines(name, lines(texts.iter().cloned())).await;
            newest[number].extend(markers_of(&texts));
        }
    }
    for mut markers in newest {
        kept.extend(markers.split_off(markers.len() - 20));
        trimmed.extend(markers);
    }
    wait_until_erased(folder.path(), &trimmed).await;
    let found = markers_in(folder.path());
    assert!(kept.iter().all(|marker| found.contains(marker)), "other messages are kept");
}

/// A server that is killed before the erasure leaves it to the next one, and so does one that stops while
/// another program reads the file.
#[tokio::test]
async fn deleted_messages_are_erased_after_a_restart() {
    let mut rng = seeded_rng();
    let site = built_site();
    for is_killed in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidings.db");
        let server = Server::start_on(&file, site.path(), &[]);
        let client = Client::builder().no_proxy().build().expect("a client");
        let (mut deleted, mut kept) = (Vec::new(), Vec::new());
        for round in 0..10 {
            for (name, markers) in [("deleted", &mut deleted), ("kept", &mut kept)] {
                let texts = marked_texts(name, round * 10..round * 10 + 10, &mut rng);
                markers.extend(markers_of(&texts));
                let url = format!("{}/streams/{name}?lines", server.url());
                let response = client.post(url).body(lines(texts.into_iter())).send().await;
                assert_eq!(response.expect("a response").status(), 200);
            }
        }
        let reader = Connection::open(&file).expect("a database");
        reader.execute_batch("BEGIN; SELECT count(*) FROM messages").expect("read");
        let url = format!("{}/streams/deleted", server.url());
        assert_eq!(client.delete(url).send().await.expect("a response").status(), 204);
        // Time for the work that the open reader does not block.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_killed {
            server.kill();
        } else {
            let mut server = server;
            server.signal("TERM");
            let stopped = spawn_blocking(move || exit_status(&mut server.process)).await;
            assert_eq!(stopped.expect("no panic"), Some(0));
        }
        let found = markers_in(folder.path());
        assert!(deleted.iter().any(|marker| found.contains(marker)), "nothing is left to erase");
        // The last program that closes the file would checkpoint the write-ahead log.
        let app = TestApp::start_on(&file, NOW, &["--keep-age", "10y"]).await;
        drop(reader);
        wait_until_erased(folder.path(), &deleted).await;
        let found = markers_in(folder.path());
        assert!(kept.iter().all(|marker| found.contains(marker)), "other messages are kept");
        app.stop().await;
    }
}

#[tokio::test]
async fn the_file_gets_smaller_after_a_deletion() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.db");
    let app = TestApp::start_on(&file, NOW, &[]).await;
    for name in ["one", "two"] {
        app.publish_lines(name, lines((0..10_000).map(|n| format!("{n:01000}")))).await;
    }
    let size = || fs::metadata(&file).expect("a file").len();
    app.delete("one").await;
    wait_until(|| {
        let size = size();
        if (10_000_000..12_000_000).contains(&size) { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;
}
