//! Runs a command for each message.

use std::{
    io::{self, Write as _},
    process::{ExitStatus, Stdio},
    thread,
};

use tidings::message::EventId;

use super::{ExitError, child::shell, time::published_at};

/// The most bytes of a message that are also an environment variable: Linux has a limit of 128 KiB.
const MAX_VARIABLE: usize = 64 * 1024;

/// Runs the command for a message and waits for it.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(command: &str, id: EventId, data: &str) -> Result<ExitStatus, ExitError> {
    let mut command = shell(command);
    command.env("TIDINGS_ID", id.to_string()).env("TIDINGS_AT", published_at(id));
    if data.len() <= MAX_VARIABLE {
        // No variable can hold a NUL.
        command.env("TIDINGS_MESSAGE", data.replace('\0', "\u{fffd}"));
    } else {
        command.env_remove("TIDINGS_MESSAGE");
    }
    let failed =
        |error: io::Error| ExitError::Failed(format!("the command cannot be run: {error}"));
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let (stdin, bytes) = (child.stdin.take(), data.as_bytes().to_vec());
    // Not waited for: a command need not read it, and a process that it leaves behind may keep it open.
    let write = move || stdin.map(|mut stdin| stdin.write_all(&bytes));
    thread::Builder::new().name("stdin".to_owned()).spawn(write).map_err(failed)?;
    child.wait().map_err(failed)
}
