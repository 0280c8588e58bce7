//! The process tree of a running `PostgreSQL` server: signals to all of it, and a watchdog that ends it with
//! this process.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::wait_until;

/// Waits until this process has ended, however it did: the pipe to the watchdog's stdin closes then. A
/// signal at the parent's death (`PR_SET_PDEATHSIG`) would not do: it comes when the *thread* ends that
/// started the server.
const WATCHDOG: &str = r#"
read -r pid || exit
read -r _
kill -KILL "$pid" $(cat "/proc/$pid/task/$pid/children")
[ -z "$1" ] || rm -rf "$1"
"#;

/// The parent process of a server; the whole server is killed on drop.
#[derive(Debug)]
pub(crate) struct Postmaster {
    process: Child,
    watchdog: Child,
}

impl Postmaster {
    /// Starts a server. If this process ends without dropping it, the watchdog kills the server and
    /// removes the folder `temporary`.
    pub(crate) fn spawn(mut server: Command, temporary: Option<&Path>) -> io::Result<Self> {
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).args(temporary).current_dir("/");
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // In process groups of their own: Ctrl+C in a terminal is for this process alone.
        let mut watchdog = watchdog.process_group(0).spawn()?;
        let process = match server.process_group(0).spawn() {
            Ok(process) => process,
            Err(error) => {
                end(&mut watchdog);
                return Err(error);
            }
        };
        let mut postmaster = Self { process, watchdog };
        if let Some(stdin) = &mut postmaster.watchdog.stdin {
            writeln!(stdin, "{}", postmaster.process.id())?;
        }
        Ok(postmaster)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn has_exited(&mut self) -> io::Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// Stops the scheduling of all processes (SIGSTOP) and waits until it has taken effect.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        // First the postmaster, so that it starts no more processes.
        let postmaster = Pid::from_child(&self.process);
        stop(postmaster)?;
        descendants(postmaster).into_iter().try_for_each(stop)
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let postmaster = Pid::from_child(&self.process);
        descendants(postmaster).into_iter().try_for_each(|pid| send(pid, Signal::CONT))?;
        send(postmaster, Signal::CONT)
    }

    /// Kills all processes (SIGKILL) and waits until they are gone, and with them the shared memory that
    /// would keep the server from starting again.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.has_exited()? {
            return Ok(());
        }
        let postmaster = Pid::from_child(&self.process);
        stop(postmaster)?;
        let children = descendants(postmaster);
        for pid in children.iter().copied().chain([postmaster]) {
            send(pid, Signal::KILL)?;
        }
        self.process.wait()?;
        wait_until("the end of the killed processes", || {
            Ok(children.iter().all(|pid| matches!(state(*pid), None | Some('Z' | 'X'))))
        })
    }

    /// A fast shutdown: open transactions are rolled back, then the server ends by itself.
    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        if self.has_exited()? {
            return Ok(());
        }
        send(Pid::from_child(&self.process), Signal::INT)?;
        wait_until("the shutdown", || self.has_exited())
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill a PostgreSQL server: {error}");
        }
        end(&mut self.watchdog);
    }
}

/// Ends a watchdog before it does anything.
fn end(watchdog: &mut Child) {
    if let Err(error) = watchdog.kill().and_then(|()| watchdog.wait()) {
        eprintln!("cannot end a watchdog: {error}");
    }
}

/// Sends a signal to a process, if it is still there.
fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stops the scheduling of a process.
fn stop(pid: Pid) -> io::Result<()> {
    send(pid, Signal::STOP)?;
    wait_until("SIGSTOP", || Ok(matches!(state(pid), None | Some('T' | 'Z' | 'X'))))
}

/// The children of a process, and theirs.
fn descendants(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    // Empty for a process that has ended.
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children =
        children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?));
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// The state of a process as a letter (see `proc_pid_stat(5)`); `None` for one that is gone.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
