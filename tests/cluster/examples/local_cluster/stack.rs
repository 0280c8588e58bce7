//! Everything that runs: the servers of the database, the Tidings servers, the proxy.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tidings_cluster::{Cluster, Instance, Options};

use crate::{
    command::{Action, Command, HELP, Target},
    process::Process,
};

/// The ports of the proxy, the Tidings servers, and the servers of the database. Those of the first two are
/// in the configuration of the proxy too.
const PROXY_PORT: u16 = 3000;
const SERVER_PORTS: [u16; 3] = [3001, 3002, 3003];
const DATABASE_PORTS: [u16; 2] = [5433, 5434];

/// How long a server may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to say how it is.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Where the programs are, and the files of the cluster.
pub(crate) struct Paths {
    pub(crate) folder: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) proxy: PathBuf,
    pub(crate) proxy_configuration: PathBuf,
}

/// The whole cluster. Fields are dropped in their order.
pub(crate) struct Stack {
    proxy: Process,
    servers: [Process; 3],
    database: Cluster,
    folder: PathBuf,
}

impl Stack {
    /// Starts everything, and waits until it works. What was stored is kept for the next start.
    pub(crate) fn start(paths: &Paths) -> io::Result<Self> {
        // First of all: a cluster that runs must not lose its standby.
        for port in [PROXY_PORT].iter().chain(&SERVER_PORTS).chain(&DATABASE_PORTS) {
            check_free(*port)?;
        }
        fs::create_dir_all(&paths.folder)?;
        println!("PostgreSQL: a primary and a synchronous standby");
        let database = start_database(&paths.folder.join("postgres"))?;
        println!("Tidings: three servers");
        let url = database.url();
        let server = |index: usize| {
            let listen = format!("127.0.0.1:{}", SERVER_PORTS[index]);
            let arguments = ["--listen", &listen, "--data", &url, "--open"];
            let arguments = arguments.into_iter().chain(["--trusted-proxy", "127.0.0.1/32"]);
            let log = paths.folder.join(format!("tidings{}.log", index + 1));
            Process::new(&paths.server, arguments.map(str::to_owned).collect(), log)
        };
        let servers = [server(0)?, server(1)?, server(2)?];
        let configuration = paths.proxy_configuration.display().to_string();
        // In the foreground, with few connections: within the limit of open files of an ordinary user.
        let arguments = ["-db", "-n", "400", "-f", &configuration].map(str::to_owned);
        let log = paths.folder.join("haproxy.log");
        let proxy = Process::new(&paths.proxy, arguments.into(), log)?;
        let mut stack = Self { proxy, servers, database, folder: paths.folder.clone() };
        for server in &mut stack.servers {
            server.start()?;
        }
        for index in 0..stack.servers.len() {
            stack.wait_until_ready(index)?;
        }
        println!("HAProxy: before the three");
        stack.proxy.start()?;
        wait_until_ready(&mut stack.proxy, PROXY_PORT)?;
        Ok(stack)
    }

    pub(crate) fn introduction(&self) -> String {
        let folder = self.folder.display();
        let [primary, standby] = [self.database.primary(), self.database.standby()];
        let (primary, standby) = (primary.port, standby.port);
        let [first, second, third] = SERVER_PORTS;
        format!(
            "
Tidings is at http://127.0.0.1:{PROXY_PORT}: HAProxy, before the servers 1, 2 and 3 (ports {first}, {second} and {third}),
over one database (primary on port {primary}, standby on {standby}). Data and logs are in {folder}.

To see failover, open http://127.0.0.1:{PROXY_PORT}/streams/try, publish to it from another terminal,

    while sleep 0.5; do date | curl -sS --data @- http://127.0.0.1:{PROXY_PORT}/streams/try; echo; done

and type here `kill primary`, then `promote`, then `rebuild`; or `kill 2`, then `start 2`. All commands:
{HELP}
"
        )
    }

    /// Executes a command; returns what there is to say.
    pub(crate) fn execute(&mut self, command: Command) -> io::Result<String> {
        let begun = Instant::now();
        let remark = match command {
            Command::Help | Command::Quit => return Ok(HELP.to_owned()),
            Command::Status => return Ok(self.status()),
            Command::Do(action, Target::Tidings(index)) => {
                self.act(action, index)?;
                ""
            }
            Command::Do(action, Target::Primary) => {
                act_on_database(action, self.database.primary())?;
                ""
            }
            Command::Do(action, Target::Standby) => {
                act_on_database(action, self.database.standby())?;
                ""
            }
            Command::Promote => {
                self.database.promote()?;
                " The new primary has no standby: `rebuild` makes one."
            }
            Command::Rebuild => {
                self.database.rebuild_standby()?;
                " Commits wait for the new standby."
            }
        };
        Ok(format!("Done in {:.1} s.{remark}", begun.elapsed().as_secs_f64()))
    }

    fn act(&mut self, action: Action, index: usize) -> io::Result<()> {
        let server = &mut self.servers[index];
        match action {
            Action::Kill => server.kill(),
            Action::Stop => {
                server.terminate()?;
                server.wait()
            }
            Action::Start => {
                server.start()?;
                self.wait_until_ready(index)
            }
            Action::Freeze => server.signal(Signal::STOP),
            Action::Thaw => server.signal(Signal::CONT),
        }
    }

    fn wait_until_ready(&mut self, index: usize) -> io::Result<()> {
        wait_until_ready(&mut self.servers[index], SERVER_PORTS[index])
    }

    /// What runs, and what the servers say.
    fn status(&mut self) -> String {
        let mut text = String::new();
        let [primary, standby] = [self.database.primary(), self.database.standby()];
        for (role, instance) in [("primary", primary), ("standby", standby)] {
            let state = if instance.is_running() { "runs" } else { "does not run" };
            let _ = writeln!(text, "  {role}   port {}: {state}", instance.port);
        }
        for (index, server) in self.servers.iter_mut().enumerate() {
            let port = SERVER_PORTS[index];
            let state = if server.is_running() {
                health(port).unwrap_or_else(|error| format!("no answer: {error}"))
            } else {
                "does not run".to_owned()
            };
            let _ = writeln!(text, "  server {}  port {port}: {state}", index + 1);
        }
        let proxy = if self.proxy.is_running() { "runs" } else { "does not run" };
        let _ = write!(text, "  proxy     port {PROXY_PORT}: {proxy}");
        text
    }

    /// Reports processes that have ended by themselves, once.
    pub(crate) fn report_ended(&mut self) {
        for (index, server) in self.servers.iter_mut().enumerate() {
            if let Some(status) = server.take_exit() {
                let number = index + 1;
                let error = server.error(&format!("Server {number} has ended ({status})"));
                println!("{error}\n`start {number}` starts it again.");
            }
        }
        if let Some(status) = self.proxy.take_exit() {
            println!("{}", self.proxy.error(&format!("The proxy has ended ({status})")));
        }
    }

    /// Stops everything in good order.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        // First the proxy: without clients the servers need not wait for any.
        self.proxy.terminate()?;
        self.proxy.wait()?;
        for server in &mut self.servers {
            server.terminate()?;
        }
        for server in &mut self.servers {
            server.wait()?;
        }
        self.database.standby().kill()?;
        let primary = self.database.primary();
        // A frozen one would not stop.
        let _ = primary.thaw();
        primary.stop()
    }
}

/// Starts the database. Its data is in the folder, unless the user of `PostgreSQL` cannot reach that.
fn start_database(folder: &Path) -> io::Result<Cluster> {
    let options = Options {
        standby: true,
        folder: Some(folder.to_owned()),
        ports: Some(DATABASE_PORTS),
        ..Options::default()
    };
    Cluster::start(&options).or_else(|error| {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        println!("{error}: what is stored is lost when the cluster stops.");
        Cluster::start(&Options { folder: None, ..options })
    })
}

fn act_on_database(action: Action, instance: &Instance) -> io::Result<()> {
    match action {
        Action::Kill => instance.kill(),
        Action::Stop => instance.stop(),
        Action::Start => instance.start(),
        Action::Freeze => instance.freeze(),
        Action::Thaw => instance.thaw(),
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn check_free(port: u16) -> io::Result<()> {
    TcpListener::bind(address(port)).map(drop).map_err(|error| {
        io::Error::new(error.kind(), format!("port {port} of 127.0.0.1 must be free: {error}"))
    })
}

fn wait_until_ready(process: &mut Process, port: u16) -> io::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let said = health(port).unwrap_or_else(|error| error.to_string());
        if said == "ready" {
            return Ok(());
        }
        if let Some(status) = process.take_exit() {
            return Err(process.error(&format!("it has ended ({status})")));
        }
        if Instant::now() > deadline {
            return Err(process.error(&format!("it is not ready ({said})")));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// What a server says of itself: `ready`, or why it is not. HTTP/1.0, so that the answer ends with the
/// connection.
fn health(port: u16) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address(port), HEALTH_TIMEOUT)?;
    connection.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    write!(connection, "GET /health/ready HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok("ready".to_owned());
    }
    // The detail of a problem document.
    let detail = body.split_once("\"detail\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Ok(detail.map_or_else(|| head.lines().next().unwrap_or_default(), |(it, _)| it).to_owned())
}
