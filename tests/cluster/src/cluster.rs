//! A primary, perhaps with a synchronous standby, and failover between the two.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf, absolute},
    sync::{
        LazyLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use crate::{
    instance::{DATABASE, Instance},
    programs::{Account, Programs, tempdir},
    wait_until,
};

/// The file with the index of the primary, written once the cluster has its roles and database.
const PRIMARY: &str = "primary";

/// The settings of every server.
const SETTINGS: [&str; 4] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    // What a standby missed while it was down.
    "wal_keep_size=512MB",
    // A standby soon notices that the primary is back.
    "wal_retrieve_retry_interval=200ms",
];

/// The standby of `pg_stat_replication` that has caught up.
const STREAMS: &str = "application_name = 'standby' AND state = 'streaming'";

/// The standby that commits wait for.
const IS_SYNCHRONOUS: &str = "application_name = 'standby' AND sync_state = 'sync'";

/// Where free ports are looked for: below the ports that Linux gives to outgoing connections, one of
/// which could take the port of a server while that is down.
const PORTS: Range<u16> = 10_000..32_768;

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// With a synchronous standby: the primary confirms a commit when the standby has it on disk too.
    pub standby: bool,
    /// Whether servers wait until a commit is on disk. Without it tests are faster, and commits still
    /// survive a kill, though not the loss of power.
    pub fsync: bool,
    /// A folder to keep the data in. If it has a cluster already, that is started. `None`: a temporary
    /// folder.
    pub folder: Option<PathBuf>,
    /// The ports of the first and second server on 127.0.0.1. `None`: free ports.
    pub ports: Option<[u16; 2]>,
    /// With TLS, which clients may use but need not.
    pub tls: Option<Tls>,
}

impl Default for Options {
    /// A primary alone, durable, in a temporary folder, without TLS.
    fn default() -> Self {
        Self { standby: false, fsync: true, folder: None, ports: None, tls: None }
    }
}

/// The TLS certificate of a cluster, as PEM files; both are copied.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, with intermediate ones behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A primary, perhaps with a standby.
///
/// It has a database `tidings` that belongs to the role `tidings`, which needs no password (but has one,
/// `tidings`), and a role `secret` with the same rights that must log in with its password, `secret`
/// (SCRAM-SHA-256).
///
/// The servers are killed when the cluster is dropped, and also when this process ends in any other way,
/// so that a cluster may be a `static`. A temporary folder is then removed.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped before their folder.
    instances: [Instance; 2],
    /// An index of `instances`.
    primary: AtomicUsize,
    has_standby: bool,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// The same as [`start`](Self::start), for tests: none where `PostgreSQL` is not installed, which
    /// is said on standard error, whoever captures the output of the tests.
    ///
    /// # Panics
    ///
    /// When it is installed and does not start.
    pub fn start_for_tests(options: &Options) -> Option<Self> {
        match Self::start(options) {
            Ok(cluster) => Some(cluster),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The printing macros would be captured.
                let _ = writeln!(io::stderr(), "NOT TESTED: PostgreSQL, several servers ({error})");
                None
            }
            Err(error) => panic!("PostgreSQL does not start: {error}"),
        }
    }

    /// Starts the servers and waits until they accept clients and the standby is synchronous.
    ///
    /// Where the folder has a cluster already, its primary is started as it is; its standby is rebuilt.
    ///
    /// # Errors
    ///
    /// `NotFound` where `PostgreSQL` is not installed (see [`binaries`](crate::binaries)); if a server
    /// does not start within 60 s, with the end of its log.
    pub fn start(options: &Options) -> io::Result<Self> {
        let account = Account::unprivileged()?;
        let (folder, temporary) = if let Some(folder) = &options.folder {
            (absolute(folder)?, None)
        } else {
            let folder = tempdir(account)?;
            (folder.path().to_owned(), Some(folder))
        };
        fs::create_dir_all(&folder)?;
        let programs = Programs::find(&folder, account)?;
        let mut settings = SETTINGS.map(str::to_owned).to_vec();
        settings.push(format!("fsync={}", options.fsync));
        if let Some(tls) = &options.tls {
            settings.extend(tls.install(&folder, &programs)?);
        }
        let [port1, port2] = match options.ports {
            Some(ports) => ports,
            None => [free_port()?, free_port()?],
        };
        let instance =
            |name: &str, port| Instance::new(&programs, name, port, &settings, temporary.is_some());
        let cluster = Self {
            instances: [instance("server1", port1), instance("server2", port2)],
            primary: AtomicUsize::new(0),
            has_standby: options.standby,
            folder,
            _temporary: temporary,
        };
        cluster.start_servers()?;
        Ok(cluster)
    }

    fn start_servers(&self) -> io::Result<()> {
        match fs::read_to_string(self.folder.join(PRIMARY)) {
            Ok(index) => {
                let index = usize::from(index.trim() == "1");
                self.primary.store(index, Ordering::Relaxed);
                self.primary().start()?;
                self.primary().set_synchronous(false)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.primary().init()?;
                self.set_primary(0)?;
            }
            Err(error) => return Err(error),
        }
        if self.has_standby { self.rebuild_standby() } else { Ok(()) }
    }

    /// The connection URL of the role `tidings` (see [`connection_url`]), with both servers where there is
    /// a standby. It stays the same after a failover.
    pub fn url(&self) -> String {
        connection_url("tidings", &self.addresses())
    }

    /// The addresses of the servers, in an order that stays the same: one, or two where there is a
    /// standby. For a [`Cutter`](crate::Cutter) before them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let ports = self.instances.iter().map(|server| server.port);
        let ports = ports.filter(|port| self.has_standby || *port == self.primary().port);
        ports.map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect()
    }

    /// The server that was started, or promoted, as the primary; it may have been killed since.
    pub fn primary(&self) -> &Instance {
        &self.instances[self.primary.load(Ordering::Relaxed)]
    }

    /// The other server: the standby, or the former primary after a failover. It does not run in a cluster
    /// without a standby.
    pub fn standby(&self) -> &Instance {
        &self.instances[1 - self.primary.load(Ordering::Relaxed)]
    }

    /// Failover: makes the standby the primary, which confirms commits alone until there is a new standby
    /// ([`Self::rebuild_standby`]). The former primary is left as it is, killed, frozen or running.
    ///
    /// # Errors
    ///
    /// If the standby does not run, or is not promoted within 60 s.
    pub fn promote(&self) -> io::Result<()> {
        let standby = self.standby();
        if standby.query("SELECT pg_promote(true, 60)")? != "t" {
            return Err(standby.with_log(&io::Error::other("the standby is not promoted")));
        }
        self.set_primary(1 - self.primary.load(Ordering::Relaxed))
    }

    /// Makes a new synchronous standby in place of the other server, which is killed and loses its data.
    /// Until it streams, commits are confirmed as before: by the primary alone after a failover, not at
    /// all if a standby was lost.
    ///
    /// # Errors
    ///
    /// If the primary does not run; if the standby is not synchronous after 60 s.
    pub fn rebuild_standby(&self) -> io::Result<()> {
        let (primary, standby) = (self.primary(), self.standby());
        standby.copy_from(primary)?;
        let replicated = |condition: &str| {
            let sql = format!("SELECT count(*) FROM pg_stat_replication WHERE {condition}");
            primary.query(&sql).map(|count| count == "1")
        };
        wait_until("replication", || replicated(STREAMS))
            .and_then(|()| primary.set_synchronous(true))
            .and_then(|()| wait_until("synchronous replication", || replicated(IS_SYNCHRONOUS)))
            .map_err(|error| standby.with_log(&error))
    }

    fn set_primary(&self, index: usize) -> io::Result<()> {
        self.primary.store(index, Ordering::Relaxed);
        fs::write(self.folder.join(PRIMARY), format!("{index}\n"))
    }
}

impl Tls {
    /// Copies the files to where the servers can read them. Returns the settings.
    fn install(&self, folder: &Path, programs: &Programs) -> io::Result<[String; 3]> {
        let install = |from: &Path, name: &str| {
            let path = folder.join(name);
            fs::copy(from, &path)?;
            // PostgreSQL refuses a key that others can read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            programs.chown(&path)?;
            io::Result::Ok(path)
        };
        let certificate = install(&self.certificate, "server.crt")?;
        let key = install(&self.key, "server.key")?;
        Ok([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ])
    }
}

/// A connection URL for the database `tidings` on one or more servers; of several, the client must find
/// the one that accepts writes. The user may have a password behind a colon, as in `secret:secret`.
pub fn connection_url(user: &str, addresses: &[SocketAddr]) -> String {
    let hosts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let parameters = if hosts.len() > 1 { "?target_session_attrs=read-write" } else { "" };
    format!("postgres://{user}@{}/{DATABASE}{parameters}", hosts.join(","))
}

/// A port of 127.0.0.1 that is free, and that no other cluster of this process was given lately.
fn free_port() -> io::Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let [low, high, ..] = RandomState::new().hash_one(()).to_le_bytes();
        AtomicU16::new(u16::from_le_bytes([low, high]))
    });
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let port = PORTS.start + offset;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
