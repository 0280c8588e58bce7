//! A server as a process of its own: started, asked what it uses, and killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// A running server. It is killed when this value goes.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it was told to have some.
    pub(crate) metrics: Option<SocketAddr>,
}

impl Server {
    /// Starts `executable`, whose first line on standard output must end with its address; with
    /// `--metrics-listen` the second one with theirs.
    pub(crate) fn start(
        executable: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(executable)
            .args(arguments)
            // What the developer has set for a server of theirs is not meant for this one.
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} can not be run", executable.display()))?;
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
        bail!("{} did not say where it listens", executable.display())
    }

    /// Lets it stop in order, and waits for that.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let process = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &process]).status();
        ensure!(told.context("kill cannot be run")?.success(), "the server cannot be stopped");
        self.child.wait().context("the server does not stop")?;
        Ok(())
    }

    /// The processor time it has used so far, in its own code and in the kernel's for it.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        // The name, in brackets, may hold anything; the fields after it are numbers. See proc(5).
        let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().context("a stat without times"))
            .sum::<anyhow::Result<_>>()?;
        // A tick is 10 ms on every Linux that we know.
        Ok(Duration::from_millis(10 * ticks))
    }

    /// The memory it has in use now, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        // `status` has that too, but a little stale.
        let memory = self.proc("smaps_rollup")?;
        let kibibytes = memory
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("a smaps_rollup without Rss")?;
        Ok(1024 * kibibytes.trim().parse::<u64>()?)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{path} can not be read"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
