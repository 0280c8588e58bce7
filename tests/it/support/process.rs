//! The server as a child process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// The path of the program: the one built with these tests, or the one that `TIDINGS_SERVER` names.
pub(crate) fn program() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_tidings").into();
    std::env::var_os("TIDINGS_SERVER").map_or_else(built, |path| {
        PathBuf::from(path).canonicalize().expect("the program that TIDINGS_SERVER names")
    })
}

/// Whether a program is installed.
pub(crate) fn is_installed(program: &str, version: &str) -> bool {
    let output = Command::new(program).arg(version).output();
    let is_installed = output.is_ok_and(|output| output.status.success());
    if !is_installed {
        println!("skipped: {program} is not installed");
    }
    is_installed
}

/// The exit code of a process; kills it and panics if it does not end within a minute.
pub(crate) fn exit_status(process: &mut Child) -> Option<i32> {
    for _ in 0..600 {
        if let Some(status) = process.try_wait().expect("a process") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = process.kill();
    panic!("the process does not end");
}

/// A command that runs the program outside of the repository, where no default site is found.
pub(crate) fn tidings() -> Command {
    let mut command = Command::new(program());
    command.current_dir(std::env::temp_dir()).env_clear().env("TIDINGS_DATA", ":memory:");
    // All test clients have the same address.
    command.env("TIDINGS_PUBLISH_RATE", "0").env("TIDINGS_MAX_WATCHERS_PER_ADDRESS", "10000");
    command.env("TIDINGS_MAX_REQUESTS_PER_ADDRESS", "10000").env("TIDINGS_READ_RATE", "0");
    command.env("TIDINGS_ALLOW_HOST", "*");
    command
}

/// Runs a command that must fail, without a panic; returns its output, and its standard error as text.
pub(crate) fn start_refused(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("a process");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    assert!(output.stdout.is_empty());
    (output, stderr)
}

/// A running server, killed when it is dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    scheme: String,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(site: &Path, arguments: &[&str]) -> Self {
        Self::spawn(
            tidings().args(["--listen", "127.0.0.1:0", "--site-root"]).arg(site).args(arguments),
        )
    }

    /// A server with a store in `file`.
    pub(crate) fn start_on(file: &Path, site: &Path, arguments: &[&str]) -> Self {
        Self::start(site, &[&["--data", file.to_str().expect("text")], arguments].concat())
    }

    /// Runs a command that starts a server, and waits until it prints its URL.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("an output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("Tidings is at ");
        let Some((scheme, address)) = url.and_then(|url| url.split_once("://")) else {
            let mut stderr = String::new();
            process.stderr.take().expect("a log").read_to_string(&mut stderr).expect("text");
            panic!("the server does not start: {line}{stderr}");
        };
        Self { scheme: scheme.to_owned(), address: address.to_owned(), process }
    }

    /// The base URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// The number of its open file descriptors.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        files.expect("a process").count()
    }

    /// Kills it and returns its log.
    #[cfg(target_os = "linux")]
    pub(crate) fn kill_and_read_log(mut self) -> String {
        self.process.kill().expect("it runs");
        let mut log = String::new();
        let stderr = self.process.stderr.as_mut().expect("a log");
        stderr.read_to_string(&mut log).expect("text");
        log
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("an end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
