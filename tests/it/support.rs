//! Test support: a server on a free port, its client, and the parts of event streams.

pub(crate) mod contract;
#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
pub(crate) mod deployment;
#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
pub(crate) mod faults;
pub(crate) mod process;
pub(crate) mod reconnecting;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod tls;

use std::{fs, path::Path, time::Duration};

use clap::Parser as _;
use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures::{StreamExt as _, stream::BoxStream};
use reqwest::{Body, Client, Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tidings::server::{
    Clock, Config, Failure, Listeners, Server, Shutdown, Site, Streams, Supervisor,
};
use tokio::{task::JoinHandle, time::Instant};

/// The Unix time at which the server of a test starts, in milliseconds.
pub(crate) const NOW: u64 = 1_763_891_234_567;

/// Flags that lift the limits per client: all clients of a test have the same address.
const UNLIMITED: [&str; 10] = [
    "--read-rate",
    "0",
    "--publish-rate",
    "0",
    "--max-watchers-per-address",
    "10000",
    "--max-requests-per-address",
    "10000",
    "--allow-host",
    "*",
];

/// A server on a free port, whose time of day follows tokio's clock.
pub(crate) struct TestApp {
    pub(crate) url: String,
    /// The URL of the redirect to HTTPS, if there is one.
    pub(crate) redirect: Option<String>,
    /// The URL of the metrics.
    pub(crate) metrics: String,
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
    pub(crate) supervisor: Supervisor,
    pub(crate) server: JoinHandle<Result<(), Failure>>,
    site: TempDir,
}

impl TestApp {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_at(NOW, &[&["--data", ":memory:"], arguments].concat()).await
    }

    /// A server with a store in `file`, started at the Unix time `now` in milliseconds.
    pub(crate) async fn start_on(file: &Path, now: u64, arguments: &[&str]) -> Self {
        let file = file.to_str().expect("text");
        Self::start_at(now, &[&["--data", file], arguments].concat()).await
    }

    async fn start_at(now: u64, arguments: &[&str]) -> Self {
        let program = ["tidings", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let arguments = [&program, &UNLIMITED[..], arguments].concat();
        let config = Config::try_parse_from(arguments).expect("good arguments");
        let folder = built_site();
        let site = Site::find(Some(folder.path())).expect("a site");
        let listeners = Listeners::bind(&config.addresses()).await.expect("free ports");
        let url = listeners.url().expect("an address");
        let redirect = listeners.redirect_url().expect("an address");
        let metrics = listeners.metrics_url().expect("an address").expect("a listener");
        let shutdown = Shutdown::default();
        let supervisor = Supervisor::new(shutdown.clone());
        let clock = Clock::Tokio { millis: now, origin: Instant::now() };
        let access = config.access.rules(clock).expect("secrets");
        let streams = Streams::open(&config, clock, &supervisor).await.expect("a store");
        let server = Server { config, site, access, streams, clock, shutdown: shutdown.clone() };
        let server = tokio::spawn(server.run(listeners));
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { url, redirect, metrics, client, shutdown, supervisor, server, site: folder }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    /// The folder with the files of the site.
    pub(crate) fn site(&self) -> &Path {
        self.site.path()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("a response")
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.body(body).send().await.expect("a response")
    }

    /// Publishes a message and returns its id.
    pub(crate) async fn publish(&self, stream: &str, text: &str) -> String {
        let response = self.post(&format!("/streams/{stream}"), text.to_owned()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let accepted: Value = response.json().await.expect("JSON");
        accepted["id"].as_str().expect("an id").to_owned()
    }

    /// Publishes each line as a message.
    pub(crate) async fn publish_lines(&self, stream: &str, lines: String) {
        let response = self.post(&format!("/streams/{stream}?lines"), lines).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    pub(crate) async fn end(&self, stream: &str) {
        let response = self.post(&format!("/streams/{stream}/end"), "").await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    pub(crate) async fn delete(&self, stream: &str) {
        let response = self.send(Method::DELETE, &format!("/streams/{stream}"), "").await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    /// The events of a stream from a cursor, sent in the `Last-Event-ID` header as browsers do.
    pub(crate) async fn watch(&self, stream: &str, cursor: &str) -> Events {
        let path = format!("/streams/{stream}/events");
        events(self.get_with(&path, &[("last-event-id", cursor)]).await)
    }

    /// All messages of a stream, read from its history: ids and texts.
    pub(crate) async fn log(&self, stream: &str) -> Vec<(String, String)> {
        read_history(&self.client, &format!("{}/streams/{stream}/messages", self.url)).await
    }

    /// Shuts the server down, as a signal would, without waiting for its pauses in real time.
    pub(crate) async fn stop(self) {
        tokio::time::pause();
        self.shutdown.begin();
        self.server.await.expect("no panic").expect("no failure");
        tokio::time::resume();
    }

    /// The number of open event streams, as the readiness check reports it.
    pub(crate) async fn open_streams(&self) -> u64 {
        let ready: Value = self.get("/health/ready").await.json().await.expect("JSON");
        ready["open_streams"].as_u64().expect("a number")
    }

    /// Waits until no event stream is open.
    pub(crate) async fn wait_until_no_stream_is_open(&self) {
        for _ in 0..3_000 {
            if self.open_streams().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} streams stay open", self.open_streams().await);
    }
}

/// The name of the sign-in cookie of a server with this secret, over plain HTTP.
pub(crate) fn cookie_name(secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let mac = jsonwebtoken::crypto::sign(b"cookie", &key, jsonwebtoken::Algorithm::HS256);
    format!("tidings-{}", &mac.expect("an HMAC")[..4])
}

/// A folder with the files of a built site, as far as the server reads them.
pub(crate) fn built_site() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).expect("a file");
    };
    fs::create_dir(folder.path().join("pkg")).expect("a folder");
    file("hash.txt", "js: AAA\nwasm: BBB\ncss: CCC\n");
    file("favicon.svg", "<svg/>");
    file("find.js", "script");
    file("pkg/tidings.CCC.css", "h1{color:teal}");
    file("pkg/tidings.AAA.js", "script");
    file("pkg/tidings.AAA.js.br", "compressed script");
    folder
}

/// The texts as lines, each with a line end.
pub(crate) fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |lines, text| lines + &text + "\n")
}

/// A reproducible random number generator: set `SEED` to the value that a failed test printed.
pub(crate) fn seeded_rng() -> fastrand::Rng {
    let set = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = set.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Reads all pages of a history: ids and texts.
pub(crate) async fn read_history(client: &Client, url: &str) -> Vec<(String, String)> {
    let mut log = Vec::new();
    let mut after = "earliest".to_owned();
    loop {
        let page = client.get(format!("{url}?limit=1000&after={after}")).send().await;
        let page: Value = page.expect("a response").json().await.expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let messages = page["messages"].as_array().expect("messages");
        log.extend(messages.iter().map(|one| (text(&one["id"]), text(&one["data"]))));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return log,
        }
    }
}

/// The events of a response, parsed by an independent parser, without pings.
pub(crate) fn events(response: Response) -> Events {
    let is_no_ping = |event: &Result<Event, _>| {
        let is_ping = event.as_ref().is_ok_and(|event| event.event == "ping");
        std::future::ready(!is_ping)
    };
    events_with_pings(response).filter(is_no_ping).boxed()
}

/// The events of a response, with pings.
pub(crate) fn events_with_pings(response: Response) -> Events {
    response.bytes_stream().boxed().eventsource().boxed()
}

/// The events of a response.
pub(crate) type Events = BoxStream<'static, Result<Event, EventStreamError<reqwest::Error>>>;

/// The next event; panics if none comes within a minute.
pub(crate) async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_mins(1), events.next()).await;
    event.expect("an event in time").expect("an event").expect("a valid stream")
}

/// All events of a response, without pings, until it ends.
pub(crate) async fn all_events(response: Response) -> Vec<Event> {
    events(response).map(|event| event.expect("a valid stream")).collect().await
}

/// The sequences in the ids of these events.
pub(crate) fn sequences(events: &[Event]) -> Vec<u64> {
    let sequence = |event: &Event| event.id.split_once('-').map(|(_, sequence)| sequence.parse());
    events.iter().map(|event| sequence(event).expect("an id").expect("a number")).collect()
}
