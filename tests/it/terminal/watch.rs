//! `tidings watch`: where it begins, and what it prints.

use std::fs;

use serde_json::Value;

use super::{stderr, stdout};
use crate::support::terminal::{Restartable, Running, wait_until};

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
    // What others have published does not get the token.
    let mut command = server.command(&["watch", "news", "--exec", "echo token=$TIDINGS_TOKEN"]);
    let executed = command.env("TIDINGS_TOKEN", "hidden").output().expect("a process");
    assert_eq!(stdout(&executed), "token=\n".repeat(3));
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
fn a_state_is_for_one_watcher_and_its_output() {
    let server = Restartable::started(&[]);
    assert_eq!(server.run(&["publish", "news", "--run", "echo one"]).status.code(), Some(0));
    let [state, output, other] = ["state", "output", "other"]
        .map(|name| server.path(name).to_str().expect("text").to_owned());
    let watch = ["watch", "news", "--state", &state];
    let whole = [&watch[..], &["--output", &output]].concat();
    let first = server.run(&whole);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let notes = "notes that are longer than the output\n";
    fs::write(&other, notes).expect("a file");
    let url = server.url().replace("127.0.0.1", "localhost");
    for (arguments, reason) in [
        ([&watch[..], &["--output", &other]].concat(), "it is for the output"),
        (watch.to_vec(), "it is for the output"),
        ([&whole[..], &["--url", &url]].concat(), "it is for the server"),
        ([&["watch", "web"], &whole[2..]].concat(), "it is for the stream"),
    ] {
        let refused = server.run(&arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&refused).contains(reason), "{arguments:?}: {}", stderr(&refused));
    }
    assert_eq!(fs::read_to_string(&other).expect("a file"), notes);

    let [state, output, other] = ["state-2", "output-2", "state-3"]
        .map(|name| server.path(name).to_str().expect("text").to_owned());
    let arguments = ["watch", "web", "--state", &state, "--output", &output];
    let _watcher = Running::start(&mut server.command(&arguments), &server.path("out"));
    wait_until("it does not start", || server.path("state-2").exists());
    for arguments in [
        &["watch", "web", "--state", &state][..],
        &["watch", "web", "--state", &other, "--output", &output],
    ] {
        let second = server.run(arguments);
        assert_eq!(second.status.code(), Some(1));
        assert!(stderr(&second).contains("another process"), "{}", stderr(&second));
    }
}
