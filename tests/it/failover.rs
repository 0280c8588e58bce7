//! Several servers on one database: every acknowledged message reaches every reader once, in order,
//! whatever fails, and nothing is stored twice.
//!
//! Publishers repeat what was not acknowledged, with its key; readers move between the servers. Each
//! fault prints how long no message was acknowledged.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::support::{
    deployment::{Deployment, Shared, blocking},
    events, next, read_history,
    reconnecting::{Publishers, ReconnectingClient, of_publisher},
    seeded_rng,
};

const SERVERS: usize = 3;
const PUBLISHERS: usize = 6;
const READERS: usize = 6;
/// The pause of a publisher after each message.
const PUBLISH_PAUSE: Duration = Duration::from_millis(20);
/// How long a process is frozen: longer than any time-out between a server and the database.
const FREEZE: Duration = Duration::from_secs(15);
/// How many messages of each publisher must be acknowledged after a fault before the next one.
const BETWEEN_FAULTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A server is killed and started again.
    KillServer,
    /// A server is stopped gracefully, as for an upgrade, and another one is started.
    ReplaceServer,
    /// The primary is killed, the standby promoted, and a new standby built.
    KillPrimary,
    FreezeServer,
    FreezePrimary,
    FreezeStandby,
    /// The network between a server and the database fails, at once and after a random number of bytes.
    CutNetwork,
    /// It passes nothing on for a while.
    StallNetwork,
}

/// How often each fault occurs: a part in every test run, all of it where `TIDINGS_SOAK` is set.
fn faults() -> Vec<(Fault, usize)> {
    if std::env::var_os("TIDINGS_SOAK").is_some() {
        return vec![
            (Fault::KillServer, 30),
            (Fault::ReplaceServer, 9),
            (Fault::KillPrimary, 10),
            (Fault::FreezeServer, 2),
            (Fault::FreezePrimary, 2),
            (Fault::FreezeStandby, 2),
            (Fault::CutNetwork, 60),
            (Fault::StallNetwork, 3),
        ];
    }
    vec![
        (Fault::KillServer, 6),
        (Fault::ReplaceServer, 3),
        (Fault::KillPrimary, 2),
        (Fault::FreezePrimary, 1),
        (Fault::CutNetwork, 12),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_failovers() {
    let mut rng = seeded_rng();
    let Some(deployment) = blocking(|| Deployment::start(SERVERS)).await else { return };
    let (client, url_sender) = ReconnectingClient::new(deployment.urls());
    let deployment: Shared = Arc::new(Mutex::new(deployment));
    let publishers = Publishers::start_paced(PUBLISHERS, &client, PUBLISH_PAUSE);
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(client.clone().read())).collect();
    publishers.wait_for(BETWEEN_FAULTS).await;

    let mut schedule: Vec<Fault> =
        faults().into_iter().flat_map(|(fault, times)| vec![fault; times]).collect();
    rng.shuffle(&mut schedule);
    let mut pauses: Vec<(Fault, Duration)> = Vec::new();
    for fault in schedule {
        let (shared, url_sender, seed) = (Arc::clone(&deployment), url_sender.clone(), rng.u64(..));
        let begun = Instant::now();
        let injected = tokio::spawn(blocking(move || {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut deployment = shared.lock().unwrap_or_else(PoisonError::into_inner);
            inject(fault, &mut deployment, &mut rng, &|urls| {
                url_sender.send_replace(urls);
            });
        }));
        let longest = publishers.longest_pause_until(&injected).await;
        injected.await.expect("no panic");
        publishers.wait_for(BETWEEN_FAULTS).await;
        pauses.push((fault, longest));
        println!(
            "{fault:?}: {:.1} s, longest pause {:.1} s",
            begun.elapsed().as_secs_f64(),
            longest.as_secs_f64()
        );
        sleep(Duration::from_millis(rng.u64(0..200))).await;
    }
    let acknowledged = publishers.stop().await;
    client.end().await;
    print_pauses(&pauses);

    let published: usize = acknowledged.iter().map(Vec::len).sum();
    println!("{published} messages were acknowledged");
    let log = client.log().await;
    for (name, messages) in acknowledged.iter().enumerate() {
        assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
    }
    assert_eq!(log.len(), published, "nothing else is stored");
    for reader in readers {
        let received = reader.await.expect("no panic");
        assert_eq!(received.len(), log.len());
        assert!(received == log, "a reader has what the log has");
    }
}

/// Injects a fault, and repairs what it has damaged.
fn inject(
    fault: Fault,
    deployment: &mut Deployment,
    rng: &mut fastrand::Rng,
    set_urls: &dyn Fn(Vec<String>),
) {
    let index = rng.usize(..SERVERS);
    let cluster = &deployment.cluster;
    match fault {
        Fault::KillServer => {
            deployment.kill_server(index);
            set_urls(deployment.urls());
            // A server does not start without its database.
            deployment.networks[index].cut_after(u64::MAX);
            deployment.restart_server(index);
            set_urls(deployment.urls());
        }
        Fault::ReplaceServer => {
            deployment.networks[index].cut_after(u64::MAX);
            deployment.signal(index, "TERM");
            deployment.wait_for_end(index);
            deployment.restart_server(index);
            set_urls(deployment.urls());
        }
        Fault::KillPrimary => {
            cluster.primary().kill().expect("killed");
            cluster.promote().expect("promoted");
            cluster.rebuild_standby().expect("rebuilt");
        }
        Fault::FreezeServer => {
            deployment.signal(index, "STOP");
            std::thread::sleep(FREEZE);
            deployment.signal(index, "CONT");
        }
        Fault::FreezePrimary => {
            cluster.primary().freeze().expect("frozen");
            std::thread::sleep(FREEZE);
            cluster.primary().thaw().expect("thawed");
        }
        Fault::FreezeStandby => {
            cluster.standby().freeze().expect("frozen");
            std::thread::sleep(FREEZE);
            cluster.standby().thaw().expect("thawed");
        }
        Fault::CutNetwork => {
            let network = &deployment.networks[index];
            network.cut_all();
            network.cut_after(rng.u64(1..20_000));
        }
        Fault::StallNetwork => {
            let network = &deployment.networks[index];
            network.set_stalled(true);
            std::thread::sleep(FREEZE);
            network.set_stalled(false);
        }
    }
}

/// A primary that was replaced answers again, and lacks what was stored since: no server reads from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_is_not_read() {
    let deployment = blocking(|| Deployment::start_with(2, &[])).await;
    let Some(deployment) = deployment else { return };
    let urls = deployment.urls();
    let (client, _url_sender) = ReconnectingClient::new(urls.clone());
    let deployment: Shared = Arc::new(Mutex::new(deployment));
    let publishers = Publishers::start_paced(PUBLISHERS, &client, PUBLISH_PAUSE);
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(client.clone().read())).collect();
    publishers.wait_for(BETWEEN_FAULTS).await;
    let shared = Arc::clone(&deployment);
    blocking(move || {
        let deployment = shared.lock().unwrap_or_else(PoisonError::into_inner);
        deployment.cluster.primary().freeze().expect("frozen");
        deployment.cluster.promote().expect("promoted");
    })
    .await;
    publishers.wait_for(BETWEEN_FAULTS).await;
    let shared = Arc::clone(&deployment);
    blocking(move || {
        let deployment = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // After a promotion this is the former primary.
        deployment.cluster.standby().thaw().expect("thawed");
    })
    .await;
    publishers.wait_for(10 * BETWEEN_FAULTS).await;
    let acknowledged = publishers.stop().await;
    client.end().await;
    let published: usize = acknowledged.iter().map(Vec::len).sum();
    // A server that still reads from the former primary notices within half a minute.
    for url in urls {
        let url = format!("{url}/streams/news/messages");
        let mut log = read_history(&client.http, &url).await;
        for _ in 0..600 {
            if log.len() == published {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            log = read_history(&client.http, &url).await;
        }
        for (name, messages) in acknowledged.iter().enumerate() {
            assert_eq!(&of_publisher(&log, name), messages, "each once, in order");
        }
    }
    let log = client.log().await;
    for reader in readers {
        assert!(reader.await.expect("no panic") == log, "a reader has what the log has");
    }
}

/// Without a synchronous standby a failover loses messages, whose sequences are then assigned again. Their
/// readers get a reset and what there is, never a wrong continuation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_messages_resets_the_readers() {
    let deployment = blocking(|| Deployment::start_with(2, &[])).await;
    let Some(deployment) = deployment else { return };
    let urls = deployment.urls();
    let client = reqwest::Client::new();
    let publish = async |server: usize, text: &str| {
        for _ in 0..600 {
            let request = client.post(format!("{}/streams/news", urls[server]));
            if request.body(text.to_owned()).send().await.expect("a response").status() == 201 {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{text} is not stored");
    };
    publish(0, "kept").await;
    let deployment = blocking(move || {
        let cluster = &deployment.cluster;
        cluster.primary().query("ALTER SYSTEM SET synchronous_standby_names = ''").expect("set");
        cluster.primary().query("SELECT pg_reload_conf()").expect("reloaded");
        cluster.standby().kill().expect("killed");
        deployment
    })
    .await;
    let mut watchers = Vec::new();
    for url in &urls {
        let response = client.get(format!("{url}/streams/news/events")).send().await;
        let mut watcher = events(response.expect("a response"));
        assert_eq!(next(&mut watcher).await.data, "kept");
        watchers.push(watcher);
    }
    for text in ["lost 1", "lost 2", "lost 3"] {
        publish(0, text).await;
        for watcher in &mut watchers {
            assert_eq!(next(watcher).await.data, text);
        }
    }
    let _deployment = blocking(move || {
        let cluster = &deployment.cluster;
        cluster.primary().kill().expect("killed");
        cluster.standby().start().expect("started");
        cluster.promote().expect("promoted");
        deployment
    })
    .await;
    for text in ["new 1", "new 2", "new 3", "new 4"] {
        publish(1, text).await;
    }
    for watcher in &mut watchers {
        let reset = next(watcher).await;
        assert_eq!(reset.event, "reset", "{reset:?}");
        for text in ["kept", "new 1", "new 2", "new 3", "new 4"] {
            assert_eq!(next(watcher).await.data, text);
        }
    }
}

/// Prints the median and the longest pause of each kind of fault.
fn print_pauses(pauses: &[(Fault, Duration)]) {
    for (kind, _) in faults() {
        let is_kind = |(fault, _): &&(Fault, Duration)| {
            std::mem::discriminant(fault) == std::mem::discriminant(&kind)
        };
        let mut seconds: Vec<f64> =
            pauses.iter().filter(is_kind).map(|(_, pause)| pause.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let (Some(median), Some(longest)) = (seconds.get(seconds.len() / 2), seconds.last()) else {
            continue;
        };
        println!(
            "{kind:?} x {}: without an acknowledgement for {median:.1} s (median), {longest:.1} s \
             (longest)",
            seconds.len()
        );
    }
}
