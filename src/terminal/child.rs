//! Runs a command whose output is published.
//!
//! Standard output and standard error are one pipe, so that their lines are in the order in which they
//! were written. What is read is printed at once, as it came.

use std::{
    io::{self, Write as _},
    process::{Command, ExitStatus},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::sleep};

use super::{
    input::{LineReader, Reads},
    queue::Queue,
    signals::{Signal, Signals},
    status::{Status, duration_text},
};

/// When the command has ended and its output has been silent for this time, a process that it left
/// behind keeps the pipe open.
const SILENCE: Duration = Duration::from_secs(1);

const LEFT_BEHIND: &str = "a process that the command has left behind keeps its output open; what it \
                           writes from now on is not published";

/// A command that runs.
pub(super) struct Child {
    begun: Instant,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
    reader: LineReader,
    #[cfg(unix)]
    target: unix::SignalTarget,
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    status: Option<ExitStatus>,
    after: Duration,
    /// Whether a signal came after its end.
    pub(super) is_stopped: bool,
}

impl Child {
    /// Starts the command with the shell.
    ///
    /// # Errors
    /// When there is no shell, or no more process or thread.
    pub(super) fn start(command: &str, queue: Arc<Queue>) -> io::Result<Self> {
        let (output, writer) = io::pipe()?;
        let mut shell = shell(command);
        shell.stdout(writer.try_clone()?).stderr(writer);
        #[cfg(unix)]
        let in_group = unix::set_group(&mut shell);
        let mut child = shell.spawn()?;
        // With it goes this process's end of the pipe.
        drop(shell);
        #[cfg(unix)]
        let target = unix::SignalTarget::new(&child, in_group);
        let begun = Instant::now();
        let reader = LineReader::start(output, print, queue)?;
        let (sender, ended) = oneshot::channel();
        let wait = move || {
            let _ = sender.send(child.wait());
        };
        thread::Builder::new().name("command".to_owned()).spawn(wait)?;
        Ok(Self {
            begun,
            ended,
            reader,
            #[cfg(unix)]
            target,
        })
    }

    /// Waits until the command has ended and its output has been read; passes signals on to it. Once it has
    /// ended, a signal is for this process: its output is then not read further.
    pub(super) async fn wait(&mut self, signals: &mut Signals, status: &Status) -> Ended {
        let exit = loop {
            tokio::select! {
                exit = &mut self.ended => break exit,
                signal = signals.next() => self.forward(signal),
            }
        };
        let status_of_it = exit.ok().and_then(Result::ok);
        let mut ended =
            Ended { status: status_of_it, after: self.begun.elapsed(), is_stopped: false };
        let reads = self.reader.reads.clone();
        tokio::select! {
            _ = &mut self.reader.done => return ended,
            () = silence(&reads) => status.note(LEFT_BEHIND),
            _ = signals.next() => ended.is_stopped = true,
        }
        self.reader.stop().await;
        ended
    }

    #[cfg(unix)]
    fn forward(&self, signal: Signal) {
        self.target.send(signal);
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "as on Unix")]
    fn forward(&self, _: Signal) {}
}

/// Waits until the reader has waited for the same read for a while. (Not while it waits for room in the
/// queue: then there may be more to read.)
async fn silence(reads: &Reads) {
    let mut since = (None, Instant::now());
    loop {
        let read = reads.waiting();
        if read.is_none() || read != since.0 {
            since = (read, Instant::now());
        } else if since.1.elapsed() >= SILENCE {
            return;
        }
        sleep(SILENCE / 10).await;
    }
}

/// Prints output as it came. It is published also where it can no longer be printed.
fn print(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// A command that runs this text with the shell. It does not get the token: what it prints is published,
/// and what it reads comes from others.
pub(super) fn shell(text: &str) -> Command {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.arg(option).arg(text).env_remove("TIDINGS_TOKEN");
    command
}

impl Ended {
    /// The exit status: 128 and the number of the signal if one ended the command.
    pub(super) fn exit_code(self) -> u8 {
        let code =
            self.status.and_then(|status| status.code().or_else(|| Some(128 + signal(status)?)));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }

    /// The closing text of the stream: `exit 0 after 12 s`.
    pub(super) fn closing_text(self) -> String {
        format!("exit {} after {}", self.exit_code(), duration_text(self.after))
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(unix)]
mod unix {
    //! Signals for a command.

    use std::{
        io::{self, IsTerminal as _},
        os::unix::process::CommandExt as _,
        process::{self, Command},
    };

    use rustix::process::{Pid, kill_process, kill_process_group};

    use super::Signal;

    /// What a signal is sent to.
    pub(super) struct SignalTarget {
        process: Pid,
        /// Whether it leads a process group of its own.
        in_group: bool,
    }

    /// Puts the command into a process group of its own, so that a signal reaches all of its processes,
    /// unless this runs on a terminal: there the command must stay in the foreground to use the terminal.
    pub(super) fn set_group(command: &mut Command) -> bool {
        let in_group = !io::stdin().is_terminal();
        if in_group {
            command.process_group(0);
        }
        in_group
    }

    impl SignalTarget {
        pub(super) fn new(child: &process::Child, in_group: bool) -> Self {
            Self { process: Pid::from_child(child), in_group }
        }

        /// Sends a signal. A command that has just ended needs none.
        pub(super) fn send(&self, signal: Signal) {
            let number = match signal {
                // The terminal has sent it to the command as well.
                Signal::Interrupt if !self.in_group => return,
                Signal::Interrupt => rustix::process::Signal::INT,
                Signal::Terminate => rustix::process::Signal::TERM,
                Signal::Hangup => rustix::process::Signal::HUP,
            };
            let _ = if self.in_group {
                kill_process_group(self.process, number)
            } else {
                kill_process(self.process, number)
            };
        }
    }
}
