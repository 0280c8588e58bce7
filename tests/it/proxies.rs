//! The reverse proxy configurations in `deploy`, each tested with the proxy itself where it is installed.

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
    process::is_installed,
    tls::{Identity, free_port, wait_for_listener},
};

/// A proxy in front of a server, killed when it is dropped.
struct Proxy {
    process: Child,
    url: String,
    /// The URL of its plain HTTP listener, if it has one.
    plain_url: Option<String>,
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

/// The addresses and files of the test, which replace those in a configuration.
struct ProxySetup {
    app_address: String,
    port: u16,
    plain_port: u16,
    folder: TempDir,
    identity: Identity,
}

impl ProxySetup {
    fn new(app: &TestApp) -> Self {
        let (folder, identity) = (TempDir::new().expect("a folder"), Identity::new());
        let file = |name: &str, content: &str| {
            fs::write(folder.path().join(name), content).expect("a file");
        };
        file("certificate.pem", &identity.certificate);
        file("key.pem", &identity.key);
        file("both.pem", &(identity.certificate.clone() + &identity.key));
        let app_address = app.address().to_owned();
        Self { app_address, port: free_port(), plain_port: free_port(), folder, identity }
    }

    fn folder(&self) -> &str {
        self.folder.path().to_str().expect("text")
    }

    /// Copies a configuration into the folder, with the replacements and the address of the server.
    fn configure(&self, name: &str, replacements: &[(&str, String)]) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let mut text = fs::read_to_string(file).expect("a configuration");
        for (from, to) in replacements.iter().chain(&[("127.0.0.1:3000", self.app_address.clone())])
        {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replace(from, to);
        }
        let file = self.folder.path().join(name);
        fs::write(&file, text).expect("a file");
        file.to_str().expect("text").to_owned()
    }

    async fn start(self, command: &mut Command, has_plain_http: bool) -> Proxy {
        command.current_dir(self.folder()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("a process");
        let Self { identity, folder, .. } = self;
        let client = identity.client().redirect(Policy::none()).build().expect("a client");
        let plain_url = has_plain_http.then(|| format!("http://127.0.0.1:{}", self.plain_port));
        let url = format!("https://localhost:{}", self.port);
        let proxy = Proxy { process, url, plain_url, client, identity, _folder: folder };
        wait_for_listener(self.port);
        while proxy.get("/health/live").await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy
    }
}

impl Proxy {
    async fn get(&self, path: &str) -> StatusCode {
        let response = self.client.get(format!("{}{path}", self.url)).send().await;
        response.expect("a response").status()
    }

    async fn watch(&self, cursor: &str) -> Response {
        let request = self.client.get(format!("{}/streams/news/events", self.url));
        request.header("last-event-id", cursor).send().await.expect("a response")
    }

    /// Watches from another loopback address, with a forged `x-forwarded-for` header.
    async fn watch_from(&self, address: [u8; 4], forwarded_for: &str) -> Response {
        let client = self.identity.client().local_address(IpAddr::from(address)).build();
        let request = client.expect("a client").get(format!("{}/streams/news/events", self.url));
        request.header("x-forwarded-for", forwarded_for).send().await.expect("a response")
    }

    async fn publish(&self, text: &'static str) {
        let request = self.client.post(format!("{}/streams/news", self.url)).body(text);
        // As a browser without `Sec-Fetch-Site` sends a form of the site.
        let response = request.header(header::ORIGIN, &self.url).send().await.expect("a response");
        assert_eq!(response.status(), StatusCode::CREATED);
    }
}

/// Asserts that everything works through the proxy.
async fn check_proxy(app: TestApp, proxy: Proxy) {
    let page = proxy.client.get(&proxy.url).send().await.expect("a response");
    assert_eq!((page.status(), page.version()), (StatusCode::OK, Version::HTTP_2));
    assert!(page.text().await.expect("a page").contains("<html"));
    if let Some(plain_url) = &proxy.plain_url {
        let response = proxy.client.get(format!("{plain_url}/streams/news")).send().await;
        let response = response.expect("a response");
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        assert!(response.headers()["location"].to_str().expect("text").starts_with("https://"));
    }

    // Events are not buffered while the stream is open, nor lines while the upload goes on.
    let mut reader = events(proxy.watch("").await);
    proxy.publish("one").await;
    let first_event = next(&mut reader).await;
    assert_eq!(first_event.data, "one");
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
    let result = upload.await.expect("no panic").expect("a response").json::<Value>().await;
    assert_eq!(result.expect("JSON")["taken"], 2);
    let large: &str = "x".repeat(65_536).leak();
    proxy.publish(large).await;
    assert_eq!(next(&mut reader).await.data, large);

    // The page shows its public https URL, although the server itself uses plain HTTP.
    let page = proxy.client.get(format!("{}/streams/news", proxy.url)).send().await;
    assert!(page.expect("a response").text().await.expect("a page").contains(&proxy.url));

    // Each client has limits of its own: a forged header has no effect, neither through the proxy nor from
    // a client that connects to the server directly.
    let first = proxy.watch_from([127, 0, 0, 2], "127.0.0.3").await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = proxy.watch_from([127, 0, 0, 2], "127.0.0.4").await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    let other = proxy.watch_from([127, 0, 0, 3], "127.0.0.2").await;
    assert_eq!(other.status(), StatusCode::OK);
    let direct = Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, 4])).build();
    let direct = direct.expect("a client").get(format!("{}/streams/news/events", app.url));
    let direct = direct.header("x-forwarded-for", "127.0.0.2").send().await.expect("a response");
    assert_eq!(direct.status(), StatusCode::OK);
    drop((first, other, direct));

    // A reader that disconnects is noticed, and can resume.
    drop(reader);
    app.wait_until_no_stream_is_open().await;
    let resumed = proxy.watch(&first_event.id).await;
    assert_eq!(resumed.headers()["content-type"], "text/event-stream; charset=utf-8");

    app.shutdown.begin();
    let text = resumed.text().await.expect("a complete response");
    assert!(text.contains("data: two") && !text.contains("data: one"), "{text}");
    assert!(text.contains("\nretry: ") && text.ends_with("event: ping\ndata: {}\n\n"));
    app.server.await.expect("no panic").expect("no failure");
}

async fn start_behind_proxy() -> TestApp {
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
async fn the_nginx_configuration_works() {
    if !is_installed("nginx", "-v") {
        return;
    }
    let app = start_behind_proxy().await;
    let setup = ProxySetup::new(&app);
    let folder = setup.folder().to_owned();
    let temp_paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};"))
        .concat();
    let file = setup.configure(
        "nginx.conf",
        &[
            ("user www-data;", String::new()),
            ("/run/", format!("{folder}/")),
            ("/var/log/nginx/", format!("{folder}/")),
            ("/etc/ssl/tidings/", format!("{folder}/")),
            ("http {", format!("http {{ {temp_paths}")),
            ("listen 80;", format!("listen 127.0.0.1:{};", setup.plain_port)),
            ("listen [::]:80;", String::new()),
            ("listen 443 ", format!("listen 127.0.0.1:{} ", setup.port)),
            ("listen [::]:443 ssl http2;", String::new()),
        ],
    );
    let command = &mut Command::new("nginx");
    command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c", &file]);
    let proxy = setup.start(command, true).await;
    check_proxy(app, proxy).await;
}

#[tokio::test]
async fn the_caddy_configuration_works() {
    if !is_installed("caddy", "version") {
        return;
    }
    let app = start_behind_proxy().await;
    let setup = ProxySetup::new(&app);
    let folder = setup.folder().to_owned();
    // It cannot obtain a certificate in a test.
    let site = format!(
        "{{\nadmin off\nauto_https off\n}}\n\nhttps://localhost:{} {{\n\
         tls {folder}/certificate.pem {folder}/key.pem\n",
        setup.port
    );
    let file = setup.configure("Caddyfile", &[("tidings.example {\n", site)]);
    let command = &mut Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config", &file]);
    let proxy = setup.start(command.env("HOME", folder), false).await;
    check_proxy(app, proxy).await;
}

#[tokio::test]
async fn the_haproxy_configuration_works() {
    if !is_installed("haproxy", "-v") {
        return;
    }
    let app = start_behind_proxy().await;
    let setup = ProxySetup::new(&app);
    let file = setup.configure(
        "haproxy.cfg",
        &[
            ("user haproxy", String::new()),
            ("group haproxy", String::new()),
            // Within the limit of open files of an ordinary user.
            ("maxconn 20000", "maxconn 100".to_owned()),
            ("bind :80", format!("bind 127.0.0.1:{}", setup.plain_port)),
            ("bind :443 ", format!("bind 127.0.0.1:{} ", setup.port)),
            ("/etc/ssl/tidings/", format!("{}/", setup.folder())),
        ],
    );
    let proxy = setup.start(Command::new("haproxy").args(["-db", "-f", &file]), true).await;
    check_proxy(app, proxy).await;
}
