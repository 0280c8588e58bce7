//! `tidings publish` and `tidings watch` as child processes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    built_site,
    process::{Server, program, tidings},
    tls::free_port,
};

/// A server that is killed and started again at the same address, with the same store.
pub(crate) struct Restartable {
    folder: TempDir,
    site: TempDir,
    address: String,
    flags: Vec<String>,
    server: Option<Server>,
}

impl Restartable {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, site: built_site(), address, flags, server: None }
    }

    pub(crate) fn start(&mut self) {
        let mut command = tidings();
        command.args(["--listen", &self.address, "--site-root"]).arg(self.site.path());
        command.arg("--data").arg(self.path("tidings.db")).args(&self.flags);
        self.server = Some(Server::spawn(&mut command));
    }

    pub(crate) fn started(flags: &[&str]) -> Self {
        let mut server = Self::new(flags);
        server.start();
        server
    }

    pub(crate) fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A path in the folder of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the program for this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = terminal();
        command.env("TIDINGS_URL", self.url()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("a process")
    }

    /// The texts of the stream `news`, if it exists, and the closing text.
    pub(crate) async fn log(&self) -> (Vec<String>, Option<String>) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("{}/streams/news/messages", self.url());
        let page = client.get(format!("{url}?after=latest")).send().await.expect("a response");
        if page.status() == StatusCode::NOT_FOUND {
            return (Vec::new(), None);
        }
        let page: Value = page.json().await.expect("JSON");
        let log = super::read_history(&client, &url).await;
        let end = page["ended"]["data"].as_str().map(str::to_owned);
        (log.into_iter().map(|(_, text)| text).collect(), end)
    }
}

/// Something before or in place of a server: gives each request the next of its answers.
pub(crate) struct ScriptedServer {
    pub(crate) url: String,
    given: Arc<AtomicUsize>,
    /// The `Last-Event-ID` of each request.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(crate) cursors: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    /// An answer: status, media type and body.
    pub(crate) fn start(answers: &'static [(&'static str, &'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let given = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&given);
        let cursors = Arc::new(Mutex::new(Vec::new()));
        let cursors_given = Arc::clone(&cursors);
        std::thread::spawn(move || {
            for (status, media_type, body) in answers {
                let (connection, _) = listener.accept().expect("a connection");
                let mut request = BufReader::new(connection);
                let (mut line, mut length, mut cursor) = (String::new(), 0, String::new());
                while request.read_line(&mut line).expect("a request") > 2 {
                    let (name, value) = line.trim().split_once(':').unwrap_or_default();
                    match name.to_ascii_lowercase().as_str() {
                        "content-length" => length = value.trim().parse().expect("a number"),
                        "last-event-id" => value.trim().clone_into(&mut cursor),
                        _ => {}
                    }
                    line.clear();
                }
                cursors_given.lock().expect("no panic").push(cursor);
                request.read_exact(&mut vec![0; length]).expect("a body");
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                request.get_mut().write_all(answer.as_bytes()).expect("a reader");
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url, given, cursors }
    }

    pub(crate) fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

/// The program, without a configuration.
pub(crate) fn terminal() -> Command {
    let mut command = Command::new(program());
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", "/nowhere");
    command
}

/// A process whose output goes to files.
pub(crate) struct Running {
    pub(crate) process: Child,
}

impl Running {
    /// Starts a command whose standard output is appended to a file, and whose input is a pipe.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(output).expect("a file");
        let process = command.stdin(Stdio::piped()).stdout(file).stderr(Stdio::inherit()).spawn();
        Self { process: process.expect("a process") }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin: &mut ChildStdin = self.process.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("an end");
    }

    /// Closes its input and waits for its exit status.
    pub(crate) fn finish(mut self) -> Option<i32> {
        drop(self.process.stdin.take());
        self.wait()
    }

    /// Waits for its exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        super::process::exit_status(&mut self.process)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a condition holds; panics after a minute.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a file contains a text.
pub(crate) fn contains(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}
