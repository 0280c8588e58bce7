//! An upgrade: one server stops under load, the next one starts where it was, on its file.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::support::{
    built_site,
    process::{Server, refused, tidings},
    visitor::{Publishers, Visitor, of_publisher},
};

const UPGRADES: usize = 3;
const PUBLISHERS: usize = 4;
const WATCHERS: usize = 200;
/// What each publisher gets acknowledged before and after each upgrade.
const MESSAGES: usize = 20;
/// A server that stops is gone within ten seconds. A machine under load may take its time to notice.
const GONE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_nothing() {
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let file = folder.path().join("tidings.db");
    // They all have the same address here.
    let many = ["--publish-rate=0", "--max-watchers-per-address=1000", "--log=warn"];
    let mut server = Server::start_on(&file, site.path(), &many);
    // The port of the first is everyone's.
    let same_port = format!("--listen={}", server.address);
    let (visitor, _) = Visitor::new(server.url());
    let publishers = Publishers::start(PUBLISHERS, &visitor);
    let watchers: Vec<_> = (0..WATCHERS).map(|_| tokio::spawn(visitor.clone().read())).collect();

    for _ in 0..UPGRADES {
        publishers.until(MESSAGES).await;
        let command = &mut tidings();
        let too_soon = command.arg("--data").arg(&file).arg("--site-root").arg(site.path());
        let (output, said) = refused(too_soon.arg("--listen=127.0.0.1:0"));
        assert_eq!(output.status.code(), Some(1), "one at a time");
        assert!(said.contains("another server holds"), "{said}");

        server.signal("TERM");
        let stopping = spawn_blocking(move || server.process.wait().expect("an end"));
        let status = tokio::time::timeout(GONE, stopping).await.expect("it is gone in time");
        assert_eq!(status.expect("no panic").code(), Some(0));
        // At once: connections of the old one may still linger in the system.
        let arguments = [&[same_port.as_str()], &many[..]].concat();
        server = Server::start_on(&file, site.path(), &arguments);
    }
    publishers.until(MESSAGES).await;
    let acknowledged = publishers.stop().await;
    // On the last of the servers: whoever sees the end has come as far.
    visitor.end().await;

    let log = visitor.log().await;
    for (name, messages) in acknowledged.iter().enumerate() {
        assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
    }
    for watcher in watchers {
        assert!(watcher.await.expect("no panic") == log, "a watcher has what the log has");
    }
}
