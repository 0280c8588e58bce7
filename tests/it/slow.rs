//! Slow clients (invariant 2 of the design): the total memory is bounded, over both protocols, whatever
//! clients do. The memory for a slow client does not depend on its speed, and other clients are served.
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
    tls::{CertificateFiles, Identity},
};

const STALLED_READERS: usize = 200;
const MESSAGES: usize = 100_000;
/// The bytes of a message, so that all messages together exceed the buffers of the sockets.
const MESSAGE_BYTES: usize = 150;
/// How much the memory of the server may grow with these readers and messages, in KiB: 64 for each
/// reader, and 64 MiB for the newest messages and the store. A queue per reader would take thousands of
/// MiB.
const MAX_GROWTH: u64 = 64 * STALLED_READERS as u64 + 64 * 1024;

fn message(n: usize) -> String {
    format!("{n:.>MESSAGE_BYTES$}")
}

/// The resident memory of a process, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Reads until all messages have arrived, each once and in order.
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

/// The peak growth of a process during an attack and two seconds after it, in KiB.
async fn growth(process: u32, attack: impl Future<Output = ()>) -> u64 {
    let before = memory(process);
    let (done, mut is_done) = tokio::sync::oneshot::channel::<()>();
    let measuring = async {
        let (mut peak, mut deadline) = (before, None);
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peak = peak.max(memory(process));
            if deadline.is_none() && is_done.try_recv() != Err(TryRecvError::Empty) {
                deadline = Some(Instant::now() + Duration::from_secs(2));
            }
        }
        println!("{} KiB more than {before}", peak - before);
        peak - before
    };
    let attacking = async {
        attack.await;
        drop(done);
    };
    tokio::join!(measuring, attacking).0
}

/// The memory budget of the server in these tests, in KiB.
const BUDGET: u64 = 64 * 1024;

/// HTTP/1.1 in the clear, or HTTP/2 over TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// A server with a memory budget, and a trusted proxy, so that the test can have many client addresses.
struct BudgetedServer {
    server: Server,
    protocol: Protocol,
    identity: Identity,
    _folder: TempDir,
    _files: CertificateFiles,
}

impl BudgetedServer {
    fn start(protocol: Protocol, arguments: &[&str]) -> Self {
        let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
        let identity = Identity::new();
        let files = CertificateFiles::of(&identity);
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

    /// A well-behaved client.
    fn client(&self) -> Client {
        self.identity.client().build().expect("a client")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// Opens connections that have made a request and are idle.
    async fn connect(&self, requests: usize) -> Held {
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
        let address = self.server.address.parse().expect("an address");
        let client = (self.protocol == Protocol::Http2).then_some(|| self.identity.client());
        Held::connect(address, client, requests).await.expect("idle connections")
    }

    /// The response to a client that retries while the memory is exhausted; succeeds within 12 seconds,
    /// long before stalled clients are disconnected after a minute.
    async fn retry(&self, request: impl Fn() -> RequestBuilder) -> Response {
        for _ in 0..12 {
            let request = request().header("x-forwarded-for", "192.0.2.1");
            let response = request.send().await.expect("a response");
            if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                return response;
            }
            assert!(response.headers().contains_key("retry-after"));
            let problem: Value = response.json().await.expect("JSON");
            assert_eq!(problem["type"], "/problems#memory-exhausted");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("slow clients starve the others");
    }

    /// Fills a stream with as much text as a page shows.
    async fn fill(&self, stream: &str) {
        let text = lines((0..20).map(|_| "<".repeat(32 * 1024)));
        let upload = self.client().post(self.url(&format!("/streams/{stream}?lines"))).body(text);
        assert_eq!(upload.send().await.expect("a response").status(), StatusCode::OK);
    }
}

/// Requests responses, and stops reading once they begin.
async fn request_and_stall(
    held: &mut Held,
    readers: usize,
    path: &str,
    accept: &str,
    address: impl Fn(usize) -> String,
) {
    held.get(0..readers, |_| path.to_owned(), accept, address).await.expect("responses");
}

async fn stalled_uploads(protocol: Protocol) {
    const UPLOADS: usize = 1_500;
    let app = BudgetedServer::start(protocol, &["--body-timeout=1h"]);
    let mut stalled = app.connect(UPLOADS).await;
    let attack = stalled.upload("/streams/a", "x".repeat(64 * 1024 - 1).into(), own_address);
    let growth = growth(app.server.process.id(), attack).await;
    assert!(growth < BUDGET, "{growth} KiB for {UPLOADS} uploads");

    // They are aborted as soon as another client waits for memory.
    let post = || app.client().post(app.url("/streams/b")).body("x".repeat(60 * 1024));
    assert_eq!(app.retry(post).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn stalled_uploads_over_http_1_stay_within_the_budget() {
    stalled_uploads(Protocol::Http1).await;
}

#[tokio::test]
async fn stalled_uploads_over_http_2_stay_within_the_budget() {
    stalled_uploads(Protocol::Http2).await;
}

/// Responses that one client, and then many clients, request and do not read.
async fn unread_responses(protocol: Protocol) {
    const READERS: usize = 100;
    let app = BudgetedServer::start(protocol, &[]);
    app.fill("a").await;
    let client = app.client();
    for path in ["/streams/a/messages?limit=1000", "/streams/a"] {
        let mut one_client = app.connect(READERS).await;
        let attack = request_and_stall(&mut one_client, READERS, path, "text/html", |_| {
            "192.0.2.66".to_owned()
        });
        let growth_by_one = growth(app.server.process.id(), attack).await;
        assert!(growth_by_one < BUDGET, "{growth_by_one} KiB for {READERS} of {path}");
        // That client has used up only its own share.
        let get = client.get(app.url(path)).header("x-forwarded-for", "192.0.2.1");
        let response = get.send().await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.bytes().await.expect("a body").len() > 256 * 1024);

        let mut many_clients = app.connect(READERS).await;
        let attack = request_and_stall(&mut many_clients, READERS, path, "text/html", own_address);
        let growth_by_many = growth(app.server.process.id(), attack).await;
        assert!(growth_by_many < BUDGET, "{growth_by_many} KiB for {READERS} of {path}");
        let response = app.retry(|| client.get(app.url(path))).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn unread_responses_over_http_1_stay_within_the_budget() {
    unread_responses(Protocol::Http1).await;
}

#[tokio::test]
async fn unread_responses_over_http_2_stay_within_the_budget() {
    unread_responses(Protocol::Http2).await;
}

/// Uploads of lines that are idle after a long line.
async fn idle_uploads(protocol: Protocol) {
    const UPLOADS: usize = 600;
    let app = BudgetedServer::start(protocol, &["--publish-rate=0"]);
    let mut idle = app.connect(UPLOADS).await;
    let line = "x".repeat(60 * 1024) + "\n";
    let attack = idle.upload("/streams/a?lines", line.into(), own_address);
    let growth = growth(app.server.process.id(), attack).await;
    assert!(growth < BUDGET, "{growth} KiB for {UPLOADS} uploads");
}

#[tokio::test]
async fn idle_uploads_over_http_1_stay_within_the_budget() {
    idle_uploads(Protocol::Http1).await;
}

#[tokio::test]
async fn idle_uploads_over_http_2_stay_within_the_budget() {
    idle_uploads(Protocol::Http2).await;
}

/// Messages of line breaks are seven times as large on the wire: `data: ` precedes each line.
async fn stalled_readers_of_line_breaks(protocol: Protocol) {
    const READERS: usize = 180;
    let app = BudgetedServer::start(protocol, &[]);
    let client = app.client();
    // More than the socket buffers of a reader hold.
    for _ in 0..20 {
        let post = client.post(app.url("/streams/a")).body("\n".repeat(64 * 1024)).send();
        assert_eq!(post.await.expect("a response").status(), StatusCode::CREATED);
    }
    for addresses in [|_| "192.0.2.66".to_owned(), own_address as fn(usize) -> String] {
        let mut stalled = app.connect(READERS).await;
        let attack =
            request_and_stall(&mut stalled, READERS, "/streams/a/events", "*/*", addresses);
        let growth = growth(app.server.process.id(), attack).await;
        assert!(growth < BUDGET, "{growth} KiB for {READERS} readers");
        let watch = || client.get(app.url("/streams/a/events"));
        let mut events = events(app.retry(watch).await);
        for _ in 0..2 {
            assert_eq!(next(&mut events).await.data.len(), 64 * 1024);
        }
    }
}

#[tokio::test]
async fn stalled_readers_of_line_breaks_over_http_1_stay_within_the_budget() {
    stalled_readers_of_line_breaks(Protocol::Http1).await;
}

#[tokio::test]
async fn stalled_readers_of_line_breaks_over_http_2_stay_within_the_budget() {
    stalled_readers_of_line_breaks(Protocol::Http2).await;
}

/// Readers of a stream, or of several on one connection, that stall, each at another position among
/// messages of many publishers.
async fn stalled_readers(protocol: Protocol, streams: &str, text: &str) {
    const READERS: usize = 180;
    let app = BudgetedServer::start(protocol, &[]);
    let mut stalled = app.connect(READERS).await;
    let client = app.client();
    let publish = async {
        for n in 0..READERS {
            let path = |_| format!("/streams/{streams}/events?last_event_id=latest");
            stalled.get(n..n + 1, path, "*/*", own_address).await.expect("a reader");
            let names = streams.split(',').cycle();
            let posts = names.take(16).map(|name| {
                let url = app.url(&format!("/streams/{name}"));
                let client = &client;
                app.retry(move || client.post(url.clone()).body(text.to_owned()))
            });
            for response in join_all(posts).await {
                assert_eq!(response.status(), StatusCode::CREATED);
            }
        }
    };
    let growth = growth(app.server.process.id(), publish).await;
    assert!(growth < BUDGET, "{growth} KiB for {READERS} readers");
}

#[tokio::test]
async fn stalled_readers_over_http_1_stay_within_the_budget() {
    stalled_readers(Protocol::Http1, "a", &"x".repeat(32 * 1024)).await;
}

#[tokio::test]
async fn stalled_readers_over_http_2_stay_within_the_budget() {
    stalled_readers(Protocol::Http2, "a", &"x".repeat(32 * 1024)).await;
}

/// They have caught up, and then get messages that are seven times as large on the wire.
#[tokio::test]
async fn live_readers_of_line_breaks_that_stall_stay_within_the_budget() {
    stalled_readers(Protocol::Http1, "a", &"\n".repeat(64 * 1024)).await;
}

/// Each holds a message of some of the streams.
#[tokio::test]
async fn stalled_readers_of_sixteen_streams_stay_within_the_budget() {
    let streams = "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p";
    stalled_readers(Protocol::Http1, streams, &"x".repeat(12 * 1024)).await;
}

/// The newest messages of many watched streams.
#[tokio::test]
async fn the_tails_of_many_streams_are_within_the_budget() {
    const STREAMS: usize = 48;
    let app = BudgetedServer::start(Protocol::Http1, &["--keep-bytes=2MiB"]);
    let client = app.client();
    let watch = |n: usize| {
        let get = client.get(app.url(&format!("/streams/{n}/events"))).send();
        async { events(get.await.expect("a response")) }
    };
    let mut readers = join_all((0..STREAMS).map(watch)).await;
    let text = lines((0..1_500).map(|n| format!("{n:.>1000}")));
    let publish = async {
        // Concurrently and from many addresses, so that they share group commits.
        let uploads = (0..STREAMS).map(|n| {
            let upload = client.post(app.url(&format!("/streams/{n}?lines")));
            upload.header("x-forwarded-for", own_address(n)).body(text.clone()).send()
        });
        for response in join_all(uploads).await {
            assert_eq!(response.expect("a response").status(), StatusCode::OK);
        }
    };
    let growth = growth(app.server.process.id(), publish).await;
    assert!(growth < BUDGET, "{growth} KiB for {STREAMS} streams");
    // Messages that were evicted from the tails are read from the log.
    for reader in &mut readers {
        for n in 0..1_500 {
            assert_eq!(next(reader).await.data, format!("{n:.>1000}"), "each once and in order");
        }
    }
}

#[tokio::test]
async fn stalled_readers_take_little_memory_and_stay_connected() {
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
    let watch = || async { client.get(format!("{url}/events")).send().await.expect("a response") };
    let stalled = join_all((0..STALLED_READERS).map(|_| watch())).await;
    let ordinary = tokio::spawn(read_all(watch().await));
    let before = memory(server.process.id());

    let lines = stream::iter((0..MESSAGES).step_by(1000))
        .map(|from| Ok::<_, std::io::Error>(lines((from..from + 1000).map(message))));
    let upload = client.post(format!("{url}?lines")).body(Body::wrap_stream(lines)).send();
    let result: Value = upload.await.expect("a response").json().await.expect("JSON");
    assert_eq!(result["taken"], MESSAGES);
    ordinary.await.expect("a reader that got all messages");
    let growth = memory(server.process.id()).saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} KiB more for {STALLED_READERS} readers");

    let open = async || -> Value {
        let ready = client.get(format!("{}/health/ready", server.url())).send().await;
        ready.expect("a response").json::<Value>().await.expect("JSON")["open_streams"].clone()
    };
    while open().await != STALLED_READERS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(open().await, STALLED_READERS, "they stay connected");
    let mut stalled = stalled.into_iter();
    join_all(stalled.by_ref().take(4).map(read_all)).await;
    let growth = memory(server.process.id()).saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} KiB more for readers that catch up");
}
