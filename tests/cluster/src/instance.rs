//! One `PostgreSQL` server of a cluster.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    postmaster::Postmaster,
    programs::{Programs, run},
    wait_until,
};

/// The database that the cluster is for.
pub(crate) const DATABASE: &str = "tidings";

/// How much of a server's log an error shows, in lines.
const LOG_TAIL: usize = 20;

/// The clients that a server accepts: the role `secret` with its password, any other role without one.
const HBA: &str = "\
host all secret 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
";

/// One `PostgreSQL` server, running or not. It is killed on drop.
#[derive(Debug)]
pub struct Instance {
    /// The TCP port on 127.0.0.1; the same for as long as the cluster exists.
    pub port: u16,
    data: PathBuf,
    log: PathBuf,
    programs: Programs,
    /// Settings as `name=value`.
    settings: Vec<String>,
    /// Whether the folder of the cluster goes when this process ends.
    is_temporary: bool,
    postmaster: Mutex<Option<Postmaster>>,
}

impl Instance {
    /// A server that does not run yet, with its data in `{name}` and its log in `{name}.log`.
    pub(crate) fn new(
        programs: &Programs,
        name: &str,
        port: u16,
        settings: &[String],
        is_temporary: bool,
    ) -> Self {
        Self {
            port,
            data: programs.folder.join(name),
            log: programs.folder.join(format!("{name}.log")),
            programs: programs.clone(),
            settings: settings.to_vec(),
            is_temporary,
            postmaster: Mutex::new(None),
        }
    }

    /// Starts the server and waits, for at most 60 s, until it accepts clients; after a kill this includes
    /// crash recovery. Does nothing if the server runs.
    ///
    /// # Errors
    ///
    /// If the server ends, or takes longer; the error shows the end of its log.
    pub fn start(&self) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        command.stdout(log.try_clone()?).stderr(log);
        let temporary = self.is_temporary.then_some(self.programs.folder.as_path());
        *self.postmaster() = Some(Postmaster::spawn(command, temporary)?);
        let started = wait_until("the start", || {
            if self.is_running() { Ok(self.is_ready()) } else { Err(not_running()) }
        });
        started.map_err(|error| {
            self.postmaster().take();
            self.with_log(&error)
        })
    }

    /// Kills all processes of the server at once (SIGKILL) and waits until they are gone. Does nothing if
    /// the server does not run.
    ///
    /// # Errors
    ///
    /// If a process is still there after 60 s.
    pub fn kill(&self) -> io::Result<()> {
        let postmaster = self.postmaster().take();
        postmaster.map_or(Ok(()), |mut postmaster| postmaster.kill())
    }

    /// Shuts the server down (`PostgreSQL`'s "fast" mode: clients are disconnected, their transactions
    /// rolled back). Does nothing if the server does not run.
    ///
    /// # Errors
    ///
    /// If that takes longer than 60 s, as for a frozen server; the server then runs on.
    pub fn stop(&self) -> io::Result<()> {
        let mut postmaster = self.postmaster();
        if let Some(running) = postmaster.as_mut() {
            running.shut_down().map_err(|error| self.with_log(&error))?;
        }
        *postmaster = None;
        Ok(())
    }

    /// Stops the scheduling of all processes of the server (SIGSTOP): its connections stay open, and new
    /// ones are accepted by the operating system, but nothing is answered.
    ///
    /// # Errors
    ///
    /// If the server does not run.
    pub fn freeze(&self) -> io::Result<()> {
        self.postmaster().as_ref().ok_or_else(not_running)?.freeze()
    }

    /// Undoes [`Self::freeze`].
    ///
    /// # Errors
    ///
    /// If the server does not run.
    pub fn thaw(&self) -> io::Result<()> {
        self.postmaster().as_ref().ok_or_else(not_running)?.thaw()
    }

    /// Whether the server runs, frozen or not.
    pub fn is_running(&self) -> bool {
        let mut postmaster = self.postmaster();
        if !postmaster.as_mut().is_some_and(|running| matches!(running.has_exited(), Ok(false))) {
            *postmaster = None;
        }
        postmaster.is_some()
    }

    /// Runs SQL as superuser in the database `tidings`. Returns the rows, one a line, with `|` between the
    /// columns. Several statements are one transaction.
    ///
    /// # Errors
    ///
    /// `PostgreSQL`'s message, if a statement fails; if the server does not accept the connection within
    /// 10 s. A statement itself may take any time.
    pub fn query(&self, sql: &str) -> io::Result<String> {
        self.query_in(DATABASE, sql)
    }

    fn query_in(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut command = self.programs.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d"]);
        command.arg(format!("{} dbname={database} connect_timeout=10", self.connection()));
        run(&mut command)
    }

    /// How the programs of `PostgreSQL` connect as superuser.
    fn connection(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres", self.port)
    }

    /// Makes a new database cluster, starts the server, and creates roles and database.
    pub(crate) fn init(&self) -> io::Result<()> {
        let mut initdb = self.programs.command("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        run(initdb.args(["--no-sync", "--no-instructions", "-D"]).arg(&self.data))?;
        fs::write(self.data.join("pg_hba.conf"), HBA)?;
        self.start()?;
        let roles = "CREATE ROLE tidings LOGIN PASSWORD 'tidings'; \
            CREATE ROLE secret LOGIN PASSWORD 'secret' IN ROLE tidings";
        self.query_in("postgres", roles)?;
        self.query_in("postgres", &format!("CREATE DATABASE {DATABASE} OWNER tidings"))?;
        Ok(())
    }

    /// Replaces the server's data by a copy of the primary's, and starts it as a standby with the
    /// application name `standby`.
    pub(crate) fn copy_from(&self, primary: &Self) -> io::Result<()> {
        self.kill()?;
        if self.data.exists() {
            fs::remove_dir_all(&self.data)?;
        }
        let mut backup = self.programs.command("pg_basebackup");
        backup.args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-d"]);
        run(backup.arg(primary.connection()).arg("-D").arg(&self.data))?;
        // The last value of a setting counts. pg_basebackup itself must not have the application name of
        // the standby: the primary would take it for one. Once promoted, the standby commits alone.
        let settings = self.data.join("postgresql.auto.conf");
        let text = fs::read_to_string(&settings)?;
        let connection = primary.connection();
        let text = format!(
            "{text}primary_conninfo = '{connection} application_name=standby'\n\
             synchronous_standby_names = ''\n"
        );
        fs::write(settings, text)?;
        self.start()
    }

    /// Says whether commits wait until the standby has them too.
    pub(crate) fn set_synchronous(&self, synchronous: bool) -> io::Result<()> {
        let names = if synchronous { "standby" } else { "" };
        self.query(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
        self.query("SELECT pg_reload_conf()")?;
        Ok(())
    }

    /// Whether the server has written that it is ready, into the eighth line of its PID file.
    fn is_ready(&self) -> bool {
        let id = self.postmaster().as_ref().map(Postmaster::id);
        // The file may be that of a server that was killed.
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines().map(str::trim_end);
        lines.next().and_then(|line| line.parse().ok()) == id && lines.nth(6) == Some("ready")
    }

    /// An error that also shows the end of the server's log.
    pub(crate) fn with_log(&self, error: &io::Error) -> io::Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        let message =
            format!("PostgreSQL on port {}: {error}; its log ends with:\n{tail}", self.port);
        io::Error::new(error.kind(), message)
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Postmaster>> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_running() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server does not run")
}
