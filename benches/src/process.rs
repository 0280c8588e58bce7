//! A server as a child process: starts it, reads its use of resources, and stops it.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::processes;

/// How long a server that prints nothing may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. It is killed when this value is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The address of its metrics, with `--metrics-listen`.
    pub(crate) metrics: Option<SocketAddr>,
}

impl Server {
    /// Starts `executable`, whose first line on standard output must end with its address; with
    /// `--metrics-listen` the second line ends with the address of the metrics.
    pub(crate) fn start(
        executable: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(executable)
            .args(arguments)
            // Variables that the developer has set must not configure this server.
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", executable.display()))?;
        let mut line = String::new();
        let output = child.stdout.take().context("the server has no standard output")?;
        let mut output = BufReader::new(output);
        let mut next_address = || {
            line.clear();
            output.read_line(&mut line).ok()?;
            let (_, address) = line.trim().trim_end_matches("/metrics").rsplit_once("://")?;
            address.parse().ok()
        };
        if let Some(address) = next_address() {
            let has_metrics = arguments.iter().any(|flag| flag.starts_with("--metrics-listen"));
            let metrics = has_metrics.then(next_address).flatten();
            return Ok(Self { child, address, metrics });
        }
        let _ = child.kill();
        let _ = child.wait();
        bail!("{} did not print its address", executable.display())
    }

    /// Starts a server that prints nothing, and waits until it accepts connections at this address.
    pub(crate) fn start_at(mut command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        let child = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
        let server = Self { child, address, metrics: None };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(start.elapsed() < START_TIMEOUT, "nothing listens at {address}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Stops the server gracefully, and waits for it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.terminate()?;
        self.child.wait().context("the server does not stop")?;
        Ok(())
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let process = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &process]).status();
        ensure!(told.context("kill cannot be run")?.success(), "the server cannot be stopped");
        Ok(())
    }

    /// The processor time it has used so far, user and system.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        processes::processor_time(self.child.id())
    }

    /// The memory it has in use now, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        processes::resident_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its children would live on: nginx ends its workers itself.
        let has_children = processes::family(self.child.id()).is_ok_and(|all| all.len() > 1);
        if !has_children || self.terminate().is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
