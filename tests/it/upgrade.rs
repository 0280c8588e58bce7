//! Upgrades: a server stops under load, and the next one starts on its address and its store.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::support::{
    built_site,
    process::{Server, start_refused, tidings},
    reconnecting::{Publishers, ReconnectingClient, of_publisher},
};

const UPGRADES: usize = 3;
const PUBLISHERS: usize = 4;
const WATCHERS: usize = 200;
/// How many messages of each publisher are acknowledged before and after each upgrade.
const MESSAGES: usize = 20;
/// A server exits within ten seconds of a signal; the margin is for a machine under load.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_nothing() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    // All test clients have the same address.
    let flags = ["--publish-rate=0", "--max-watchers-per-address=1000", "--log=warn"];
    let mut server = Server::start_on(&file, site.path(), &flags);
    // All servers use the port of the first.
    let same_port = format!("--listen={}", server.address);
    let (client, _) = ReconnectingClient::new(vec![server.url()]);
    let publishers = Publishers::start(PUBLISHERS, &client);
    let watchers: Vec<_> = (0..WATCHERS).map(|_| tokio::spawn(client.clone().read())).collect();

    for _ in 0..UPGRADES {
        publishers.wait_for(MESSAGES).await;
        let command = &mut tidings();
        let second = command.arg("--data").arg(&file).arg("--site-root").arg(site.path());
        let (output, stderr) = start_refused(second.arg("--listen=127.0.0.1:0"));
        assert_eq!(output.status.code(), Some(1), "only one server may use the file");
        assert!(stderr.contains("another server holds"), "{stderr}");

        server.signal("TERM");
        let stopping = spawn_blocking(move || server.process.wait().expect("an end"));
        let status = tokio::time::timeout(EXIT_TIMEOUT, stopping).await.expect("an exit in time");
        assert_eq!(status.expect("no panic").code(), Some(0));
        // At once, while connections of the old server may be in TIME_WAIT.
        let arguments = [&[same_port.as_str()], &flags[..]].concat();
        server = Server::start_on(&file, site.path(), &arguments);
    }
    publishers.wait_for(MESSAGES).await;
    let acknowledged = publishers.stop().await;
    // Sent to the last server: a watcher that gets the end has read from it.
    client.end().await;

    let log = client.log().await;
    for (name, messages) in acknowledged.iter().enumerate() {
        assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
    }
    for watcher in watchers {
        assert!(watcher.await.expect("no panic") == log, "a watcher has what the log has");
    }
}
