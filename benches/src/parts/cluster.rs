//! Several servers on one `PostgreSQL` database, beside one on a file. Only for Tidings, since the baseline
//! stores nothing. Everything shares the processors: two databases, the servers and the load.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use tidings_cluster::{Cluster, Options};

use super::{Bench, Running, as_f64, losses};
use crate::{
    contender::Contender,
    crowd::Crowd,
    publisher::{Load, Publisher, Until},
    table::Table,
    text,
};

pub(super) const SERVERS: usize = 3;
const PUBLISHERS: usize = 256;
/// Watchers of each server.
pub(super) const WATCHERS: usize = 3_000;
const MESSAGES: u64 = 100;
/// Messages a second.
const RATE: u32 = 10;
/// Messages that a late reader reads.
const STORED: usize = 100_000;

/// Where the messages are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    File,
    Database,
    WithStandby,
}

/// A cluster, whose folder is removed with it.
struct Databases<'a> {
    bench: &'a Bench,
    cluster: Cluster,
    folder: PathBuf,
    created: u32,
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    if bench.contenders(&[Contender::Ours]).is_empty() {
        return Ok(());
    }
    for store in [Store::File, Store::Database, Store::WithStandby] {
        let mut databases = match store {
            Store::File => None,
            Store::Database => Some(Databases::start(bench, false)?),
            Store::WithStandby => Some(Databases::start(bench, true)?),
        };
        let mut start = |servers: usize| match &mut databases {
            None => Ok(vec![bench.start(Contender::Ours)?]),
            Some(databases) => databases.servers(servers),
        };
        for publishers in [1, 16, PUBLISHERS] {
            publish(bench, store, &start(1)?, publishers, table)?;
        }
        if store == Store::WithStandby {
            for publishers in [SERVERS, 16 * SERVERS, PUBLISHERS] {
                publish(bench, store, &start(SERVERS)?, publishers, table)?;
            }
            for servers in [1, SERVERS] {
                fan_out(bench, &start(servers)?, table)?;
            }
        }
        catch_up(bench, store, &start(1)?, table)?;
    }
    Ok(())
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Database => "database",
            Self::WithStandby => "database with a standby",
        }
    }
}

impl<'a> Databases<'a> {
    fn start(bench: &'a Bench, standby: bool) -> anyhow::Result<Self> {
        // Not a temporary folder, which only its owner may enter: the database has a user of its own.
        let folder = bench.folder.join(format!("tidings-bench-cluster-{}", std::process::id()));
        let options = Options { standby, folder: Some(folder.clone()), ..Options::default() };
        let cluster = Cluster::start(&options).context("the database does not start")?;
        Ok(Self { bench, cluster, folder, created: 0 })
    }

    /// Starts servers on an empty database.
    fn servers(&mut self, number: usize) -> anyhow::Result<Vec<Running>> {
        self.created += 1;
        let name = format!("bench_{}", self.created);
        self.cluster.primary().query(&format!("CREATE DATABASE {name} OWNER tidings"))?;
        let url = self.cluster.url();
        let (server, rest) = url.rsplit_once("/tidings").context("a URL without a database")?;
        let url = format!("{server}/{name}{rest}");
        (0..number).map(|_| self.bench.start_on(&url)).collect()
    }
}

impl Drop for Databases<'_> {
    fn drop(&mut self) {
        for instance in [self.cluster.primary(), self.cluster.standby()] {
            let _ = instance.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn publish(
    bench: &Bench,
    store: Store,
    servers: &[Running],
    publishers: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    let during = Duration::from_secs(if bench.quick { 1 } else { 5 });
    let until = Until::Elapsed(during);
    let load = Load { publishers, streams: 1, length: text::LENGTH, until };
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let published = load.publish(&addresses)?;
    let (store, plural) = (store.name(), if servers.len() == 1 { "" } else { "s" });
    let what = format!("{store}, {} server{plural}, {publishers} publishers", servers.len());
    let mut add = |measure: &str, figure| {
        table.add(Contender::Ours, &format!("{what}: {measure}"), figure);
    };
    add("messages a second", published.rate);
    for percent in [50_u8, 99] {
        let latency = published.latency.value_at_percentile(percent.into());
        add(&format!("answer, p{percent}, ms"), as_f64(latency) / 1000.0);
    }
    Ok(())
}

/// Publishes to the first server, and watches at all of them.
fn fan_out(bench: &Bench, servers: &[Running], table: &mut Table) -> anyhow::Result<()> {
    let watchers = bench.size(WATCHERS);
    let gather = |server: &Running| Crowd::gather(server.address, watchers, None);
    let mut crowds: Vec<_> = servers.iter().map(gather).collect::<anyhow::Result<_>>()?;
    let used = || -> anyhow::Result<Duration> {
        servers.iter().map(|server| server.processor_time()).sum()
    };
    let before = used()?;
    let mut publisher = Publisher::connect(servers[0].address)?;
    thread::scope(|scope| {
        let watching: Vec<_> =
            crowds.iter_mut().map(|crowd| scope.spawn(|| crowd.watch(MESSAGES))).collect();
        publisher.publish_evenly(MESSAGES, RATE)?;
        for one in watching {
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(())
    })?;
    let used = used()?.saturating_sub(before);
    let received: u64 = crowds.iter().map(|crowd| crowd.tally.received).sum();
    let what = format!("{} x {watchers} watchers, {RATE}/s", servers.len());
    let mut add = |measure: &str, figure| {
        table.add(Contender::Ours, &format!("{what}: {measure}"), figure);
    };
    add("processor time a delivery, \u{b5}s", used.as_secs_f64() * 1e6 / as_f64(received));
    for percent in [50_u8, 99] {
        let delays =
            crowds.iter().map(|crowd| crowd.tally.latency.value_at_percentile(percent.into()));
        add(&format!("delay, p{percent}, ms"), as_f64(delays.max().unwrap_or_default()) / 1000.0);
    }
    for crowd in &crowds {
        losses(Contender::Ours, &crowd.tally, &what, table);
    }
    Ok(())
}

/// The time in which a late reader reads what was stored before it came.
fn catch_up(
    bench: &Bench,
    store: Store,
    servers: &[Running],
    table: &mut Table,
) -> anyhow::Result<()> {
    let messages = bench.size(STORED) as u64;
    Publisher::connect(servers[0].address)?.publish_lines(messages)?;
    let start = std::time::Instant::now();
    let mut crowd = Crowd::gather(servers[0].address, 1, None)?;
    crowd.watch(messages)?;
    let what = format!("{}, a late reader, {messages} messages", store.name());
    let took = start.elapsed().as_secs_f64();
    table.add(Contender::Ours, &format!("{what}: until it has the last, s"), took);
    losses(Contender::Ours, &crowd.tally, &what, table);
    Ok(())
}
