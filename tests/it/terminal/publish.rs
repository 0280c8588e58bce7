//! `tidings publish`: messages and lines.

use std::{fs, time::Duration};

use super::{SECRET, stderr, with_input};
use crate::support::terminal::{
    Restartable, Running, ScriptedServer, contains, terminal, wait_until,
};

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
        let other = ScriptedServer::start(answers);
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
    let proxy = ScriptedServer::start(&[
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
async fn a_damaged_spool_is_refused_and_not_cut() {
    let mut server = Restartable::new(&[]);
    let spool = server.path("spool");
    let arguments = ["publish", "news", "--lines", "--spool", spool.to_str().expect("text")];
    let away = [&arguments[..], &["--retry-for", "1ms"]].concat();
    let away = with_input(&mut server.command(&away), b"one\ntwo\n");
    assert_eq!(away.status.code(), Some(3), "{}", stderr(&away));
    server.start();
    // A bit that the disk has changed.
    let whole = fs::read(&spool).expect("a file");
    let mut damaged = whole.clone();
    let text = damaged.windows(3).position(|part| part == b"one").expect("a line");
    damaged[text] ^= 1;
    fs::write(&spool, &damaged).expect("a file");
    let refused = server.run(&arguments);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let header = format!("tidings spool 1 news {}\n", server.url());
    let reason = format!("it is damaged at byte {}", header.len());
    assert!(stderr(&refused).contains(&reason), "{}", stderr(&refused));
    assert!(fs::read(&spool).expect("a file") == damaged);
    assert_eq!(server.log().await.0, [""; 0]);
    // With an end that was being written: what is before it is published.
    fs::write(&spool, [&whole[..], &[9, 0, 0, 0, 1]].concat()).expect("a file");
    assert_eq!(server.run(&arguments).status.code(), Some(0));
    assert_eq!(server.log().await.0, ["one", "two"]);
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
    assert!(second.status.code() == Some(1) && stderr(&second).contains("another process"));
    assert_eq!(publisher.finish(), Some(0));
    assert_eq!(server.log().await.0, expected);
    let header = format!("tidings spool 1 news {}\n", server.url());
    assert_eq!(fs::read_to_string(&spool).expect("a file"), header);
}
