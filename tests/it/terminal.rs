//! `tidings publish` and `tidings watch`: what is published is what is stored and printed, through
//! restarts of the server, of the publisher and of the watcher.

mod publish;
mod run;
mod server;
mod signals;
mod watch;

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::support::{
    lines, seeded_rng,
    terminal::{Restartable, Running, terminal},
};

const SECRET: &str = "a secret of a length that is enough";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command with this input to its end.
fn with_input(command: &mut Command, input: &[u8]) -> Output {
    use std::io::Write as _;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = piped.spawn().expect("a process");
    let mut stdin = process.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    process.wait_with_output().expect("an end")
}

/// The whole: a publisher, and a watcher that is killed too, while the server is killed again and again.
#[test]
fn what_is_printed_is_what_was_published_through_kills() {
    const LINES: usize = 20_000;
    let flags = ["--keep-bytes", "1GiB"];
    let mut rng = seeded_rng();
    let mut server = Restartable::started(&flags);
    let (printed, state) = (server.path("printed"), server.path("state"));
    let arguments = ["watch", "news", "--state", state.to_str().expect("text"), "--output"];
    let watch = |server: &Restartable| {
        Running::start(server.command(&arguments).arg(&printed), &server.path("watcher"))
    };
    let mut watcher = watch(&server);
    let input = lines((0..LINES).map(|number| format!("line {number} of some length")));
    let file = server.path("input");
    fs::write(&file, &input).expect("a file");
    let mut publisher = server
        .command(&["publish", "news", "--lines"])
        .stdin(fs::File::open(&file).expect("a file"))
        .spawn()
        .expect("a process");
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(rng.u64(0..300)));
        server.kill();
        if round % 2 == 0 {
            watcher.kill();
            watcher = watch(&server);
        }
        server.start();
    }
    assert_eq!(crate::support::process::exit_status(&mut publisher), Some(0));
    let end = server.command(&["publish", "news", "--run", "true"]).output().expect("a process");
    assert_eq!(end.status.code(), Some(0), "{}", stderr(&end));
    assert_eq!(watcher.finish(), Some(0));
    assert!(fs::read_to_string(&printed).expect("a file") == input);
    // Started once more, it knows that all is printed.
    assert_eq!(watch(&server).finish(), Some(0));
    assert!(fs::read_to_string(&printed).expect("a file") == input);
}

#[test]
fn completions_and_manual_pages_are_made() {
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef tidings"), ("fish", "complete -c tidings")]
    {
        let output = terminal().args(["completions", shell]).output().expect("a process");
        let script = stdout(&output);
        assert!(script.contains(sign) && script.contains("retry-for"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    assert!(terminal().arg("man").arg(folder.path()).status().expect("a process").success());
    for (page, text) in
        [("tidings.1", "keep"), ("tidings-publish.1", "Exit status"), ("tidings-watch.1", "from")]
    {
        let page = fs::read_to_string(folder.path().join(page)).expect("a page");
        assert!(page.contains(text), "{page}");
    }
}
