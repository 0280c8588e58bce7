//! SIGHUP, SIGINT and SIGTERM, for a process that finishes what it has begun.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: the terminal is closed. Only on Linux.
    #[cfg_attr(not(unix), expect(dead_code, reason = "as on Unix"))]
    Hangup,
    /// SIGINT: Ctrl-C on a terminal.
    Interrupt,
    /// SIGTERM.
    #[cfg_attr(not(unix), expect(dead_code, reason = "as on Unix"))]
    Terminate,
}

impl Signal {
    /// The exit status that a shell gives a program that the signal ended.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Receives the signals, which then do not end the process.
#[derive(Default)]
pub(super) struct Signals {
    #[cfg(unix)]
    hangup: Option<Listener>,
    #[cfg(unix)]
    interrupt: Option<Listener>,
    #[cfg(unix)]
    terminate: Option<Listener>,
    #[cfg(not(unix))]
    listens: bool,
}

impl Signals {
    /// Receives none: each ends the process.
    pub(super) fn none() -> Self {
        Self::default()
    }
}

#[cfg(unix)]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let listen = |kind: SignalKind, if_unknown: bool| {
            let is_ignored =
                ignored.map_or(if_unknown, |mask| mask >> (kind.as_raw_value() - 1) & 1 == 1);
            if is_ignored { Ok(None) } else { signal(kind).map(Some) }
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup(), true)?,
            interrupt: listen(SignalKind::interrupt(), false)?,
            terminate: listen(SignalKind::terminate(), false)?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            () = received(&mut self.hangup) => Signal::Hangup,
            () = received(&mut self.interrupt) => Signal::Interrupt,
            () = received(&mut self.terminate) => Signal::Terminate,
        }
    }
}

#[cfg(unix)]
async fn received(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => _ = listener.recv().await,
        None => std::future::pending().await,
    }
}

/// The signals that are ignored, a bit each: `nohup` ignores SIGHUP, a shell's script SIGINT for a command
/// in the background. Listening would end that. `None` where the system does not tell (it is Linux that
/// does); there SIGHUP stays as it is.
#[cfg(unix)]
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { listens: true })
    }

    pub(super) async fn next(&mut self) -> Signal {
        if !self.listens || tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
