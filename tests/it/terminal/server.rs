//! Which server it is, and the token for it.

use std::{fs, process::Stdio, time::Duration};

use serde_json::Value;

use super::{SECRET, stderr, stdout};
use crate::support::{
    terminal::{Restartable, Running, terminal},
    tls::{CertificateFiles, Identity},
};

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

    // While it is replaced, there may be none.
    let command = &mut server.command(&["publish", "news", "--lines", "--token-file"]);
    let mut publisher = Running::start(command.arg(&file), &server.path("out"));
    publisher.write("before\n");
    let last = format!("{}/streams/news/messages?before=latest&limit=1", server.url());
    let is_published = async || {
        let last = reqwest::Client::new().get(&last).bearer_auth(&token).send().await;
        last.expect("a response").text().await.expect("text").contains("before")
    };
    while !is_published().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fs::write(&file, "").expect("a file");
    publisher.write("while\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::write(&file, &token).expect("a file");
    assert_eq!(publisher.finish(), Some(0));

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
    // A password is not printed.
    for url in ["ftp://user:hidden@x", "http://user:hidden@127.0.0.1:1", "http://u:hidden?@x"] {
        fs::write(&config, format!("url = '{url}'")).expect("a file");
        let refused = with_config("6").output().expect("a process");
        assert!(refused.status.code() == Some(1) && !stderr(&refused).contains("hidden"), "{url}");
    }

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
    assert_eq!(texts, ["1", "2", "before", "while", "3", "End of the stream"]);
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
