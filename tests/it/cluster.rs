//! Several servers on one database are one: what one stores the others have, and what one cannot do it
//! says.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use eventsource_stream::Event;
use futures::StreamExt as _;
use serde_json::Value;
use tidings_cluster::{Cluster, Cutter, Options, Tls, connection_url};

use crate::support::{
    Events, NOW, TestApp, built_site,
    deployment::{blocking, empty_database},
    events, events_with_pings, next,
    process::{is_installed, start_refused, tidings},
    tls::{Identity, free_port},
};

/// Servers on one empty database. None where `PostgreSQL` is not installed.
async fn servers<const N: usize>(database: &'static str, flags: &[&str]) -> Option<[TestApp; N]> {
    let (_, url) = blocking(|| empty_database(database)).await?;
    let mut servers = Vec::new();
    for _ in 0..N {
        servers.push(TestApp::start(&[&["--data", &url], flags].concat()).await);
    }
    servers.try_into().ok()
}

async fn status_and_type(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let problem: Value = response.json().await.expect("a problem");
    (status, problem["type"].as_str().expect("a type").to_owned())
}

/// Waits until the next event of this kind.
async fn next_of_kind(events: &mut Events, kind: &str) -> Event {
    loop {
        let event = next(events).await;
        if event.event == kind {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_the_watchers_of_every_server_once_in_order() {
    let Some(servers) = servers::<3>("every_server", &[]).await else { return };
    let mut watchers = Vec::new();
    for server in &servers {
        watchers.push(server.watch("news", "earliest").await);
    }
    let mut published = Vec::new();
    for n in 0..60 {
        published.push(servers[n % 3].publish("news", &n.to_string()).await);
    }
    servers[1].end("news").await;
    for mut watcher in watchers {
        let mut received = Vec::new();
        while let Some(event) = watcher.next().await {
            received.push(event.expect("an event"));
        }
        let end = received.pop().expect("an end");
        assert_eq!(end.event, "end_event");
        let ids: Vec<_> = received.iter().map(|event| event.id.clone()).collect();
        assert_eq!(ids, published);
    }
    let mut rest = servers[2].watch("news", &published[30]).await;
    assert_eq!(next(&mut rest).await.id, published[31], "a cursor of one server is one of all");
    let late = servers[0].post("/streams/news", "late").await;
    assert_eq!(late.status(), 409, "the end holds everywhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_resets_the_watchers_of_every_server() {
    let Some([one, other]) = servers("deletion", &[]).await else { return };
    one.publish("news", "old").await;
    let mut watcher = other.watch("news", "earliest").await;
    assert_eq!(next(&mut watcher).await.data, "old");
    one.delete("news").await;
    let reset = next(&mut watcher).await;
    assert_eq!(reset.event, "reset");
    assert!(reset.data.contains("deleted"), "{}", reset.data);
    one.publish("news", "new").await;
    assert_eq!(next(&mut watcher).await.data, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_limits_hold_across_servers() {
    let Some([one, other]) = servers("limits", &["--max-streams", "2"]).await else { return };
    let publish = async |server: &TestApp, body: &'static str| {
        let request = server.client.post(format!("{}/streams/news", server.url));
        let response = request.header("idempotency-key", "k").body(body).send().await;
        response.expect("a response")
    };
    let first = publish(&one, "text").await;
    assert_eq!(first.status(), 201);
    let first: Value = first.json().await.expect("JSON");
    let again: Value = publish(&other, "text").await.json().await.expect("JSON");
    assert_eq!(again["id"], first["id"]);
    assert_eq!(publish(&other, "another text").await.status(), 422);
    assert_eq!(one.log("news").await.len(), 1);
    other.publish("second", "text").await;
    let refused = one.post("/streams/third", "text").await;
    assert_eq!(refused.status(), 409);
}

/// The clock of the database dates messages, not those of the servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_of_a_server_does_no_harm() {
    let Some([one, other]) = servers("clocks", &[]).await else { return };
    // The clock of these servers is that of the tests: it is months behind.
    let mut last = (0, 0);
    for n in 0..20 {
        let server = if n % 2 == 0 { &one } else { &other };
        let id = server.publish("news", "text").await;
        let (millis, seq) = id.split_once('-').expect("an id");
        let id: (u64, u64) = (millis.parse().expect("millis"), seq.parse().expect("a sequence"));
        assert!(id.0 >= last.0 && id.1 == last.1 + 1, "{id:?} after {last:?}");
        last = id;
    }
    assert!(last.0 > NOW + 24 * 60 * 60 * 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_summed() {
    let Some([one, other]) = servers("watchers", &[]).await else { return };
    one.publish("news", "text").await;
    let _watchers = [
        one.watch("news", "earliest").await,
        one.watch("news", "earliest").await,
        other.watch("news", "earliest").await,
    ];
    for server in [&one, &other] {
        let mut text = String::new();
        for _ in 0..600 {
            text = server.get("/streams/news").await.text().await.expect("a page");
            if text.contains("3 readers were connected") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(text.contains("3 readers were connected"), "{text}");
    }
}

/// A server that cannot reach its database says so, and keeps its readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_database_says_so_and_recovers() {
    let Some((cluster, url)) = blocking(|| empty_database("cut_off")).await else { return };
    let network = blocking(|| Cutter::start(cluster.addresses())).await.expect("free ports");
    let cut = connection_url("tidings", network.addresses()).replace("/tidings", "/cut_off");
    let cut = cut.replace("//cut_off", "//tidings");
    let one = TestApp::start(&["--data", &cut]).await;
    let other = TestApp::start(&["--data", &url]).await;
    let first = one.publish("news", "before").await;
    let response = one.get_with("/streams/news/events", &[("last-event-id", &first)]).await;
    let mut watcher = events_with_pings(response);
    assert_eq!(next(&mut watcher).await.data, "{}");

    network.set_down(true);
    network.cut_all();
    let stale = next(&mut watcher).await;
    assert_eq!((stale.event.as_str(), stale.data.as_str()), ("ping", r#"{"stale":true}"#));
    let refused = one.post("/streams/news", "meanwhile").await;
    assert!(refused.headers().contains_key("retry-after"));
    let (status, kind) = status_and_type(refused).await;
    assert_eq!(status, 503);
    assert!(kind.ends_with("store-unavailable"), "{kind}");
    let not_ready = one.get("/health/ready").await;
    assert_eq!(not_ready.status(), 503);
    assert!(not_ready.text().await.expect("text").contains("the database cannot be reached"));
    assert_eq!(one.get("/health/live").await.status(), 200);
    let second = other.publish("news", "meanwhile").await;

    network.set_down(false);
    let mut fresh = next(&mut watcher).await;
    while fresh.event == "ping" {
        fresh = next(&mut watcher).await;
    }
    assert_eq!((fresh.id, fresh.data.as_str()), (second, "meanwhile"), "nothing is missed");
    for _ in 0..600 {
        if one.get("/health/ready").await.status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let third = one.publish("news", "after").await;
    assert_eq!(next_of_kind(&mut watcher, "new_message").await.id, third);
}

/// What cannot work is refused at the start, with the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_refused() {
    let Some((cluster, url)) = blocking(|| empty_database("refused")).await else { return };
    blocking(move || {
        let port = cluster.primary().port;
        let databases = [
            "CREATE DATABASE newer OWNER tidings",
            "CREATE DATABASE read_only OWNER tidings",
            "ALTER DATABASE read_only SET default_transaction_read_only = on",
            "CREATE DATABASE of_others",
        ];
        for create in databases {
            cluster.primary().query(create).expect("a database");
        }
        for (data, flags, expected) in [
            (format!("postgres://tidings@127.0.0.1:{port}/nothing"), &[][..], "does not exist"),
            (format!("postgres://nobody_else@127.0.0.1:{port}/tidings"), &[], "create the role"),
            (format!("postgres://secret@127.0.0.1:{port}/tidings"), &[], "password"),
            (
                format!("postgres://secret:wrong@127.0.0.1:{port}/tidings"),
                &[],
                "the password in --data",
            ),
            (
                format!("postgres://tidings@127.0.0.1:{port}/read_only"),
                &[],
                "does not allow writes",
            ),
            (format!("postgres://tidings@127.0.0.1:{port}/of_others"), &[], "permission denied"),
            ("postgres://tidings@127.0.0.1:1/tidings".to_owned(), &[], "127.0.0.1:1"),
            ("postgres://127.0.0.1/tidings".to_owned(), &[], "name a user"),
            ("postgres://u:wrong@db/x?sslmode=no".to_owned(), &[], "invalid value for option"),
            ("postgres://u:wr@wrong@db/x".to_owned(), &[], "%40"),
            (url.clone(), &["--require-synchronous-standby"], "synchronous standby"),
            (url.clone(), &["--data-password-file", "/nowhere"], "--data-password-file"),
            (url.clone(), &["--data-ca", "/nowhere"], "--data-ca"),
            ("tidings.db".to_owned(), &["--require-synchronous-standby"], "postgres://"),
        ] {
            let folder = built_site();
            let mut command = tidings();
            command.env_remove("TIDINGS_DATA").args(["--data", &data, "--listen", "127.0.0.1:0"]);
            command.arg("--site-root").arg(folder.path()).args(flags);
            let (output, stderr) = start_refused(&mut command);
            assert!(!output.status.success());
            assert!(stderr.contains(expected), "{data}: {stderr}");
            assert!(!stderr.contains("wrong"), "no password in the log: {stderr}");
        }
    })
    .await;
}

/// Connections are encrypted and verified where the URL demands it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_over_tls_with_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let identity = Identity::new();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, &identity.certificate).expect("a file");
    std::fs::write(&key, &identity.key).expect("a file");
    let tls = Tls { certificate: certificate.clone(), key };
    let options = Options { fsync: false, tls: Some(tls), ..Options::default() };
    let Some(cluster) = blocking(move || Cluster::start_for_tests(&options)).await else { return };
    let url = format!("{}?sslmode=require", connection_url("secret", &cluster.addresses()));
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").expect("a file");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (password, ca) = (text(&password), text(&certificate));
    let server =
        TestApp::start(&["--data", &url, "--data-password-file", &password, "--data-ca", &ca])
            .await;
    server.publish("news", "over TLS").await;
    let select = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                  WHERE application_name LIKE 'tidings%'";
    let (encrypted, _cluster) =
        blocking(move || (cluster.primary().query(select).expect("an answer"), cluster)).await;
    assert_eq!(encrypted.trim(), "t");

    // Without its authority, the certificate is not trusted.
    let mut command = tidings();
    command.args(["--data", &url, "--data-password-file", &password, "--listen", "127.0.0.1:0"]);
    let site = built_site();
    command.arg("--site-root").arg(site.path());
    let (_, stderr) = start_refused(&mut command);
    assert!(stderr.contains("invalid peer certificate"), "{stderr}");
}

/// The committed configuration of the proxy: events are not buffered, and a server that drains is avoided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_of_a_cluster_moves_clients_to_another_server() {
    if !is_installed("haproxy", "-v") {
        return;
    }
    let flags = ["--trusted-proxy", "127.0.0.1/32", "--open"];
    let Some([one, other, third]) = servers("proxied", &flags).await else { return };
    let address = format!("127.0.0.1:{}", free_port());
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cluster-haproxy.cfg");
    let mut haproxy = Command::new("haproxy");
    // Fewer connections than the configuration allows: the limit of open files may be low.
    haproxy.args(["-db", "-n", "400", "-f"]).arg(configuration).env("TIDINGS_BIND", &address);
    for (name, server) in [("TIDINGS_1", &one), ("TIDINGS_2", &other), ("TIDINGS_3", &third)] {
        haproxy.env(name, server.address());
    }
    let haproxy = haproxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let _haproxy = KillOnDrop(haproxy);
    let url = format!("http://{address}");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let publish = async |text: &'static str| {
        let response = client.post(format!("{url}/streams/news")).body(text).send().await;
        response.is_ok_and(|response| response.status() == 201)
    };
    let mut attempts = 0;
    while !publish("first").await {
        attempts += 1;
        assert!(attempts < 600, "the proxy does not work");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let response = client.get(format!("{url}/streams/news/events?last_event_id=earliest"));
    let mut watcher = events(response.send().await.expect("a response"));
    assert_eq!(next(&mut watcher).await.data, "first");
    assert!(publish("second").await);
    assert_eq!(next(&mut watcher).await.data, "second", "it is not buffered");
    one.shutdown.begin();
    other.shutdown.begin();
    for server in [one.server, other.server] {
        server.await.expect("no panic").expect("no failure");
    }
    assert!(publish("third").await, "by the server that is left");
}

/// A process that ends with the test.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
