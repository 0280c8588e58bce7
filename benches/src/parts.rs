//! The benchmarks, one per file, and the code they share.

mod attack;
mod catch_up;
mod cluster;
mod fan_out;
mod idle;
mod memory;
mod publish;
mod stalled;
mod store;
mod transports;

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context as _;
use clap::ValueEnum;
use tempfile::TempDir;

use crate::{
    attacker,
    contender::Contender,
    crowd::{Crowd, Tally},
    nginx,
    process::Server,
    publisher::Publisher,
    table::Table,
};

/// Turns off the limits of Tidings, which a load from one address would exceed.
const NO_LIMITS: [&str; 6] = [
    "--publish-rate=0",
    "--max-watchers=100000",
    "--max-watchers-per-address=100000",
    "--max-connections=100000",
    "--max-connections-per-address=100000",
    "--max-requests-per-address=100000",
];

/// The benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Processor time and delay of a delivery
    FanOut,
    /// Processor time to connect a watcher, and its memory when it is idle
    Idle,
    /// Memory of a stalled reader, and what it misses afterwards
    Stalled,
    /// Publishes a second
    Publish,
    /// Time to read a stored stream
    CatchUp,
    /// Delay of a delivery during an attack on the server
    Attack,
    /// Bytes on disk for each byte of text
    Store,
    /// Memory of a server with stalled clients
    Memory,
    /// Watchers over TLS and HTTP/2: connecting, delivery, memory when idle and stalled
    Transports,
    /// Publishing, fan-out and reading on `PostgreSQL`, with one and three servers
    Cluster,
}

impl Part {
    /// Measures each contender once, one after the other, under similar conditions of the machine.
    pub(crate) fn measure(self, bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
        match self {
            Self::FanOut => fan_out::measure(bench, table),
            Self::Idle => idle::measure(bench, table),
            Self::Stalled => stalled::measure(bench, table),
            Self::Publish => publish::measure(bench, table),
            Self::CatchUp => catch_up::measure(bench, table),
            Self::Attack => attack::measure(bench, table),
            Self::Store => store::measure(bench, table),
            Self::Memory => memory::measure(bench, table),
            Self::Transports => transports::measure(bench, table),
            Self::Cluster => cluster::measure(bench, table),
        }
    }

    /// The number of connections it needs at once.
    pub(crate) fn connections(self, bench: &Bench) -> u64 {
        let watchers = match self {
            Self::FanOut => bench.size(fan_out::MAX_WATCHERS),
            Self::Idle => bench.size(idle::WATCHERS),
            Self::Stalled => bench.size(stalled::READERS),
            Self::Publish => publish::MAX_PUBLISHERS,
            Self::CatchUp => 1,
            Self::Store => store::PUBLISHERS,
            Self::Attack => bench.size(attack::WATCHERS) + attacker::MAX_CONNECTIONS,
            Self::Memory => bench.size(memory::MAX_CONNECTIONS),
            Self::Transports => bench.size(transports::IDLE),
            Self::Cluster => cluster::SERVERS * bench.size(cluster::WATCHERS),
        };
        watchers as u64
    }
}

/// The executables, the folder and the size of the benchmarks.
pub(crate) struct Bench {
    /// The contenders, and their executables.
    pub(crate) executables: Vec<(Contender, PathBuf)>,
    /// The folder for the data files.
    pub(crate) folder: PathBuf,
    /// Whether to check only that the benchmarks work.
    pub(crate) quick: bool,
    /// The number of the run, from 0.
    pub(crate) run: usize,
}

impl Bench {
    /// Those of `some` that are measured. Each run begins with another one.
    fn contenders(&self, some: &[Contender]) -> Vec<Contender> {
        let measured = self.executables.iter().map(|(contender, _)| *contender);
        let mut contenders: Vec<_> = measured.filter(|one| some.contains(one)).collect();
        let first = self.run % contenders.len().max(1);
        contenders.rotate_left(first);
        contenders
    }

    /// A size, or a tenth of it with `--quick`.
    fn size(&self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }

    /// The same for a number of messages.
    fn size_of(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }

    /// Starts a server with nothing stored, and without limits.
    fn start(&self, contender: Contender) -> anyhow::Result<Running> {
        self.start_with(contender, &NO_LIMITS)
    }

    /// Starts a server with nothing stored.
    fn start_with(&self, contender: Contender, limits: &[&str]) -> anyhow::Result<Running> {
        self.start_in(contender, limits, &[])
    }

    /// The same, with these environment variables.
    fn start_in(
        &self,
        contender: Contender,
        limits: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Running> {
        let data = self.data_folder()?;
        Ok(Running { server: self.server(contender, data.path(), limits, environment)?, data })
    }

    /// Starts our server on a database, without limits.
    fn start_on(&self, url: &str) -> anyhow::Result<Running> {
        let data = self.data_folder()?;
        let limits = [&NO_LIMITS[..], &["--data", url]].concat();
        Ok(Running { server: self.server(Contender::Ours, data.path(), &limits, &[])?, data })
    }

    /// A folder with a site of only a style sheet, without which a server does not start.
    fn data_folder(&self) -> anyhow::Result<TempDir> {
        let data = tempfile::Builder::new()
            .prefix("tidings-bench-")
            .tempdir_in(&self.folder)
            .with_context(|| format!("no data can be stored in {}", self.folder.display()))?;
        let package = data.path().join("site/pkg");
        fs::create_dir_all(&package)?;
        fs::write(package.join("tidings.css"), "")?;
        Ok(data)
    }

    fn server(
        &self,
        contender: Contender,
        data: &Path,
        limits: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        let executables = &mut self.executables.iter();
        let (_, executable) = executables
            .find(|(measured, _)| *measured == contender)
            .with_context(|| format!("{contender} is not measured"))?;
        if contender == Contender::Nchan {
            return nginx::start(executable, data);
        }
        // An unpacked release has its own site, with other file names.
        let own_site = executable.with_file_name("site");
        let site = if own_site.is_dir() { own_site } else { data.join("site") };
        let file = data.join("data.db");
        let file = file.to_str().context("the path of the data is not valid UTF-8")?;
        let site = site.to_str().context("the path of the data is not valid UTF-8")?;
        let arguments = ["--listen=127.0.0.1:0", "--log=warn", "--site-root", site, "--data", file];
        // No message may be trimmed.
        let keep = ["--keep-messages=1000000", "--keep-bytes=1GiB"];
        // A repeated flag overrides the earlier one.
        Server::start(executable, &[&arguments[..], &keep, limits].concat(), environment)
    }
}

/// A server, and its data folder, which is removed with it.
struct Running {
    // Declared first, so that the server stops before its data is removed.
    server: Server,
    data: TempDir,
}

impl Running {
    /// Stops the server gracefully; returns its data folder.
    fn stop(self) -> anyhow::Result<TempDir> {
        let Self { server, data } = self;
        server.stop()?;
        Ok(data)
    }

    /// Kills the server and starts it again on the same data.
    fn restart(self, bench: &Bench, contender: Contender) -> anyhow::Result<Self> {
        let Self { server, data } = self;
        drop(server);
        Ok(Self { server: bench.server(contender, data.path(), &NO_LIMITS, &[])?, data })
    }
}

impl Deref for Running {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Publishes, and watches until every watcher has all messages.
fn publish_and_watch(
    server: &Server,
    crowd: &mut Crowd,
    messages: u64,
    publish: impl FnOnce(&mut Publisher) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut publisher = Publisher::connect(server.address)?;
    both(|| crowd.watch(messages), || publish(&mut publisher))
}

/// Watches on a thread of its own, and publishes on this one.
fn both(
    watch: impl FnOnce() -> anyhow::Result<()> + Send,
    publish: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let watching = scope.spawn(watch);
        publish()?;
        watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Reports lost and disordered messages. For Tidings that is a failure; the others may miss some.
fn losses(contender: Contender, tally: &Tally, what: &str, table: &mut Table) {
    let &Tally { received, missed, disordered, .. } = tally;
    if disordered > 0 || (contender.is_tidings() && missed > 0) {
        table.fail(format!(
            "{contender}: {missed} messages were missed and {disordered} arrived twice or late: {what}"
        ));
    }
    let part = as_f64(missed) / as_f64(received + missed);
    table.add(contender, &format!("{what}: missed, %"), 100.0 * part);
}

/// For printed figures: the loss of precision beyond 2^53 does not matter.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
