//! The server as a process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// The program: the one that was built with these tests, or the one that `TIDINGS_SERVER` names.
pub(crate) fn program() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_tidings").into();
    std::env::var_os("TIDINGS_SERVER").map_or_else(built, |given| {
        PathBuf::from(given).canonicalize().expect("the program that TIDINGS_SERVER names")
    })
}

/// How a process ended, which must be soon.
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

/// The program, far from any folder that holds a site, as it is deployed.
pub(crate) fn tidings() -> Command {
    let mut command = Command::new(program());
    command.current_dir(std::env::temp_dir()).env_clear().env("TIDINGS_DATA", ":memory:");
    // All come from one address, and mean no harm.
    command.env("TIDINGS_PUBLISH_RATE", "0").env("TIDINGS_MAX_WATCHERS_PER_ADDRESS", "10000");
    command.env("TIDINGS_MAX_REQUESTS_PER_ADDRESS", "10000").env("TIDINGS_READ_RATE", "0");
    command.env("TIDINGS_ALLOW_HOST", "*");
    command
}

/// What a server says that refuses to start.
pub(crate) fn refused(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    assert!(output.stdout.is_empty());
    (output, said)
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

    /// A server that keeps its messages in a file.
    pub(crate) fn start_on(file: &Path, site: &Path, arguments: &[&str]) -> Self {
        Self::start(site, &[&["--data", file.to_str().expect("text")], arguments].concat())
    }

    /// Runs a command that becomes a server, and waits until that says where it is.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("an output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("Tidings is at ");
        let Some((scheme, address)) = url.and_then(|url| url.split_once("://")) else {
            let mut said = String::new();
            process.stderr.take().expect("a log").read_to_string(&mut said).expect("text");
            panic!("the server does not start: {line}{said}");
        };
        Self { scheme: scheme.to_owned(), address: address.to_owned(), process }
    }

    /// The beginning of every address.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// How many files and connections it has open.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        files.expect("a process").count()
    }

    /// The same, and gives back what its log says.
    #[cfg(target_os = "linux")]
    pub(crate) fn kill_and_hear(mut self) -> String {
        self.process.kill().expect("it runs");
        let mut said = String::new();
        let log = self.process.stderr.as_mut().expect("a log");
        log.read_to_string(&mut said).expect("text");
        said
    }

    /// Ends it without notice, in the middle of whatever it does.
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
