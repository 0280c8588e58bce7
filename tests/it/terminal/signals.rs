//! Signals: what was read is published, and what was printed is not printed again.

use std::{
    fs::{self, File},
    io::{Seek as _, Write as _},
    os::unix::process::CommandExt as _,
    process::Command,
    time::Duration,
};

use super::stdout;
use crate::support::{
    lines,
    terminal::{Restartable, Running, contains, terminal, wait_until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_publisher_publishes_what_it_has_read() {
    let mut server = Restartable::new(&[]);
    let spool = server.path("spool");
    let arguments = ["publish", "news", "--lines", "--spool", spool.to_str().expect("text")];
    let mut publisher = Running::start(&mut server.command(&arguments), &server.path("out"));
    publisher.write("first\nlast, without a line end");
    wait_until("it is not read", || contains(&spool, "first"));
    publisher.signal("TERM");
    wait_until("the last line is not kept", || contains(&spool, "last, without a line end\n"));
    server.start();
    assert_eq!(publisher.wait(), Some(143));
    assert_eq!(server.log().await.0, ["first", "last, without a line end"].map(str::to_owned));
}

#[test]
fn a_signal_ends_a_publisher_whose_command_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    // More than is kept, from a process that the command leaves behind.
    let command = "yes | head -c 8000000 & exit 3";
    let mut publisher = Running::start(
        terminal().args(["publish", "news", "--url", "http://127.0.0.1:1", "--run", command]),
        &out,
    );
    wait_until("it does not wait for room", || {
        fs::metadata(&out).is_ok_and(|out| out.len() >= 4 * 1024 * 1024)
    });
    publisher.signal("TERM");
    assert_eq!(publisher.wait(), Some(3));
}

#[test]
fn a_stopped_watcher_finishes_its_command_and_keeps_its_place() {
    let server = Restartable::started(&[]);
    assert_eq!(
        server.run(&["publish", "news", "--run", "echo one; echo two"]).status.code(),
        Some(0)
    );
    let [state, folder] =
        ["state", ""].map(|name| server.path(name).to_str().expect("text").to_owned());
    let command = format!(
        "cd '{folder}'; touch begun; until test -e go; do sleep 0.1; done; echo $TIDINGS_MESSAGE >> done"
    );
    let arguments = ["watch", "news", "--state", &state, "--exec", &command];
    let mut watcher = Running::start(&mut server.command(&arguments), &server.path("out"));
    wait_until("the command does not start", || server.path("begun").exists());
    watcher.signal("TERM");
    fs::write(server.path("go"), "").expect("a file");
    assert_eq!(watcher.wait(), Some(143));
    assert!(fs::read_to_string(server.path("done")).expect("a file").starts_with("one\n"));
    assert_eq!(server.run(&arguments).status.code(), Some(0));
    assert_eq!(fs::read_to_string(server.path("done")).expect("a file"), "one\ntwo\n");
}

/// SIGHUP and SIGTERM as they are for a program in the foreground, however these tests were started.
const FOREGROUND: &str = "--default-signal=HUP,TERM";
/// As `nohup` starts a program.
const NOHUP: &str = "--ignore-signal=HUP";

/// The program with this handling of signals (an option of GNU `env`).
fn with_signals(server: &Restartable, handling: &str, arguments: &[&str]) -> Command {
    let program = server.command(arguments);
    let mut command = Command::new("env");
    command.arg(handling).arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// The input is a file, whose offset says how much of it was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drops_nothing_that_was_read_while_the_queue_is_full() {
    let mut server = Restartable::new(&["--keep-bytes", "1GiB", "--keep-messages", "100000"]);
    let line = "x".repeat(990);
    let input = lines((0..12_000).map(|number| format!("{number:05} {line}")));
    let file = File::options().read(true).write(true).create_new(true).open(server.path("input"));
    let mut file = file.expect("a file");
    file.write_all(input.as_bytes()).expect("a file");
    file.rewind().expect("a file");
    let publisher = with_signals(&server, FOREGROUND, &["publish", "news", "--lines"])
        .stdin(file.try_clone().expect("a file"))
        .spawn();
    let mut publisher = Running { process: publisher.expect("a process") };
    let mut offset = || file.stream_position().expect("a file");
    // 4 MiB are kept; then it waits.
    wait_until("the queue is not full", || offset() >= 4 * 1024 * 1024);
    publisher.signal("TERM");
    server.start();
    assert_eq!(publisher.wait(), Some(143));
    let read = usize::try_from(offset()).expect("short");
    assert!(read < input.len(), "all of it was read before the signal");
    let log = server.log().await.0;
    let stored = log.iter().map(String::as_str);
    assert!(stored.eq(input[..read].lines()), "{} of {read} bytes", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_is_as_a_signal_to_end_unless_it_is_ignored() {
    let mut server = Restartable::new(&[]);
    let spool = server.path("spool");
    let arguments = ["publish", "news", "--lines", "--spool", spool.to_str().expect("text")];
    let mut publisher =
        Running::start(&mut with_signals(&server, FOREGROUND, &arguments), &server.path("out"));
    publisher.write("read before the terminal was closed\n");
    wait_until("it is not read", || contains(&spool, "read before"));
    publisher.signal("HUP");
    server.start();
    assert_eq!(publisher.wait(), Some(129));

    let mut publisher =
        Running::start(&mut with_signals(&server, NOHUP, &arguments), &server.path("out"));
    publisher.write("one\n");
    while server.log().await.0.last().map(String::as_str) != Some("one") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publisher.signal("HUP");
    publisher.write("two\n");
    assert_eq!(publisher.finish(), Some(0));
    let expected = ["read before the terminal was closed", "one", "two"].map(str::to_owned);
    assert_eq!(server.log().await.0, expected);
}

/// As Ctrl-C does on a terminal, the signal goes to the command too.
#[test]
fn a_message_whose_command_a_signal_has_ended_comes_again() {
    let server = Restartable::started(&[]);
    assert_eq!(server.run(&["publish", "news", "--run", "echo one"]).status.code(), Some(0));
    let (state, begun) = (server.path("state"), server.path("begun"));
    let arguments = ["watch", "news", "--state", state.to_str().expect("text"), "--exec"];
    let mut command = with_signals(&server, FOREGROUND, &arguments);
    command.arg(format!("touch '{}'; exec sleep 300", begun.display()));
    command.process_group(0);
    let mut watcher = Running::start(&mut command, &server.path("out"));
    wait_until("the command does not start", || begun.exists());
    let group = format!("kill -s TERM -- -{}", watcher.process.id());
    assert!(Command::new("sh").args(["-c", &group]).status().expect("a shell").success());
    assert_eq!(watcher.wait(), Some(143));
    let again = server.run(&[&arguments[..], &["echo again $TIDINGS_MESSAGE"]].concat());
    assert_eq!((again.status.code(), stdout(&again).as_str()), (Some(0), "again one\n"));
}

#[test]
fn a_second_signal_ends_a_watcher_that_waits() {
    let server = Restartable::started(&[]);
    assert_eq!(server.run(&["publish", "news", "--run", "echo one"]).status.code(), Some(0));
    let begun = server.path("begun");
    let command = format!("touch '{}'; exec sleep 90", begun.display());
    let arguments = ["watch", "news", "--exec", &command];
    let mut watcher =
        Running::start(&mut with_signals(&server, FOREGROUND, &arguments), &server.path("out"));
    wait_until("the command does not start", || begun.exists());
    // Signals of one kind that come together are one.
    watcher.signal("TERM");
    wait_until("it does not end", || {
        watcher.signal("HUP");
        watcher.process.try_wait().expect("a process").is_some()
    });
}
