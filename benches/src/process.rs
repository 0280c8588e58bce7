//! A server as a child process: starts it, reads its use of resources, and stops it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

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

    /// Stops the server gracefully, and waits for it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let process = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &process]).status();
        ensure!(told.context("kill cannot be run")?.success(), "the server cannot be stopped");
        self.child.wait().context("the server does not stop")?;
        Ok(())
    }

    /// The processor time it has used so far, user and system.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        // The name, in brackets, may have any characters; the fields after it are numbers. See
        // proc(5).
        let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().context("stat has no times"))
            .sum::<anyhow::Result<_>>()?;
        // A tick is 10 ms on all common Linux systems.
        Ok(Duration::from_millis(10 * ticks))
    }

    /// The memory it has in use now, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        // `status` has the same value, but slightly out of date.
        let memory = self.proc("smaps_rollup")?;
        let kibibytes = memory
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("smaps_rollup has no Rss")?;
        Ok(1024 * kibibytes.trim().parse::<u64>()?)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
