//! A process that belongs to the cluster: a Tidings server, or the proxy.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stop. A Tidings server takes ten seconds at most.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// How long to wait between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much of its log an error shows, in lines.
const LOG_TAIL: usize = 5;

/// A program, and the process that runs it, if one does. It is killed on drop.
pub(crate) struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that does not run yet; its log is emptied.
    pub(crate) fn new(program: &Path, arguments: Vec<String>, log: PathBuf) -> io::Result<Self> {
        File::create(&log)?;
        Ok(Self { program: program.to_owned(), arguments, log, child: None })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub(crate) fn start(&mut self) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = File::options().append(true).open(&self.log)?;
        let mut command = killed_with_this_thread(&self.program);
        // The terminal's Ctrl+C is for the cluster, which stops it.
        command.args(&self.arguments).process_group(0).stdin(Stdio::null());
        // Options of the caller's shell.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TIDINGS_") {
                command.env_remove(name);
            }
        }
        self.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Kills the process (SIGKILL).
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Begins a graceful shutdown (SIGTERM), also of a frozen process.
    pub(crate) fn terminate(&mut self) -> io::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)
    }

    /// Waits until the process has ended; kills it if that takes too long.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.is_running() && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        self.kill()
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let not_running = || io::Error::new(io::ErrorKind::NotConnected, "it does not run");
        let child = self.child.as_ref().ok_or_else(not_running)?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// How the process has ended, if it did so by itself; once.
    pub(crate) fn take_exit(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// An error with the end of the log.
    pub(crate) fn error(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        io::Error::other(format!("{what}; {} ends with:\n{tail}", self.log.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill {}: {error}", self.program.display());
        }
    }
}

/// A command that the kernel kills when this thread ends, and so when this process is killed. It is the
/// main thread that starts processes. Without setpriv, which util-linux has, the command runs as it is.
fn killed_with_this_thread(program: &Path) -> Command {
    let setpriv = "setpriv";
    if !Command::new(setpriv).arg("--version").output().is_ok_and(|it| it.status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
