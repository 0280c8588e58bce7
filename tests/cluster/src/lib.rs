//! `PostgreSQL` servers for tests and benchmarks, and the failures that they must survive: a primary with a
//! synchronous standby, kills, freezes, failovers, and cut connections.
//!
//! Everything blocks: async callers use a thread of their own, such as `spawn_blocking`. Linux alone: the
//! processes of a server are found in `/proc`.
//!
//! - [`Cluster`]: a primary and perhaps a standby, in a temporary folder.
//! - [`Instance`]: one of these servers.
//! - [`Cutter`]: a TCP proxy before them that cuts, refuses or stalls connections.

mod cluster;
mod cutter;
mod instance;
mod postmaster;
mod programs;
#[cfg(test)]
mod tests;

use std::{
    io, thread,
    time::{Duration, Instant},
};

pub use cluster::{Cluster, Options, Tls, connection_url};
pub use cutter::Cutter;
pub use instance::Instance;
pub use programs::binaries;

/// How long to wait for anything. Far longer than it takes, since the machine may be busy.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long to wait between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds.
///
/// # Errors
///
/// `TimedOut` after 60 s; the error of the condition, at once.
fn wait_until(what: &str, mut condition: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !condition()? {
        if Instant::now() > deadline {
            let message = format!("{what} takes longer than {} s", TIMEOUT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
