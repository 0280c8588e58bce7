//! Several servers on one database, each behind a network of its own that can fail.

use std::sync::{Arc, LazyLock, Mutex};

use tempfile::TempDir;
use tidings_cluster::{Cluster, Cutter, Options, connection_url};

use super::{
    built_site,
    process::{Server, exit_status},
};

/// Servers on a database with a synchronous standby, which can be killed and started again.
pub(crate) struct Deployment {
    pub(crate) cluster: Cluster,
    pub(crate) servers: Vec<Option<Server>>,
    /// The network between each server and the database.
    pub(crate) networks: Vec<Cutter>,
    flags: &'static [&'static str],
    site: TempDir,
}

/// Nothing is removed during a test.
const KEEP_ALL: [&str; 8] = [
    "--keep-messages",
    "10000000",
    "--keep-bytes",
    "10GiB",
    "--keep-keys",
    "10000000",
    "--keep-keys-total",
    "10000000",
];

/// A database of its own in a cluster that the tests share. None, with a message, where `PostgreSQL` is
/// not installed.
pub(crate) fn empty_database(name: &str) -> Option<(&'static Cluster, String)> {
    static CLUSTER: LazyLock<Option<Cluster>> =
        LazyLock::new(|| Cluster::start_for_tests(&Options { fsync: false, ..Options::default() }));
    let cluster = CLUSTER.as_ref()?;
    let create = format!("CREATE DATABASE {name} OWNER tidings");
    cluster.primary().query(&create).expect("a database");
    let url = cluster.url();
    let (server, _) = url.rsplit_once("/tidings").expect("a database");
    Some((cluster, format!("{server}/{name}")))
}

impl Deployment {
    /// Starts servers that demand the standby. None, with a message, where `PostgreSQL` is not
    /// installed.
    pub(crate) fn start(servers: usize) -> Option<Self> {
        Self::start_with(servers, &["--require-synchronous-standby"])
    }

    pub(crate) fn start_with(servers: usize, flags: &'static [&'static str]) -> Option<Self> {
        let options = Options { standby: true, ..Options::default() };
        let cluster = Cluster::start_for_tests(&options)?;
        let cutter = |_| Cutter::start(cluster.addresses()).expect("free ports");
        let networks = (0..servers).map(cutter).collect();
        let mut deployment =
            Self { cluster, servers: Vec::new(), networks, flags, site: built_site() };
        for index in 0..servers {
            let server = deployment.start_server(index);
            deployment.servers.push(Some(server));
        }
        Some(deployment)
    }

    fn start_server(&self, index: usize) -> Server {
        let url = connection_url("tidings", self.networks[index].addresses());
        let arguments = [&["--data", &url], self.flags, &KEEP_ALL].concat();
        Server::start(self.site.path(), &arguments)
    }

    /// The URLs of the servers that run.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().flatten().map(Server::url).collect()
    }

    pub(crate) fn kill_server(&mut self, index: usize) {
        if let Some(server) = self.servers[index].take() {
            server.kill();
        }
    }

    /// Waits until a server has ended, after a signal.
    pub(crate) fn wait_for_end(&mut self, index: usize) {
        if let Some(mut server) = self.servers[index].take() {
            assert_eq!(exit_status(&mut server.process), Some(0));
        }
    }

    pub(crate) fn restart_server(&mut self, index: usize) {
        self.servers[index] = Some(self.start_server(index));
    }

    /// Sends a signal to a server.
    pub(crate) fn signal(&self, index: usize, name: &str) {
        if let Some(server) = &self.servers[index] {
            server.signal(name);
        }
    }
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// The deployment, for calls that block.
pub(crate) type Shared = Arc<Mutex<Deployment>>;
