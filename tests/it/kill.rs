//! Durability (invariant 1 of the design): every acknowledged message reaches every reader whose cursor
//! precedes it, once, in order, through `kill -9`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use crate::support::{
    built_site,
    process::Server,
    reconnecting::{Publishers, ReconnectingClient, of_publisher},
    seeded_rng,
};

const KILLS: usize = 60;
const PUBLISHERS: usize = 4;
const READERS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_sixty_kills() {
    let mut rng = seeded_rng();
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let start = {
        let file: PathBuf = folder.path().join("tidings.db");
        let site = site.path().to_owned();
        move || Server::start_on(&file, &site, &[])
    };
    let mut server = start();
    let (client, url_sender) = ReconnectingClient::new(vec![server.url()]);
    let publishers = Publishers::start(PUBLISHERS, &client);
    let stop = Arc::new(AtomicBool::new(false));
    let upload = tokio::spawn(client.clone().publish_lines(Arc::clone(&stop)));
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(client.clone().read())).collect();

    for _ in 0..KILLS {
        sleep(Duration::from_millis(rng.u64(0..200))).await;
        let start = start.clone();
        let kill = move || {
            server.kill();
            start()
        };
        server = spawn_blocking(kill).await.expect("no panic");
        url_sender.send_replace(vec![server.url()]);
    }
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = publishers.stop().await;
    upload.await.expect("no panic");
    client.end().await;

    let published: usize = acknowledged.iter().map(Vec::len).sum();
    assert!(published > KILLS, "only {published} messages");
    let log = client.log().await;
    for (name, messages) in acknowledged.iter().enumerate() {
        assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
    }
    for reader in readers {
        let received = reader.await.expect("no panic");
        assert_eq!(received.len(), log.len());
        assert!(received == log, "a reader has what the log has");
    }
}
