//! A server that asks for a token, and a folder in which recipes run.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::page::Block;
use crate::support::{
    process::{exit_status, program, tidings},
    terminal::Restartable,
};

const SECRET: &str = "a secret of a length that is enough";

/// What pages write, and what stands for it in a sandbox: see [`Sandbox::adapt`].
const EXAMPLE_URL: &str = "https://tidings.example";
const EXAMPLE_TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9…";
const PATHS: [(&str, &str); 4] = [
    ("/var/log/app.log", "app.log"),
    ("/etc/tidings/token", "token"),
    ("/var/spool/rsyslog/tidings", "rsyslog.spool"),
    ("/usr/local/bin/tidings", "tidings"),
];

/// Where the server is, and a folder with the programs that recipes call; it is that of the server.
pub(super) struct Sandbox {
    pub(super) url: String,
    pub(super) token: String,
    folder: PathBuf,
}

impl Sandbox {
    /// The server is not started yet.
    pub(super) fn new() -> (Self, Restartable) {
        let server = Restartable::new(&["--secret", SECRET, "--retry", "100ms"]);
        let mut token = tidings();
        token.args([
            "token",
            "--secret",
            SECRET,
            "--for",
            "recipes",
            "--publish",
            "*",
            "--watch",
            "*",
        ]);
        let token = token.output().expect("a token").stdout;
        let token = String::from_utf8(token).expect("text").trim().to_owned();
        for folder in ["bin", "work"] {
            fs::create_dir(server.path(folder)).expect("a folder");
        }
        symlink(program(), server.path("bin/tidings")).expect("a link");
        fs::write(server.path("work/token"), &token).expect("a file");
        (Self { url: server.url(), token, folder: server.path("") }, server)
    }

    pub(super) fn started() -> (Self, Restartable) {
        let (sandbox, mut server) = Self::new();
        server.start();
        (sandbox, server)
    }

    /// Puts a program before those of the system. It is linked: one that is written cannot be run while
    /// another test starts a process, which has the open file for a moment (ETXTBSY).
    pub(super) fn stub(&self, name: &str, file: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes");
        symlink(fixtures.join(file), self.folder.join("bin").join(name)).expect("a link");
    }

    /// A path in the folder in which recipes run.
    pub(super) fn work(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }

    /// A command with the environment that the pages tell to set.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = self.command_without_address(name);
        command.env("TIDINGS_URL", &self.url).env("TIDINGS_TOKEN", &self.token);
        command
    }

    /// A command that runs in the folder, in a process group of its own.
    pub(super) fn command_without_address(&self, name: &str) -> Command {
        let system = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{system}", self.folder.join("bin").display());
        let mut command = Command::new(name);
        command.env_clear().env("PATH", path).env("HOME", self.work("")).current_dir(self.work(""));
        command.env("SIGNALS", self.work("")).stdin(Stdio::null()).process_group(0);
        command
    }

    /// The text of a block, with the address, the token and the files of this sandbox.
    pub(super) fn adapt(&self, block: &Block) -> String {
        let text = block.text.replace(EXAMPLE_URL, &self.url);
        let text = text.replace(EXAMPLE_TOKEN, &self.token);
        PATHS.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }

    /// The answer to a request, as JSON.
    pub(super) fn get(&self, path: &str) -> Value {
        let mut curl = self.command("curl");
        curl.args(["-s", "-H", "Accept: application/json", "-H"]);
        curl.arg(format!("Authorization: Bearer {}", self.token));
        let output = curl.arg(format!("{}{path}", self.url)).output().expect("curl");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Publishes a message.
    pub(super) fn publish(&self, stream: &str, text: &str) {
        let published = self.command("tidings").args(["publish", stream, text]).status();
        assert!(published.expect("a process").success());
    }

    /// The messages of the stream whose name begins so, and the text with which it has ended.
    pub(super) fn log(&self, stream: &str) -> (Vec<String>, Option<String>) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = self.get("/streams");
        let names = list["streams"].as_array().into_iter().flatten();
        let mut names = names.filter_map(|one| text(&one["name"]));
        let Some(name) = names.find(|name| name.starts_with(stream)) else {
            return (Vec::new(), None);
        };
        let page = self.get(&format!("/streams/{name}/messages?limit=1000"));
        let messages = page["messages"].as_array().into_iter().flatten();
        let messages = messages.filter_map(|one| text(&one["data"])).collect();
        (messages, text(&page["ended"]["data"]))
    }
}

/// A process and its children, killed when this is dropped.
pub(super) struct Group {
    process: Child,
    /// The file with what they write to standard error.
    pub(super) errors: PathBuf,
}

impl Group {
    /// Starts a command whose output is appended to a file; beside it is one for standard error.
    pub(super) fn start(command: &mut Command, output: &Path) -> Self {
        let append =
            |path: &Path| File::options().create(true).append(true).open(path).expect("a file");
        let errors = output.with_file_name("errors");
        command.stdout(append(output)).stderr(append(&errors));
        Self { process: command.spawn().expect("a process"), errors }
    }

    /// Waits for the exit status.
    pub(super) fn wait(&mut self) -> Option<i32> {
        exit_status(&mut self.process)
    }

    /// Kills all of them (SIGKILL).
    pub(super) fn kill(&mut self) {
        let group = format!("-{}", self.process.id());
        let mut kill = Command::new("kill");
        kill.args(["-s", "KILL", "--", &group]).stderr(Stdio::null());
        // It fails where all of them have ended.
        let _ = kill.status();
        let _ = self.process.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.errors).unwrap_or_default());
        }
    }
}
