//! Failing to report is never a failure: standard output and error that are full, closed, broken or
//! never read change nothing about what the server does.
//!
//! `TIDINGS_SERVER=target/release/tidings cargo test --test it reporting` tries the release.

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
    TestApp, all_pages, built_site,
    process::{exit_status, program, refused, tidings},
};

/// How many messages are published before the disk is filled.
const MESSAGES: usize = 1_000;

/// What becomes of what the server says on an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// A device that is full.
    Full,
    /// Closed before the server starts.
    Closed,
    /// A pipe whose reader is gone.
    Broken,
    /// A pipe that is never read.
    Unread,
    /// A file on the disk that fills up.
    File,
    /// Thrown away.
    Null,
}

impl Output {
    /// How a shell redirects the output with this number.
    fn redirect(self, number: u8, folder: &Path) -> String {
        match self {
            Self::Full => format!("{number}>/dev/full"),
            Self::Closed => format!("{number}>&-"),
            Self::File => format!("{number}>>'{}/tidings.log'", folder.display()),
            Self::Broken | Self::Unread | Self::Null => String::new(),
        }
    }

    /// What the output is before that, and what keeps it so.
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

/// How large the files of the server may become.
const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;
/// More than the lines that wait for a reader, the pipe included.
const MANY_LINES: usize = 8_000;

/// A server whose files cannot grow beyond [`MAX_FILE_BYTES`].
struct Server {
    process: Child,
    url: String,
    metrics: String,
    client: Client,
    folder: TempDir,
    _site: TempDir,
    _unread: [Option<PipeReader>; 2],
}

impl Server {
    async fn start(stdout: Output, stderr: Output) -> Self {
        let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
        let redirects =
            [stdout.redirect(1, folder.path()), stderr.redirect(2, folder.path())].join(" ");
        let blocks = MAX_FILE_BYTES / 512;
        let run = format!(r#"trap "" XFSZ; ulimit -S -f {blocks}; exec "$0" "$@" {redirects}"#);
        if stderr == Output::File {
            // There is room for some lines more.
            let filler = "2026 filler\n".repeat((MAX_FILE_BYTES - 20_000) / 12);
            fs::write(folder.path().join("tidings.log"), filler).expect("a file");
        }
        let ((out, out_reader), (err, err_reader)) = (stdout.stdio(), stderr.stdio());
        // The output that says where it is may be lost.
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
        let answer = self.client.get(url).timeout(Duration::from_mins(1)).send().await;
        answer.unwrap_or_else(|error| panic!("{url} is not answered: {error}"))
    }

    async fn status(&self, path: &str) -> StatusCode {
        self.get(&format!("{}{path}", self.url)).await.status()
    }

    /// Publishes once; gives the id where it was stored.
    async fn publish(&self, text: &str) -> Option<String> {
        let request = self.client.post(format!("{}/streams/news", self.url)).body(text.to_owned());
        let answer = request.timeout(Duration::from_mins(1)).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{text:.20} is not answered: {error}"));
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert_eq!(answer.status(), StatusCode::CREATED);
        let accepted: Value = answer.json().await.expect("JSON");
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

/// An address that is free now, on a host of its own.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Publishes, fills the disk, frees it, publishes again: with these outputs as with any.
async fn serves(stdout: Output, stderr: Output) {
    let mut server = Server::start(stdout, stderr).await;
    let mut published = Vec::new();
    for n in 0..MESSAGES {
        let text = format!("message {n}");
        let id = server.publish(&text).await.expect("there is room");
        published.push((id, text));
    }
    let history = format!("{}/streams/news/messages", server.url);
    assert!(all_pages(&server.client, &history).await == published, "nothing twice, none missing");

    if stderr == Output::Unread {
        let asked = futures::stream::iter(0..MANY_LINES).for_each_concurrent(16, async |_| {
            assert_eq!(server.status("/nowhere").await, StatusCode::NOT_FOUND);
        });
        asked.await;
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
    assert!(all_pages(&server.client, &history).await == published, "readers go on");

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
        published.push((stored.expect("it finds out by itself"), large));
        // Once what was written ahead has been moved into the file, too.
        for _ in 0..600 {
            if server.status("/health/ready").await == StatusCode::OK {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.status("/health/ready").await, StatusCode::OK);
        assert!(all_pages(&server.client, &history).await == published);
    }

    let dropped = server.dropped_lines().await;
    match stderr {
        Output::Full | Output::Broken | Output::Unread | Output::File => assert!(dropped > 0),
        // What is closed is replaced by what throws away.
        Output::Closed | Output::Null => assert_eq!(dropped, 0),
    }
    let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {process}")]).status();
    assert!(kill.expect("a shell").success());
    assert_eq!(exit_status(&mut server.process), Some(0), "{stdout:?} {stderr:?}");
    if stderr == Output::File {
        is_whole(&fs::read_to_string(server.folder.path().join("tidings.log")).expect("text"));
    }
}

/// A log says how many lines are missing, and has no half ones but where the disk was full.
fn is_whole(log: &str) {
    let at = log.find("log lines were dropped").expect("it is said");
    let (_, said) = log[at..].split_once("dropped=").expect("a field");
    let dropped = said.lines().next().and_then(|number| number.parse::<u64>().ok());
    assert!(dropped.is_some_and(|dropped| dropped > 0), "{}", &said[..said.len().min(40)]);
    let torn = log.lines().filter(|line| !line.starts_with("20")).count();
    assert_eq!(torn, 0, "each line begins with the time");
    assert!(log.trim_end().ends_with("stopped"), "it goes on to the end");
}

#[tokio::test]
async fn standard_error_is_full() {
    serves(Output::Null, Output::Full).await;
}

#[tokio::test]
async fn standard_error_is_closed() {
    serves(Output::Null, Output::Closed).await;
}

#[tokio::test]
async fn standard_error_is_broken() {
    serves(Output::Null, Output::Broken).await;
}

#[tokio::test]
async fn standard_error_is_never_read() {
    serves(Output::Null, Output::Unread).await;
}

#[tokio::test]
async fn standard_error_is_a_file_on_the_disk_that_fills_up() {
    serves(Output::Null, Output::File).await;
}

#[tokio::test]
async fn standard_output_is_of_no_use_either() {
    for output in [Output::Full, Output::Closed, Output::Broken, Output::Unread] {
        let mut server = Server::start(output, output).await;
        let id = server.publish("hello").await;
        assert!(id.is_some(), "{output:?}");
        let process = server.process.id();
        let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {process}")]).status();
        assert!(kill.expect("a shell").success());
        assert_eq!(exit_status(&mut server.process), Some(0), "{output:?}");
    }
}

#[test]
fn a_token_that_cannot_be_written_is_no_success() {
    let full = fs::File::options().write(true).open("/dev/full").expect("a device");
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let arguments = ["token", "--for", "x", "--watch", "*"];
    let command = &mut tidings();
    let child = command.args(arguments).env("TIDINGS_SECRET", secret).stdout(full);
    let output = child.stderr(Stdio::piped()).spawn().expect("a process").wait_with_output();
    let output = output.expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("tidings: the token cannot be written"), "{said}");
}

#[test]
fn a_refusal_that_cannot_be_written_is_still_one() {
    let full = || fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut bad = tidings();
    bad.args(["--site-root", "/nowhere/at/all"]).stderr(full());
    assert_eq!(bad.status().expect("a process").code(), Some(1));
    let (output, _) = refused(tidings().args(["--site-root", "/nowhere/at/all"]));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn what_everything_depends_on_does_not_die_in_silence() {
    for (name, panics) in [("fan-out", true), ("sweep of old messages", false)] {
        let app = TestApp::start(&[]).await;
        app.publish("news", "hello").await;
        app.supervisor.spawn(name, async move {
            assert!(!panics, "out of luck");
        });
        let ended = app.server.await.expect("no panic").expect_err("it cannot go on");
        let said = ended.to_string();
        let why = if panics { "panicked: out of luck" } else { "ended, which it never should" };
        assert!(said.contains(name) && said.contains(why), "{said}");
    }
}
