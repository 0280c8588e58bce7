//! What makes a test five lines long.

use std::{fs, time::Duration};

use clap::Parser as _;
use eventsource_stream::{Event, EventStream, Eventsource as _};
use futures::{Stream, StreamExt as _};
use reqwest::{Client, Response};
use tempfile::TempDir;
use tidings::server::{
    self, clock::Clock, config::Config, shutdown::Shutdown, site::Site, streams::Streams,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// The time of day at which every server of a test starts.
pub(crate) const NOW: u64 = 1_763_891_234_567;

/// A server on a port of its own, whose time of day follows tokio's clock.
pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
    pub(crate) server: JoinHandle<()>,
    _site: TempDir,
}

impl TestApp {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let arguments =
            [&["tidings", "--listen", "127.0.0.1:0", "--data", ":memory:"], arguments].concat();
        let config = Config::try_parse_from(arguments).expect("good arguments");
        let folder = built_site();
        let site = Site::find(Some(folder.path())).expect("a site");
        let listener = TcpListener::bind(config.listen).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shutdown = Shutdown::default();
        let clock = Clock::Following { millis: NOW, origin: Instant::now() };
        let streams = Streams::open(&config, clock).await.expect("a store");
        let server = server::run(listener, config, site, streams, clock, shutdown.clone());
        let server = tokio::spawn(server);
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { url, client, shutdown, server, _site: folder }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    /// How many event streams the server says are open.
    pub(crate) async fn open_streams(&self) -> u64 {
        let ready: serde_json::Value = self.get("/health/ready").await.json().await.expect("JSON");
        ready["open_streams"].as_u64().expect("a number")
    }

    /// Waits until no event stream is open.
    pub(crate) async fn until_none_is_open(&self) {
        for _ in 0..3_000 {
            if self.open_streams().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} streams stay open", self.open_streams().await);
    }
}

/// A folder with the files a build makes, as far as the server cares.
pub(crate) fn built_site() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).expect("a file");
    };
    fs::create_dir(folder.path().join("pkg")).expect("a folder");
    file("hash.txt", "js: AAA\nwasm: BBB\ncss: CCC\n");
    file("favicon.svg", "<svg/>");
    file("pkg/tidings.AAA.js", "script");
    file("pkg/tidings.AAA.js.br", "compressed script");
    folder
}

/// What a response says, as an independent parser understands it.
pub(crate) fn events(
    response: Response,
) -> EventStream<impl Stream<Item = reqwest::Result<impl AsRef<[u8]>>>> {
    response.bytes_stream().eventsource()
}

/// Everything a response says until it ends.
pub(crate) async fn all_events(response: Response) -> Vec<Event> {
    events(response).map(|event| event.expect("a valid stream")).collect().await
}

/// The sequences in the ids of these events.
pub(crate) fn sequences(events: &[Event]) -> Vec<u64> {
    let sequence = |event: &Event| event.id.split_once('-').map(|(_, sequence)| sequence.parse());
    events.iter().map(|event| sequence(event).expect("an id").expect("a number")).collect()
}
