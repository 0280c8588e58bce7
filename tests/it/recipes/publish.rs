//! The recipes of `docs/publish.md`.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    page::{Block, block},
    rust,
    sandbox::{Group, Sandbox},
};
use crate::support::{
    process::is_installed,
    terminal::{contains, wait_until},
};

/// What is lost while the connection is broken, as the page says.
#[derive(Clone, Copy, PartialEq)]
enum Lost {
    Nothing,
    Outage,
}

/// The recipes that publish lines: the key of the block, and how the name of its stream begins.
const LINES: [(&str, &str, Lost); 14] = [
    ("publish: The output of a command 1", "build-", Lost::Nothing),
    ("publish: A file that grows 1", "app", Lost::Nothing),
    ("publish: A file that grows 2", "app", Lost::Outage),
    ("publish: journalctl 1", "nginx", Lost::Nothing),
    ("publish: journalctl 2", "nginx", Lost::Nothing),
    ("publish: syslog 1", "syslog", Lost::Nothing),
    ("publish: docker logs 1", "web", Lost::Nothing),
    ("publish: kubectl logs 1", "web", Lost::Nothing),
    ("publish: mosquitto_sub 1", "home", Lost::Nothing),
    ("publish: cron 1", "backup", Lost::Nothing),
    ("publish: cron 1", "scrub-", Lost::Nothing),
    ("publish: A loop in the shell 1", "load", Lost::Nothing),
    ("publish: A loop in the shell 2", "load", Lost::Outage),
    ("publish: GitHub Actions 1", "ci-42-1", Lost::Nothing),
];

/// The recipes that publish one message, with its stream and its text.
const MESSAGES: [(&str, &str, &str, Lost); 9] = [
    ("publish: One message 1", "ci", "built in 42 s", Lost::Nothing),
    ("publish: One message 2", "ci", "built in 42 s", Lost::Outage),
    ("publish: One message 3", "ci", "built in 42 s", Lost::Nothing),
    ("publish: GitHub Actions 2", "ci", "CI on main: success", Lost::Nothing),
    ("publish: Python 1", "ci", "built in 42 s", Lost::Outage),
    ("publish: Python 2", "app", "INFO started", Lost::Nothing),
    ("publish: Node 1", "ci", "built in 42 s", Lost::Outage),
    ("publish: Node 2", "app", "started", Lost::Nothing),
    ("publish: Rust 1", "ci", "built in 42 s", Lost::Outage),
];

/// The blocks that say where the server is.
const ENVIRONMENT: &str = "publish: Publish from what you have 1";
const CONFIGURATION: &str = "publish: Publish from what you have 2";

pub(super) fn tested() -> impl Iterator<Item = &'static str> {
    let lines = LINES.iter().map(|(key, ..)| *key);
    let messages = MESSAGES.iter().map(|(key, ..)| *key);
    lines.chain(messages).chain([ENVIRONMENT, CONFIGURATION])
}

/// The programs that recipes call, and the file in `tests/fixtures/recipes` that stands for each.
const PROGRAMS: [(&str, &str); 11] = [
    ("writer", "writer"),
    ("journalctl", "writer"),
    ("rsyslog", "writer"),
    ("docker", "writer"),
    ("kubectl", "writer"),
    ("mosquitto_sub", "writer"),
    ("make", "writer"),
    ("backup", "writer"),
    ("scrub", "writer"),
    ("sleep", "sleep"),
    ("uptime", "uptime"),
];

fn expected(lines: usize) -> Vec<String> {
    (1..=lines).map(|line| format!("line {line}")).collect()
}

/// What the system that a block is for would run: for one that has several commands, that of the stream.
fn command(sandbox: &Sandbox, block: &Block, stream: &str) -> Command {
    let text = sandbox.adapt(block);
    let file = |name: &str| fs::write(sandbox.work(name), &text).expect("a file");
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name} in {}", block.key)).to_owned()
    };
    let shell = |shell: &str, script: &str| {
        let mut command = sandbox.command(shell);
        command.args(["-c", script]);
        command
    };
    match block.language.as_str() {
        "sh" => shell("sh", &text),
        // systemd: it replaces the variable, which the shell does as well.
        "ini" => {
            let mut command = shell("sh", &value("ExecStart="));
            command.env("STATE_DIRECTORY", sandbox.work(""));
            command
        }
        // rsyslog writes to the standard input of the program.
        "rsyslog" => {
            let program = value("binary=\"");
            shell("sh", &format!("rsyslog | {}", program.trim_end_matches("\")")))
        }
        // cron: five fields, and the command, in which % is a line end unless it is escaped.
        "crontab" => {
            let entry = text.lines().find(|line| line.contains(stream)).expect("an entry");
            let mut rest = entry;
            for _ in 0..5 {
                rest = rest.trim_start().split_once(' ').expect("a field").1;
            }
            assert!(!rest.replace(r"\%", "").contains('%'), "{rest}");
            shell("sh", &rest.trim_start().replace(r"\%", "%"))
        }
        "yaml" => {
            let line = value("run: ");
            let script = match line.as_str() {
                "|" => text.split_once("run: |\n").expect("a script").1,
                line => line,
            };
            let mut command = shell("bash", &format!("set -e\n{script}"));
            for (name, value) in [
                ("GITHUB_RUN_ID", "42"),
                ("GITHUB_RUN_ATTEMPT", "1"),
                ("GITHUB_WORKFLOW", "CI"),
                ("GITHUB_REF_NAME", "main"),
            ] {
                command.env(name, value);
            }
            let (_, variables) = text.split_once("env:\n").expect("an environment");
            for line in variables.lines().take_while(|line| line.starts_with("    ")) {
                let (name, value) = line.trim().split_once(": ").expect("a variable");
                let value = match value {
                    "${{ secrets.TIDINGS_TOKEN }}" => &sandbox.token,
                    "${{ job.status }}" => "success",
                    value => value,
                };
                command.env(name, value);
            }
            command
        }
        "python" => {
            file("recipe.py");
            let mut command = sandbox.command("python3");
            command.arg("recipe.py");
            command
        }
        "js" => {
            file("recipe.mjs");
            let mut command = sandbox.command("node");
            command.arg("recipe.mjs");
            command
        }
        "rust" => rust::command(sandbox, "publish"),
        language => panic!("{}: how is {language} run?", block.key),
    }
}

fn publish_lines_while_the_server_is_killed(key: &str, stream: &str, lost: Lost) {
    let (sandbox, mut server) = Sandbox::started();
    for (name, file) in PROGRAMS {
        sandbox.stub(name, file);
    }
    let block = block(key);
    let mut recipe = command(&sandbox, &block, stream);
    let mut recipe = Group::start(&mut recipe, &sandbox.work("output"));
    let file = block.text.contains("app.log").then(|| {
        // tail prints a file that appears from its beginning. It never ends.
        wait_until(key, || contains(&recipe.errors, "app.log"));
        Group::start(&mut sandbox.command("writer"), &sandbox.work("app.log"))
    });
    wait_until(key, || sandbox.log(stream).0 == expected(20));
    server.kill();
    fs::write(sandbox.work("go"), "").expect("a file");
    wait_until(key, || sandbox.work("done").exists());
    if lost == Lost::Outage && file.is_none() {
        recipe.wait();
    }
    server.start();
    if lost == Lost::Nothing {
        wait_until(key, || sandbox.log(stream).0.len() >= 40);
        if file.is_none() {
            assert_eq!(recipe.wait(), Some(0), "{key}");
        }
    } else {
        recipe.kill();
    }
    let (lines, end) = sandbox.log(stream);
    assert_eq!(lines, expected(if lost == Lost::Nothing { 40 } else { 20 }), "{key}");
    let is_run = block.text.contains("--run");
    assert_eq!(end.is_some_and(|end| end.starts_with("exit 0")), is_run && stream != "backup");
}

#[test]
fn lines_survive_a_kill_of_the_server_as_the_page_says() {
    thread::scope(|scope| {
        for (key, stream, lost) in LINES {
            scope.spawn(move || publish_lines_while_the_server_is_killed(key, stream, lost));
        }
    });
}

fn publish_a_message(key: &str, stream: &str, text: &str, lost: Lost) {
    let block = block(key);
    let is_skipped = match block.language.as_str() {
        "python" => !is_installed("python3", "--version"),
        "js" => !is_installed("node", "--version"),
        _ => false,
    };
    if is_skipped {
        return;
    }
    let (sandbox, mut server) = Sandbox::new();
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a process")
    };
    if lost == Lost::Outage {
        // The server is away: the message is lost, and the program says so.
        assert!(!quiet(&mut command(&sandbox, &block, stream)).success(), "{key}");
        server.start();
        assert!(quiet(&mut command(&sandbox, &block, stream)).success(), "{key}");
    } else {
        let mut recipe = command(&sandbox, &block, stream);
        let mut recipe = Group::start(&mut recipe, &sandbox.work("output"));
        thread::sleep(Duration::from_millis(500));
        server.start();
        // What Python and Node leave to the publisher may be stored after they have ended.
        assert_eq!(recipe.wait(), Some(0), "{key}");
        wait_until(key, || !sandbox.log(stream).0.is_empty());
    }
    assert_eq!(sandbox.log(stream).0, [text], "{key}");
}

#[test]
fn messages_are_published_as_the_page_says() {
    thread::scope(|scope| {
        for (key, stream, text, lost) in MESSAGES {
            scope.spawn(move || publish_a_message(key, stream, text, lost));
        }
    });
}

#[test]
fn the_server_is_found_by_the_environment_and_by_the_configuration() {
    let (sandbox, _server) = Sandbox::started();
    let publish = sandbox.adapt(&block("publish: One message 1"));
    let script = sandbox.adapt(&block(ENVIRONMENT)) + &publish;
    let run = |script: &str| {
        let mut shell = sandbox.command_without_address("sh");
        assert!(shell.args(["-e", "-c", script]).status().expect("a shell").success());
    };
    run(&script);
    let folder = sandbox.work(".config/tidings");
    fs::create_dir_all(&folder).expect("a folder");
    let configuration = sandbox.adapt(&block(CONFIGURATION));
    fs::write(folder.join("config.toml"), configuration).expect("a file");
    run(&publish);
    assert_eq!(sandbox.log("ci").0, ["built in 42 s"; 2]);
}
