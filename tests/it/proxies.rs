//! The configurations of proxies in `deploy`, each with the proxy itself, where it is installed.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Body, Client, Response, StatusCode, Version, header, redirect::Policy};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::support::{
    TestApp, events, next,
    tls::{Identity, free_port, until_somebody_listens},
};

/// A proxy before a server, killed when it is dropped.
struct Proxy {
    process: Child,
    url: String,
    /// Where it takes plain HTTP, if it does.
    plain: Option<String>,
    client: Client,
    identity: Identity,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is different here from where the configuration is meant for.
struct Here {
    app: String,
    port: u16,
    plain_port: u16,
    folder: TempDir,
    identity: Identity,
}

impl Here {
    fn new(app: &TestApp) -> Self {
        let (folder, identity) = (TempDir::new().expect("a folder"), Identity::new());
        let file = |name: &str, content: &str| {
            fs::write(folder.path().join(name), content).expect("a file");
        };
        file("certificate.pem", &identity.certificate);
        file("key.pem", &identity.key);
        file("both.pem", &(identity.certificate.clone() + &identity.key));
        let app = app.address().to_owned();
        Self { app, port: free_port(), plain_port: free_port(), folder, identity }
    }

    fn folder(&self) -> &str {
        self.folder.path().to_str().expect("text")
    }

    /// Puts a configuration of ours in the folder, with some of its text replaced.
    fn configure(&self, name: &str, replaced: &[(&str, String)]) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let mut text = fs::read_to_string(file).expect("a configuration");
        for (from, to) in replaced.iter().chain(&[("127.0.0.1:3000", self.app.clone())]) {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replace(from, to);
        }
        let file = self.folder.path().join(name);
        fs::write(&file, text).expect("a file");
        file.to_str().expect("text").to_owned()
    }

    async fn start(self, command: &mut Command, plain: bool) -> Proxy {
        command.current_dir(self.folder()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("a process");
        let Self { identity, folder, .. } = self;
        let client = identity.client().redirect(Policy::none()).build().expect("a client");
        let plain = plain.then(|| format!("http://127.0.0.1:{}", self.plain_port));
        let url = format!("https://localhost:{}", self.port);
        let proxy = Proxy { process, url, plain, client, identity, _folder: folder };
        until_somebody_listens(self.port);
        while proxy.get("/health/live").await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy
    }
}

/// Whether there is such a program.
fn is_installed(program: &str, version: &str) -> bool {
    let output = Command::new(program).arg(version).output();
    let is_there = output.is_ok_and(|output| output.status.success());
    if !is_there {
        println!("skipped: {program} is not installed");
    }
    is_there
}

impl Proxy {
    async fn get(&self, path: &str) -> StatusCode {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await;
        answer.expect("an answer").status()
    }

    async fn watch(&self, cursor: &str) -> Response {
        let request = self.client.get(format!("{}/streams/news/events", self.url));
        request.header("last-event-id", cursor).send().await.expect("an answer")
    }

    /// Watches from another address of this machine, with an invented header.
    async fn watch_as(&self, address: [u8; 4], says: &str) -> Response {
        let client = self.identity.client().local_address(IpAddr::from(address)).build();
        let request = client.expect("a client").get(format!("{}/streams/news/events", self.url));
        request.header("x-forwarded-for", says).send().await.expect("an answer")
    }

    async fn publish(&self, text: &'static str) {
        let request = self.client.post(format!("{}/streams/news", self.url)).body(text);
        // As a form of ours is sent by a browser that says no more.
        let answer = request.header(header::ORIGIN, &self.url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
}

/// Everything that the proxy must let through as it is.
async fn lets_all_through(app: TestApp, proxy: Proxy) {
    let page = proxy.client.get(&proxy.url).send().await.expect("an answer");
    assert_eq!((page.status(), page.version()), (StatusCode::OK, Version::HTTP_2));
    assert!(page.text().await.expect("a page").contains("<html"));
    if let Some(plain) = &proxy.plain {
        let answer = proxy.client.get(format!("{plain}/streams/news")).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
        assert!(answer.headers()["location"].to_str().expect("text").starts_with("https://"));
    }

    // An event comes while the stream stays open, and a line while the upload does.
    let mut reader = events(proxy.watch("").await);
    proxy.publish("one").await;
    let one = next(&mut reader).await;
    assert_eq!(one.data, "one");
    let (lines, mut receiver) = mpsc::unbounded_channel::<&str>();
    let body = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let body = Body::wrap_stream(futures::StreamExt::map(body, Ok::<_, std::io::Error>));
    let upload = proxy.client.post(format!("{}/streams/news?lines", proxy.url)).body(body);
    let upload = tokio::spawn(upload.send());
    for line in ["two", "three"] {
        lines.send(line).expect("sent");
        lines.send("\n").expect("sent");
        assert_eq!(next(&mut reader).await.data, line);
    }
    drop(lines);
    let taken = upload.await.expect("no panic").expect("an answer").json::<Value>().await;
    assert_eq!(taken.expect("JSON")["taken"], 2);
    let large: &str = "x".repeat(65_536).leak();
    proxy.publish(large).await;
    assert_eq!(next(&mut reader).await.data, large);

    // The page says where it is: over TLS, whatever the server itself speaks.
    let page = proxy.client.get(format!("{}/streams/news", proxy.url)).send().await;
    assert!(page.expect("an answer").text().await.expect("a page").contains(&proxy.url));

    // Each client has limits of its own, whatever it says of itself; one that does not come through
    // the proxy is not believed either.
    let one_watches = proxy.watch_as([127, 0, 0, 2], "127.0.0.3").await;
    assert_eq!(one_watches.status(), StatusCode::OK);
    let again = proxy.watch_as([127, 0, 0, 2], "127.0.0.4").await;
    assert_eq!(again.status(), StatusCode::TOO_MANY_REQUESTS);
    let other = proxy.watch_as([127, 0, 0, 3], "127.0.0.2").await;
    assert_eq!(other.status(), StatusCode::OK);
    let beside = Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, 4])).build();
    let beside = beside.expect("a client").get(format!("{}/streams/news/events", app.url));
    let beside = beside.header("x-forwarded-for", "127.0.0.2").send().await.expect("an answer");
    assert_eq!(beside.status(), StatusCode::OK);
    drop((one_watches, other, beside));

    // A reader goes on where it was; one that leaves is seen to leave.
    drop(reader);
    app.until_none_is_open().await;
    let resumed = proxy.watch(&one.id).await;
    assert_eq!(resumed.headers()["content-type"], "text/event-stream; charset=utf-8");

    app.shutdown.begin();
    let text = resumed.text().await.expect("a proper end");
    assert!(text.contains("data: two") && !text.contains("data: one"), "{text}");
    assert!(text.contains("\nretry: ") && text.ends_with("event: ping\ndata: {}\n\n"));
    app.server.await.expect("no panic").expect("no failure");
}

async fn app() -> TestApp {
    TestApp::start(&[
        "--open",
        "--trusted-proxy",
        "127.0.0.1/32",
        "--max-watchers-per-address",
        "1",
    ])
    .await
}

#[tokio::test]
async fn nginx() {
    if !is_installed("nginx", "-v") {
        return;
    }
    let app = app().await;
    let here = Here::new(&app);
    let folder = here.folder().to_owned();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {folder}/{what};"))
        .concat();
    let file = here.configure(
        "nginx.conf",
        &[
            ("user www-data;", String::new()),
            ("/run/", format!("{folder}/")),
            ("/var/log/nginx/", format!("{folder}/")),
            ("/etc/ssl/tidings/", format!("{folder}/")),
            ("http {", format!("http {{ {temporary}")),
            ("listen 80;", format!("listen 127.0.0.1:{};", here.plain_port)),
            ("listen [::]:80;", String::new()),
            ("listen 443 ", format!("listen 127.0.0.1:{} ", here.port)),
            ("listen [::]:443 ssl http2;", String::new()),
        ],
    );
    let command = &mut Command::new("nginx");
    command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c", &file]);
    let proxy = here.start(command, true).await;
    lets_all_through(app, proxy).await;
}

#[tokio::test]
async fn caddy() {
    if !is_installed("caddy", "version") {
        return;
    }
    let app = app().await;
    let here = Here::new(&app);
    let folder = here.folder().to_owned();
    // It can not get a certificate here.
    let site = format!(
        "{{\nadmin off\nauto_https off\n}}\n\nhttps://localhost:{} {{\n\
         tls {folder}/certificate.pem {folder}/key.pem\n",
        here.port
    );
    let file = here.configure("Caddyfile", &[("tidings.example {\n", site)]);
    let command = &mut Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config", &file]);
    let proxy = here.start(command.env("HOME", folder), false).await;
    lets_all_through(app, proxy).await;
}

#[tokio::test]
async fn haproxy() {
    if !is_installed("haproxy", "-v") {
        return;
    }
    let app = app().await;
    let here = Here::new(&app);
    let file = here.configure(
        "haproxy.cfg",
        &[
            ("user haproxy", String::new()),
            ("group haproxy", String::new()),
            // As many as an ordinary user may have.
            ("maxconn 20000", "maxconn 100".to_owned()),
            ("bind :80", format!("bind 127.0.0.1:{}", here.plain_port)),
            ("bind :443 ", format!("bind 127.0.0.1:{} ", here.port)),
            ("/etc/ssl/tidings/", format!("{}/", here.folder())),
        ],
    );
    let proxy = here.start(Command::new("haproxy").args(["-db", "-f", &file]), true).await;
    lets_all_through(app, proxy).await;
}
