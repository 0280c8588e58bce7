//! Standard output and standard error that are full, closed, broken or never read do not affect the
//! server: it only counts the log lines that it drops.
//!
//! `TIDINGS_SERVER=target/release/tidings cargo test --test it reporting` tests a release build.

use std::{
    fs,
    io::PipeReader,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    TestApp, built_site,
    process::{exit_status, program, start_refused, tidings},
    read_history,
};

/// How many messages are published before the disk is filled.
const MESSAGES: usize = 1_000;

/// The kind of file that standard output or standard error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputKind {
    /// A full device (`/dev/full`).
    Full,
    /// Closed before the server starts.
    Closed,
    /// A pipe whose reader is closed.
    Broken,
    /// A pipe that is never read.
    Unread,
    /// A file on the disk that fills up.
    File,
    /// `/dev/null`.
    Null,
}

impl OutputKind {
    /// The redirection of this file descriptor in a shell; empty if [`stdio`](Self::stdio) sets it up.
    fn redirect(self, descriptor: u8, folder: &Path) -> String {
        match self {
            Self::Full => format!("{descriptor}>/dev/full"),
            Self::Closed => format!("{descriptor}>&-"),
            Self::File => format!("{descriptor}>>'{}/tidings.log'", folder.display()),
            Self::Broken | Self::Unread | Self::Null => String::new(),
        }
    }

    /// The output before the redirection, and the reader that keeps its pipe open.
    fn stdio(self) -> (Stdio, Option<PipeReader>) {
        match self {
            Self::Broken | Self::Unread => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                (writer.into(), (self == Self::Unread).then_some(reader))
            }
            _ => (Stdio::null(), None),
        }
    }
}

/// The limit on the size of the server's files, in bytes.
const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;
/// More lines than fit into the queue of the log writer and the pipe.
const MANY_LINES: usize = 8_000;

/// A server whose files cannot grow beyond [`MAX_FILE_BYTES`].
struct LimitedServer {
    process: Child,
    url: String,
    metrics: String,
    client: Client,
    folder: TempDir,
    _site: TempDir,
    _unread: [Option<PipeReader>; 2],
}

impl LimitedServer {
    async fn start(stdout: OutputKind, stderr: OutputKind) -> Self {
        let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
        let redirects =
            [stdout.redirect(1, folder.path()), stderr.redirect(2, folder.path())].join(" ");
        let blocks = MAX_FILE_BYTES / 512;
        let run = format!(r#"trap "" XFSZ; ulimit -S -f {blocks}; exec "$0" "$@" {redirects}"#);
        if stderr == OutputKind::File {
            // Leaves room for some more lines.
            let filler = "2026 filler\n".repeat((MAX_FILE_BYTES - 20_000) / 12);
            fs::write(folder.path().join("tidings.log"), filler).expect("a file");
        }
        let ((out, out_reader), (err, err_reader)) = (stdout.stdio(), stderr.stdio());
        // The addresses are chosen here, because the output with the URL may be lost.
        let [listen, metrics] = [free_address(), free_address()];
        let process = Command::new("sh")
            .args(["-c", &run])
            .arg(program())
            .args(["--listen", &listen, "--metrics-listen", &metrics, "--publish-rate", "0"])
            .arg("--data")
            .arg(folder.path().join("tidings.db"))
            .arg("--site-root")
            .arg(site.path())
            .env_clear()
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("a shell");
        for _ in 0..600 {
            if TcpStream::connect(&listen).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self {
            process,
            url: format!("http://{listen}"),
            metrics: format!("http://{metrics}/metrics"),
            client: Client::builder().no_proxy().build().expect("a client"),
            folder,
            _site: site,
            _unread: [out_reader, err_reader],
        }
    }

    async fn get(&self, url: &str) -> Response {
        let response = self.client.get(url).timeout(Duration::from_mins(1)).send().await;
        response.unwrap_or_else(|error| panic!("{url}: no response: {error}"))
    }

    async fn status(&self, path: &str) -> StatusCode {
        self.get(&format!("{}{path}", self.url)).await.status()
    }

    /// Publishes a message; returns its id, or `None` if the response is 503.
    async fn publish(&self, text: &str) -> Option<String> {
        let request = self.client.post(format!("{}/streams/news", self.url)).body(text.to_owned());
        let response = request.timeout(Duration::from_mins(1)).send().await;
        let response = response.unwrap_or_else(|error| panic!("{text:.20}: no response: {error}"));
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert_eq!(response.status(), StatusCode::CREATED);
        let accepted: Value = response.json().await.expect("JSON");
        accepted["id"].as_str().map(str::to_owned)
    }

    async fn dropped_lines(&self) -> u64 {
        let metrics = self.get(&self.metrics).await.text().await.expect("text");
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tidings_dropped_log_lines_total "))
            .expect("the metric");
        value.parse().expect("a number")
    }
}

/// A loopback address with a port that is currently free.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Asserts that a server with these outputs works: publishes, fills the disk, frees it, publishes again.
async fn assert_server_works(stdout: OutputKind, stderr: OutputKind) {
    let mut server = LimitedServer::start(stdout, stderr).await;
    let mut published = Vec::new();
    for n in 0..MESSAGES {
        let text = format!("message {n}");
        let id = server.publish(&text).await.expect("there is room");
        published.push((id, text));
    }
    let history = format!("{}/streams/news/messages", server.url);
    assert!(read_history(&server.client, &history).await == published, "each message once");

    if stderr == OutputKind::Unread {
        let requests = futures::stream::iter(0..MANY_LINES).for_each_concurrent(16, async |_| {
            assert_eq!(server.status("/nowhere").await, StatusCode::NOT_FOUND);
        });
        requests.await;
    }
    let large = "x".repeat(60_000);
    loop {
        match server.publish(&large).await {
            Some(id) => published.push((id, large.clone())),
            None => break,
        }
        assert!(published.len() < MESSAGES + 1_000, "the disk is not full");
    }
    assert_eq!(server.status("/health/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.status("/health/live").await, StatusCode::OK);
    assert!(read_history(&server.client, &history).await == published, "reading is still possible");

    let process = server.process.id().to_string();
    let lift = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status();
    if lift.is_ok_and(|status| status.success()) {
        let mut stored = server.publish(&large).await;
        for _ in 0..600 {
            if stored.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            stored = server.publish(&large).await;
        }
        published.push((stored.expect("the server recovers without a restart"), large));
        // Ready again after the next checkpoint.
        for _ in 0..600 {
            if server.status("/health/ready").await == StatusCode::OK {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.status("/health/ready").await, StatusCode::OK);
        assert!(read_history(&server.client, &history).await == published);
    }

    let dropped = server.dropped_lines().await;
    match stderr {
        OutputKind::Full | OutputKind::Broken | OutputKind::Unread | OutputKind::File => {
            assert!(dropped > 0);
        }
        // A closed output is replaced by `/dev/null`.
        OutputKind::Closed | OutputKind::Null => assert_eq!(dropped, 0),
    }
    let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {process}")]).status();
    assert!(kill.expect("a shell").success());
    assert_eq!(exit_status(&mut server.process), Some(0), "{stdout:?} {stderr:?}");
    if stderr == OutputKind::File {
        assert_complete_log(
            &fs::read_to_string(server.folder.path().join("tidings.log")).expect("text"),
        );
    }
}

/// Asserts that a log reports the number of dropped lines, has no partial lines, and goes on to the end.
fn assert_complete_log(log: &str) {
    let at = log.find("log lines were dropped").expect("a notice");
    let (_, rest) = log[at..].split_once("dropped=").expect("a field");
    let dropped = rest.lines().next().and_then(|number| number.parse::<u64>().ok());
    assert!(dropped.is_some_and(|dropped| dropped > 0), "{}", &rest[..rest.len().min(40)]);
    let torn = log.lines().filter(|line| !line.starts_with("20")).count();
    assert_eq!(torn, 0, "each line begins with the time");
    assert!(log.trim_end().ends_with("stopped"), "the log goes on to the end");
}

#[tokio::test]
async fn a_server_works_while_standard_error_is_full() {
    assert_server_works(OutputKind::Null, OutputKind::Full).await;
}

#[tokio::test]
async fn a_server_works_while_standard_error_is_closed() {
    assert_server_works(OutputKind::Null, OutputKind::Closed).await;
}

#[tokio::test]
async fn a_server_works_while_standard_error_is_broken() {
    assert_server_works(OutputKind::Null, OutputKind::Broken).await;
}

#[tokio::test]
async fn a_server_works_while_standard_error_is_never_read() {
    assert_server_works(OutputKind::Null, OutputKind::Unread).await;
}

#[tokio::test]
async fn a_server_works_while_standard_error_is_a_file_on_a_full_disk() {
    assert_server_works(OutputKind::Null, OutputKind::File).await;
}

#[tokio::test]
async fn a_server_works_while_neither_output_can_be_written() {
    for output in [OutputKind::Full, OutputKind::Closed, OutputKind::Broken, OutputKind::Unread] {
        let mut server = LimitedServer::start(output, output).await;
        let id = server.publish("hello").await;
        assert!(id.is_some(), "{output:?}");
        let process = server.process.id();
        let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {process}")]).status();
        assert!(kill.expect("a shell").success());
        assert_eq!(exit_status(&mut server.process), Some(0), "{output:?}");
    }
}

#[test]
fn the_token_command_fails_if_the_token_cannot_be_written() {
    let full = fs::File::options().write(true).open("/dev/full").expect("a device");
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let arguments = ["token", "--for", "x", "--watch", "*"];
    let command = &mut tidings();
    let child = command.args(arguments).env("TIDINGS_SECRET", secret).stdout(full);
    let output = child.stderr(Stdio::piped()).spawn().expect("a process").wait_with_output();
    let output = output.expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("tidings: the token cannot be written"), "{stderr}");
}

#[test]
fn a_start_up_error_that_cannot_be_written_still_exits_with_1() {
    let full = || fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = tidings();
    command.args(["--site-root", "/nowhere/at/all"]).stderr(full());
    assert_eq!(command.status().expect("a process").code(), Some(1));
    let (output, _) = start_refused(tidings().args(["--site-root", "/nowhere/at/all"]));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn the_server_ends_when_a_supervised_task_ends() {
    for (name, panics) in [("fan-out", true), ("sweep of old messages", false)] {
        let app = TestApp::start(&[]).await;
        app.publish("news", "hello").await;
        app.supervisor.spawn(name, async move {
            assert!(!panics, "out of luck");
        });
        let ended = app.server.await.expect("no panic").expect_err("a failure");
        let message = ended.to_string();
        let reason = if panics { "panicked: out of luck" } else { "ended unexpectedly" };
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
}
