//! `tidings publish --run`: a command whose output is published.

use super::{stderr, stdout};
use crate::support::terminal::{Restartable, Running, wait_until};

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
    // What it prints is read by others.
    let mut command = server.command(&["publish", "news", "--run", "echo token=$TIDINGS_TOKEN"]);
    let secretive = command.env("TIDINGS_TOKEN", "hidden").output().expect("a process");
    assert_eq!(stdout(&secretive), "token=\n");
    // Where it cannot be published, the command runs all the same.
    let refused = server.run(&["publish", "news", "--run", "echo still; exit 5"]);
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(5), "still\n"));
    assert!(stderr(&refused).contains("has ended"), "{}", stderr(&refused));
}
