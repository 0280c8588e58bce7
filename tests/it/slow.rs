//! Invariant 2 of the design: memory is bounded in the sum, over both protocols, whatever clients do.
//! What a slow client costs does not depend on its speed, and it is in no other client's way.
#![cfg(target_os = "linux")]

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tidings_bench::held::{Held, own_address};
use tokio::sync::oneshot::error::TryRecvError;

use crate::support::{
    built_site, events, lines, next,
    process::Server,
    tls::{Files, Identity},
};

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

/// By how much a process grows at the most while something is done, and two seconds after, in KiB.
async fn growth(process: u32, attack: impl Future<Output = ()>) -> u64 {
    let before = memory(process);
    let (done, mut is_done) = tokio::sync::oneshot::channel::<()>();
    let watching = async {
        let (mut most, mut until) = (before, None);
        while until.is_none_or(|until| Instant::now() < until) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            most = most.max(memory(process));
            if until.is_none() && is_done.try_recv() != Err(TryRecvError::Empty) {
                until = Some(Instant::now() + Duration::from_secs(2));
            }
        }
        println!("{} KiB more than {before}", most - before);
        most - before
    };
    let attacking = async {
        attack.await;
        drop(done);
    };
    tokio::join!(watching, attacking).0
}

/// What a server may take in these tests, in KiB.
const BUDGET: u64 = 64 * 1024;

/// HTTP/1.1 in the clear, or HTTP/2 over TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// A server with a budget, behind a proxy, so that one machine has many addresses.
struct Budgeted {
    server: Server,
    protocol: Protocol,
    identity: Identity,
    _folder: TempDir,
    _files: Files,
}

impl Budgeted {
    fn start(protocol: Protocol, arguments: &[&str]) -> Self {
        let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
        let identity = Identity::new();
        let files = Files::of(&identity);
        let (certificate, key) = (files.certificate(), files.key());
        let tls: &[&str] = match protocol {
            Protocol::Http1 => &[],
            Protocol::Http2 => &["--tls-cert", &certificate, "--tls-key", &key],
        };
        let budget = ["--memory-budget=64MiB", "--header-timeout=1h"];
        let proxy = ["--open", "--trusted-proxy=127.0.0.1/32"];
        let data = folder.path().join("tidings.db");
        let arguments = [&budget, &proxy, tls, arguments].concat();
        let server = Server::start_on(&data, site.path(), &arguments);
        Self { server, protocol, identity, _folder: folder, _files: files }
    }

    /// A client that does as it should.
    fn client(&self) -> Client {
        self.identity.client().build().expect("a client")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Connections that have asked for something and are idle.
    async fn connect(&self, requests: usize) -> Held {
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
        let address = self.server.address.parse().expect("an address");
        let client = (self.protocol == Protocol::Http2).then_some(|| self.identity.client());
        Held::connect(address, client, requests).await.expect("idle connections")
    }

    /// The answer to a client that is told to come later, perhaps, and comes: before those who do not
    /// read would be cut off anyway, after a minute.
    async fn in_the_end(&self, request: impl Fn() -> RequestBuilder) -> Response {
        for _ in 0..12 {
            let request = request().header("x-forwarded-for", "192.0.2.1");
            let answer = request.send().await.expect("an answer");
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
                return answer;
            }
            assert!(answer.headers().contains_key("retry-after"));
            let problem: Value = answer.json().await.expect("JSON");
            assert_eq!(problem["type"], "/problems#memory-exhausted");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("clients that are slow starve the others");
    }

    /// A stream with as much text as a page has.
    async fn fill(&self, stream: &str) {
        let text = lines((0..20).map(|_| "<".repeat(32 * 1024)));
        let upload = self.client().post(self.url(&format!("/streams/{stream}?lines"))).body(text);
        assert_eq!(upload.send().await.expect("an answer").status(), StatusCode::OK);
    }
}

/// Answers that begin, and are not read any further.
async fn unread(
    held: &mut Held,
    readers: usize,
    path: &str,
    accept: &str,
    address: impl Fn(usize) -> String,
) {
    held.get(0..readers, |_| path.to_owned(), accept, address).await.expect("answers");
}

async fn uploads_that_stall(protocol: Protocol) {
    const UPLOADS: usize = 1_500;
    let app = Budgeted::start(protocol, &["--body-timeout=1h"]);
    let mut stalled = app.connect(UPLOADS).await;
    let attack = stalled.upload("/streams/a", "x".repeat(64 * 1024 - 1).into(), own_address);
    let growth = growth(app.server.process.id(), attack).await;
    assert!(growth < BUDGET, "{growth} KiB for {UPLOADS} uploads");

    // As soon as another client waits, they have been slow for long enough.
    let post = || app.client().post(app.url("/streams/b")).body("x".repeat(60 * 1024));
    assert_eq!(app.in_the_end(post).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn uploads_that_stall_over_http_1() {
    uploads_that_stall(Protocol::Http1).await;
}

#[tokio::test]
async fn uploads_that_stall_over_http_2() {
    uploads_that_stall(Protocol::Http2).await;
}

/// Answers that one client, and then many, ask for and do not read.
async fn unread_answers(protocol: Protocol) {
    const READERS: usize = 100;
    let app = Budgeted::start(protocol, &[]);
    app.fill("a").await;
    let client = app.client();
    for path in ["/streams/a/messages?limit=1000", "/streams/a"] {
        let mut of_one = app.connect(READERS).await;
        let attack = unread(&mut of_one, READERS, path, "text/html", |_| "192.0.2.66".to_owned());
        let growth_by_one = growth(app.server.process.id(), attack).await;
        assert!(growth_by_one < BUDGET, "{growth_by_one} KiB for {READERS} of {path}");
        // It has used up its own share.
        let get = client.get(app.url(path)).header("x-forwarded-for", "192.0.2.1");
        let answer = get.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await.expect("a body").len() > 256 * 1024);

        let mut of_many = app.connect(READERS).await;
        let attack = unread(&mut of_many, READERS, path, "text/html", own_address);
        let growth_by_many = growth(app.server.process.id(), attack).await;
        assert!(growth_by_many < BUDGET, "{growth_by_many} KiB for {READERS} of {path}");
        let answer = app.in_the_end(|| client.get(app.url(path))).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn unread_answers_over_http_1() {
    unread_answers(Protocol::Http1).await;
}

#[tokio::test]
async fn unread_answers_over_http_2() {
    unread_answers(Protocol::Http2).await;
}

/// Uploads of lines that go on, after a long one.
async fn uploads_that_are_idle(protocol: Protocol) {
    const UPLOADS: usize = 600;
    let app = Budgeted::start(protocol, &["--publish-rate=0"]);
    let mut idle = app.connect(UPLOADS).await;
    let line = "x".repeat(60 * 1024) + "\n";
    let attack = idle.upload("/streams/a?lines", line.into(), own_address);
    let growth = growth(app.server.process.id(), attack).await;
    assert!(growth < BUDGET, "{growth} KiB for {UPLOADS} uploads");
}

#[tokio::test]
async fn uploads_that_are_idle_over_http_1() {
    uploads_that_are_idle(Protocol::Http1).await;
}

#[tokio::test]
async fn uploads_that_are_idle_over_http_2() {
    uploads_that_are_idle(Protocol::Http2).await;
}

/// Line breaks take seven times as much as an event: `data: ` precedes each line.
async fn readers_of_line_breaks_that_stall(protocol: Protocol) {
    const READERS: usize = 180;
    let app = Budgeted::start(protocol, &[]);
    let client = app.client();
    // More than the system takes for a reader.
    for _ in 0..20 {
        let post = client.post(app.url("/streams/a")).body("\n".repeat(64 * 1024)).send();
        assert_eq!(post.await.expect("an answer").status(), StatusCode::CREATED);
    }
    for addresses in [|_| "192.0.2.66".to_owned(), own_address as fn(usize) -> String] {
        let mut stalled = app.connect(READERS).await;
        let attack = unread(&mut stalled, READERS, "/streams/a/events", "*/*", addresses);
        let growth = growth(app.server.process.id(), attack).await;
        assert!(growth < BUDGET, "{growth} KiB for {READERS} readers");
        let watch = || client.get(app.url("/streams/a/events"));
        let mut events = events(app.in_the_end(watch).await);
        for _ in 0..2 {
            assert_eq!(next(&mut events).await.data.len(), 64 * 1024);
        }
    }
}

#[tokio::test]
async fn readers_of_line_breaks_that_stall_over_http_1() {
    readers_of_line_breaks_that_stall(Protocol::Http1).await;
}

#[tokio::test]
async fn readers_of_line_breaks_that_stall_over_http_2() {
    readers_of_line_breaks_that_stall(Protocol::Http2).await;
}

/// Readers that stall, each at another place of what was stored at the same time by many publishers.
async fn readers_that_stall(protocol: Protocol) {
    const READERS: usize = 180;
    let app = Budgeted::start(protocol, &[]);
    let mut stalled = app.connect(READERS).await;
    let client = app.client();
    let text = "x".repeat(32 * 1024);
    let publish = async {
        for n in 0..READERS {
            let path = |_| "/streams/a/events?last_event_id=latest".to_owned();
            stalled.get(n..n + 1, path, "*/*", own_address).await.expect("a reader");
            let post = || client.post(app.url("/streams/a")).body(text.clone());
            for answer in join_all((0..16).map(|_| app.in_the_end(post))).await {
                assert_eq!(answer.status(), StatusCode::CREATED);
            }
        }
    };
    let growth = growth(app.server.process.id(), publish).await;
    assert!(growth < BUDGET, "{growth} KiB for {READERS} readers");
}

#[tokio::test]
async fn readers_that_stall_over_http_1() {
    readers_that_stall(Protocol::Http1).await;
}

#[tokio::test]
async fn readers_that_stall_over_http_2() {
    readers_that_stall(Protocol::Http2).await;
}

/// The newest messages of many watched streams.
#[tokio::test]
async fn many_tails_have_a_total() {
    const STREAMS: usize = 48;
    let app = Budgeted::start(Protocol::Http1, &["--keep-bytes=2MiB"]);
    let client = app.client();
    let watch = |n: usize| {
        let get = client.get(app.url(&format!("/streams/{n}/events"))).send();
        async { events(get.await.expect("an answer")) }
    };
    let mut readers = join_all((0..STREAMS).map(watch)).await;
    let text = lines((0..1_500).map(|n| format!("{n:.>1000}")));
    let publish = async {
        // At the same time, and from many addresses, so that they share commits.
        let uploads = (0..STREAMS).map(|n| {
            let upload = client.post(app.url(&format!("/streams/{n}?lines")));
            upload.header("x-forwarded-for", own_address(n)).body(text.clone()).send()
        });
        for answer in join_all(uploads).await {
            assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
        }
    };
    let growth = growth(app.server.process.id(), publish).await;
    assert!(growth < BUDGET, "{growth} KiB for {STREAMS} streams");
    // Whatever was evicted is read from the log.
    for reader in &mut readers {
        for n in 0..1_500 {
            assert_eq!(next(reader).await.data, format!("{n:.>1000}"), "each once and in order");
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
