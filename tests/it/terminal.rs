//! `tidings publish` and `tidings watch`: what is published is what is stored and printed, through
//! restarts of the server, of the publisher and of the watcher.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    lines, seeded_rng,
    terminal::{Answers, Restartable, Running, contains, terminal, wait_until},
    tls::{CertificateFiles, Identity},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_message_and_lines_are_published() {
    let server = Restartable::started(&[]);
    assert_eq!(server.run(&["publish", "news", "hello ✅"]).status.code(), Some(0));
    assert_eq!(server.run(&["publish", "news", "-5"]).status.code(), Some(0));
    let whole = with_input(&mut server.command(&["publish", "news"]), b"two\nlines\n");
    assert_eq!((whole.status.code(), stderr(&whole)), (Some(0), String::new()));
    let of_lines =
        with_input(&mut server.command(&["publish", "news", "--lines"]), b"a\n\nb\r\nc\rd");
    assert_eq!((of_lines.status.code(), stderr(&of_lines)), (Some(0), String::new()));
    let expected = ["hello ✅", "-5", "two\nlines", "a", "b", "c", "d"].map(str::to_owned);
    assert_eq!(server.log().await.0, expected);

    for (arguments, input) in
        [(&["publish", "news"][..], &b""[..]), (&["publish", "news"], b"\xff")]
    {
        let output = with_input(&mut server.command(arguments), input);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    }
    for wrong in [&["publish", "No"][..], &["publish"], &["publish", "a", "b", "--lines"]] {
        assert_eq!(server.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_lines_are_told_and_give_a_status_of_their_own() {
    let server = Restartable::started(&["--max-message-bytes", "10"]);
    let input = b"fits\nis too long for it\ncaf\xe9\n";
    let output = with_input(&mut server.command(&["publish", "news", "--lines"]), input);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("2 of 3 lines"), "{}", stderr(&output));
    assert_eq!(server.log().await.0, ["fits", "is too …", "caf\u{fffd}"].map(str::to_owned));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_slow_input_is_published_at_once() {
    let server = Restartable::started(&[]);
    let command = &mut server.command(&["publish", "news", "--lines"]);
    let mut publisher = Running::start(command, &server.path("out"));
    for number in 0..5 {
        publisher.write(&format!("line {number}\n"));
        let mut log = Vec::new();
        while log.len() <= number {
            tokio::time::sleep(Duration::from_millis(10)).await;
            log = server.log().await.0;
        }
        assert_eq!(log.last().map(String::as_str), Some(format!("line {number}").as_str()));
    }
    // A stopped publisher publishes what it has read.
    publisher.write("last\n");
    wait_until("the line is not published", || {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(server.log()).0.len() == 6
        })
    });
    publisher.signal("TERM");
    assert_eq!(publisher.wait(), Some(143));
}

#[test]
fn a_refusal_gives_its_reason_and_a_status() {
    let server = Restartable::started(&["--secret", SECRET, "--public", "open"]);
    for arguments in [
        &["publish", "news", "x"][..],
        &["watch", "news"],
        &["publish", "news", "--lines", "--url", "http://127.0.0.1:1", "--retry-for", "1ms"],
    ] {
        let output = with_input(&mut server.command(arguments), b"line\n");
        let (code, reason) = match arguments.len() {
            7 => (3, "given up"),
            _ => (1, "TIDINGS_TOKEN"),
        };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
    let not_tidings = server.run(&["watch", "news", "--url", &format!("{}/streams", server.url())]);
    assert_eq!(not_tidings.status.code(), Some(1), "{}", stderr(&not_tidings));
}

const JSON: &str = "application/json";
const HTML: &str = "text/html";

#[test]
fn only_the_answer_of_tidings_says_that_it_is_stored() {
    for (answers, lines, reason) in [
        (&[("200 OK", HTML, "<p>log in")][..], false, "not as Tidings does"),
        (&[("201 Created", JSON, "{}")], false, "not as Tidings does"),
        (&[("200 OK", JSON, r#"{"id":"1-1"}"#)], true, "not as Tidings does"),
        (&[("200 OK", JSON, r#"{"taken":1,"altered":0}"#)], true, "stored 1 of 2 lines"),
    ] {
        let other = Answers::start(answers);
        let kind = if lines { "--lines" } else { "text" };
        let command = &mut terminal();
        let output =
            with_input(command.args(["publish", "news", kind, "--url", &other.url]), b"a\nb\n");
        assert_eq!(output.status.code(), Some(1), "{answers:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{answers:?}: {}", stderr(&output));
    }
}

#[test]
fn answers_of_a_proxy_while_the_server_restarts_do_not_end_a_publisher() {
    let proxy = Answers::start(&[
        // Of a load balancer.
        ("522 Connection Timed Out", HTML, "x"),
        ("200 OK", JSON, r#"{"taken":1,"altered":0,"last_id":"1-1"}"#),
        ("404 Not Found", "application/problem+json", r#"{"type":"about:blank","title":"none"}"#),
        ("200 OK", HTML, "under maintenance"),
        ("200 OK", JSON, r#"{"taken":1,"altered":0,"last_id":"2-1"}"#),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut publisher = Running::start(
        terminal().args(["publish", "news", "--lines", "--url", &proxy.url]),
        &folder.path().join("out"),
    );
    publisher.write("one\n");
    wait_until("it is not published", || proxy.given() == 2);
    publisher.write("two\n");
    assert_eq!(publisher.finish(), Some(0));
    assert_eq!(proxy.given(), 5);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn the_address_and_the_token_come_from_the_environment_or_a_file() {
    let server = Restartable::started(&["--secret", SECRET]);
    let made = terminal()
        .args([
            "token",
            "--for",
            "test",
            "--publish",
            "news",
            "--watch",
            "news",
            "--secret",
            SECRET,
        ])
        .output()
        .expect("a process");
    let token = stdout(&made).trim().to_owned();
    assert!(!token.is_empty(), "{}", stderr(&made));

    let with_variable =
        server.command(&["publish", "news", "1"]).env("TIDINGS_TOKEN", &token).status();
    assert!(with_variable.expect("a process").success());
    let file = server.path("token");
    fs::write(&file, format!("{token}\n")).expect("a file");
    let with_file = server.command(&["publish", "news", "2", "--token-file"]).arg(&file).status();
    assert!(with_file.expect("a process").success());

    let config = server.path("tidings");
    fs::create_dir(&config).expect("a folder");
    let config = config.join("config.toml");
    fs::write(&config, format!("url = '{}'\ntoken = '{token}'\n", server.url())).expect("a file");
    let with_config = |text: &str| {
        let mut command = terminal();
        command.env("XDG_CONFIG_HOME", server.path("")).args(["publish", "news", text]);
        command
    };
    assert!(with_config("3").status().expect("a process").success());
    // The token of the file is for the server of the file.
    let elsewhere =
        with_config("4").args(["--url", &server.url().replace("127.0.0.1", "localhost")]).output();
    assert_eq!(elsewhere.expect("a process").status.code(), Some(1));
    fs::write(&config, "adress = 'x'").expect("a file");
    let misspelt = with_config("5").output().expect("a process");
    assert!(misspelt.status.code() == Some(1) && stderr(&misspelt).contains("config.toml"));

    let texts = server
        .command(&["watch", "news", "--json"])
        .env("TIDINGS_TOKEN", &token)
        .stdout(Stdio::piped())
        .spawn();
    let mut watcher = texts.expect("a process");
    let ended = reqwest::Client::new().post(format!("{}/streams/news/end", server.url()));
    assert!(ended.bearer_auth(&token).send().await.expect("a response").status().is_success());
    assert_eq!(crate::support::process::exit_status(&mut watcher), Some(0));
    let printed = stdout(&watcher.wait_with_output().expect("an end"));
    let texts: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let texts: Vec<_> = texts.iter().map(|entry| entry["data"].as_str().expect("text")).collect();
    assert_eq!(texts, ["1", "2", "3", "End of the stream"]);
}

#[test]
fn a_certificate_that_is_not_trusted_ends_it() {
    let files = CertificateFiles::of(&Identity::new());
    let (certificate, key) = (files.certificate(), files.key());
    let server = Restartable::started(&["--tls-cert", &certificate, "--tls-key", &key]);
    let url = server.url().replace("http://127.0.0.1", "https://localhost");
    let publish = ["publish", "news", "x", "--url", &url];
    let untrusted = server.run(&publish);
    assert_eq!(untrusted.status.code(), Some(1), "{}", stderr(&untrusted));
    assert!(stderr(&untrusted).contains("certificate"), "{}", stderr(&untrusted));
    let trusted = server.command(&publish).env("SSL_CERT_FILE", &certificate).output();
    let trusted = trusted.expect("a process");
    assert_eq!(trusted.status.code(), Some(0), "{}", stderr(&trusted));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_survives_the_publisher() {
    let mut server = Restartable::new(&[]);
    let spool = server.path("spool");
    let arguments = ["publish", "news", "--lines", "--spool", spool.to_str().expect("text")];
    let start =
        |server: &Restartable| Running::start(&mut server.command(&arguments), &server.path("out"));
    // Killed while the server is away, and while it comes and goes.
    let mut expected = Vec::new();
    for round in 0..4 {
        let mut publisher = start(&server);
        for number in 0..50 {
            let line = format!("round {round} line {number}");
            publisher.write(&format!("{line}\n"));
            expected.push(line);
        }
        let last = expected.last().expect("a line").clone();
        if round < 2 {
            wait_until("the line is not in the spool", || contains(&spool, &last));
        } else {
            // In the spool, or published and removed from it.
            let url = server.url();
            wait_until("the line is nowhere", || {
                contains(&spool, &last)
                    || tokio::task::block_in_place(|| {
                        let log = reqwest::get(format!(
                            "{url}/streams/news/messages?before=latest&limit=1"
                        ));
                        let text = async { log.await.ok()?.text().await.ok() };
                        tokio::runtime::Handle::current()
                            .block_on(text)
                            .is_some_and(|text| text.contains(&last))
                    })
            });
        }
        publisher.kill();
        match round {
            1 | 3 => server.start(),
            2 => server.kill(),
            _ => {}
        }
    }
    let mut publisher = start(&server);
    publisher.write("last\n");
    expected.push("last".to_owned());
    while server.log().await.0.last() != expected.last() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = server.run(&arguments);
    assert!(second.status.code() == Some(1) && stderr(&second).contains("another publisher"));
    assert_eq!(publisher.finish(), Some(0));
    assert_eq!(server.log().await.0, expected);
    assert_eq!(fs::read_to_string(&spool).expect("a file"), "tidings spool 1 news\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_shown_and_published_and_keeps_its_status() {
    let server = Restartable::started(&[]);
    for (command, code, texts) in [
        (
            "echo out; echo err >&2; echo more; printf end; exit 7",
            7,
            &["out", "err", "more", "end"][..],
        ),
        ("echo dies; kill -9 $$", 137, &["dies"]),
        ("no-such-command-at-all 2>/dev/null", 127, &[]),
        ("sleep 300 & echo left behind", 0, &["left behind"]),
    ] {
        let output = server.run(&["publish", "news", "--run", command]);
        assert_eq!(output.status.code(), Some(code), "{command}: {}", stderr(&output));
        assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), texts, "{command}");
        let (log, end) = server.log().await;
        let texts = if texts.is_empty() { &["(no output)"] } else { texts };
        assert_eq!(log, texts, "{command}");
        let end = end.expect("an end");
        assert!(end.starts_with(&format!("exit {code} after ")), "{end}");
        let deleted = reqwest::Client::new().delete(format!("{}/streams/news", server.url()));
        deleted.send().await.expect("a response");
    }
    // Signals are passed on.
    let ready = server.path("ready");
    let command = format!(
        "trap 'echo stopped; exit 3' TERM; touch {}; while :; do sleep 0.1; done",
        ready.display()
    );
    let mut running = Running::start(
        &mut server.command(&["publish", "news", "--run", &command]),
        &server.path("out"),
    );
    wait_until("the command does not start", || ready.exists());
    running.signal("TERM");
    assert_eq!(running.wait(), Some(3));
    // The shell may tell that its `sleep` was ended too.
    assert_eq!(server.log().await.0.last().map(String::as_str), Some("stopped"));
    // Where it cannot be published, the command runs all the same.
    let refused = server.run(&["publish", "news", "--run", "echo still; exit 5"]);
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(5), "still\n"));
    assert!(stderr(&refused).contains("has ended"), "{}", stderr(&refused));
}

#[test]
fn a_watcher_prints_from_where_it_is_told() {
    let server = Restartable::started(&[]);
    for text in ["one", "two", "three\nlines"] {
        assert_eq!(server.run(&["publish", "news", text]).status.code(), Some(0));
    }
    let ended = server.run(&["publish", "news", "--run", "exit 2"]);
    assert_eq!(ended.status.code(), Some(2));
    let watch = |arguments: &[&str]| {
        let output = server.run(&[&["watch", "news"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let (all, told) = watch(&[]);
    assert_eq!(all, "one\ntwo\nthree\nlines\n");
    assert!(told.contains("the stream has ended: exit 2 after"), "{told}");
    assert_eq!(watch(&["--from", "latest"]).0, "");
    let (json, _) = watch(&["--json"]);
    let entries: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(entries.len(), 4);
    assert_eq!(
        (&entries[3]["end"], &entries[2]["data"]),
        (&Value::from(true), &Value::from("three\nlines"))
    );
    assert_eq!(
        watch(&["--from", entries[0]["id"].as_str().expect("an id")]).0,
        "two\nthree\nlines\n"
    );
    let at = entries[0]["at"].as_str().expect("a time");
    assert!(watch(&["--times"]).0.starts_with(&format!("{at} one\n")));
    let (lost, told) = watch(&["--from", "1000000000000-1"]);
    assert_eq!(lost, "one\ntwo\nthree\nlines\n");
    assert!(told.contains("messages were lost before this point"), "{told}");
    assert_eq!(server.run(&["watch", "news", "--from", "yesterday"]).status.code(), Some(2));

    let command = r#"printf '%s=' "$TIDINGS_MESSAGE"; cat; echo " $TIDINGS_ID $TIDINGS_AT"; test "$TIDINGS_MESSAGE" != two"#;
    let (executed, told) = watch(&["--exec", command]);
    assert!(
        executed.starts_with(&format!(
            "one=one {} {at}\ntwo=two ",
            entries[0]["id"].as_str().expect("an id")
        )),
        "{executed}"
    );
    assert!(
        executed.contains("three\nlines=three\nlines ") && told.contains("the command failed"),
        "{told}"
    );
    // It stops at the message, and begins with it again.
    let state = server.path("state");
    let state = state.to_str().expect("text");
    for printed in ["one\ntwo\n", "two\n"] {
        let command = r#"echo "$TIDINGS_MESSAGE"; test "$TIDINGS_MESSAGE" != two"#;
        let output = server.run(&[
            "watch",
            "news",
            "--state",
            state,
            "--exec",
            command,
            "--exec-fail",
            "stop",
        ]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), printed));
    }
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
