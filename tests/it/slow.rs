//! Invariant 2 of the design: a reader costs a bounded amount of memory that does not depend on
//! its speed, and is in nobody's way.
#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

use futures::{StreamExt as _, future::join_all, stream};
use reqwest::{Body, Client, Response};
use serde_json::Value;

use crate::support::{built_site, lines, process::Server};

const STALLED: usize = 200;
const MESSAGES: usize = 100_000;
/// What a message is filled up to, so that all of them are more than the sockets' buffers hold.
const LENGTH: usize = 150;
/// What the server may need more with these readers and messages, in KiB: 64 for each reader, and
/// what the newest messages and the store take. Were there a queue for each reader, it would be
/// thousands of MiB.
const GENEROUS: u64 = 64 * STALLED as u64 + 64 * 1024;

fn message(n: usize) -> String {
    format!("{n:.>LENGTH$}")
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Reads on until all messages have come, each once and in order.
async fn read_all(response: Response) {
    let mut pieces = response.bytes_stream();
    let mut text = Vec::new();
    let mut expected = 0;
    while expected < MESSAGES {
        let piece = tokio::time::timeout(Duration::from_mins(2), pieces.next()).await;
        text.extend(piece.expect("more in time").expect("more").expect("a connection"));
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text.drain(..end).collect::<Vec<_>>().split(|byte| *byte == b'\n') {
            // A ping may come first.
            if let Some(data) = line.strip_prefix(b"data: ").filter(|data| *data != b"{}") {
                assert_eq!(data, message(expected).as_bytes());
                expected += 1;
            }
        }
    }
}

#[tokio::test]
async fn readers_that_take_nothing_cost_next_to_nothing() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let keep_all = [
        "--keep-bytes=1GiB",
        "--keep-messages=1000000",
        "--publish-rate=0",
        "--max-watchers-per-address=1000",
    ];
    let server = Server::start_on(&folder.path().join("tidings.db"), site.path(), &keep_all);
    let client = Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/streams/log", server.url());
    let watch = || async { client.get(format!("{url}/events")).send().await.expect("an answer") };
    let stalled = join_all((0..STALLED).map(|_| watch())).await;
    let ordinary = tokio::spawn(read_all(watch().await));
    let before = memory(server.process.id());

    let lines = stream::iter((0..MESSAGES).step_by(1000))
        .map(|from| Ok::<_, std::io::Error>(lines((from..from + 1000).map(message))));
    let upload = client.post(format!("{url}?lines")).body(Body::wrap_stream(lines)).send();
    let taken: Value = upload.await.expect("an answer").json().await.expect("JSON");
    assert_eq!(taken["taken"], MESSAGES);
    ordinary.await.expect("one that reads gets everything");
    let more = memory(server.process.id()).saturating_sub(before);
    assert!(more < GENEROUS, "{more} KiB more for {STALLED} readers");

    let open = async || -> Value {
        let ready = client.get(format!("{}/health/ready", server.url())).send().await;
        ready.expect("an answer").json::<Value>().await.expect("JSON")["open_streams"].clone()
    };
    while open().await != STALLED {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(open().await, STALLED, "they stay");
    let mut stalled = stalled.into_iter();
    join_all(stalled.by_ref().take(4).map(read_all)).await;
    let more = memory(server.process.id()).saturating_sub(before);
    assert!(more < GENEROUS, "{more} KiB more for readers that catch up");
}
