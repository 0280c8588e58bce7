//! Invariant 1 of the design: every acknowledged message reaches every reader whose cursor precedes
//! it, once, in order, through kill -9.

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
    built_site, chance,
    process::Server,
    visitor::{Publishers, Visitor, of_publisher},
};

const KILLS: usize = 60;
const PUBLISHERS: usize = 4;
const READERS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_sixty_kills() {
    let mut chance = chance();
    let (folder, site) = (tempfile::tempdir().expect("a folder"), built_site());
    let start = {
        let file: PathBuf = folder.path().join("tidings.db");
        let site = site.path().to_owned();
        move || Server::start_on(&file, &site, &[])
    };
    let mut server = start();
    let (visitor, tell) = Visitor::new(server.url());
    let publishers = Publishers::start(PUBLISHERS, &visitor);
    let stop = Arc::new(AtomicBool::new(false));
    let careless = tokio::spawn(visitor.clone().publish_lines(Arc::clone(&stop)));
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(visitor.clone().read())).collect();

    for _ in 0..KILLS {
        sleep(Duration::from_millis(chance.u64(0..200))).await;
        let start = start.clone();
        let kill = move || {
            server.kill();
            start()
        };
        server = spawn_blocking(kill).await.expect("no panic");
        tell.send_replace(server.url());
    }
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = publishers.stop().await;
    careless.await.expect("no panic");
    visitor.end().await;

    let published: usize = acknowledged.iter().map(Vec::len).sum();
    assert!(published > KILLS, "{published} is not much of a trial");
    let log = visitor.log().await;
    for (name, messages) in acknowledged.iter().enumerate() {
        assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
    }
    for reader in readers {
        let seen = reader.await.expect("no panic");
        assert_eq!(seen.len(), log.len());
        assert!(seen == log, "a reader has what the log has");
    }
}
