//! Runs a command for each message.

use std::{io::Write as _, process::Stdio, thread};

use tidings::message::EventId;

use super::{Stop, child::shell, options::ExecFailure, status::Status, time::published_at};

/// The most bytes of a message that are also an environment variable: Linux has a limit of 128 KiB.
const MAX_VARIABLE: usize = 64 * 1024;

/// A command, and what to do when it fails.
pub(super) struct Exec {
    pub(super) command: String,
    pub(super) on_failure: ExecFailure,
}

impl Exec {
    /// Runs the command for a message and waits for it.
    ///
    /// # Errors
    /// When it cannot be started, or has failed and that is to end the watcher.
    pub(super) fn run(&self, id: EventId, data: &str, status: &Status) -> Result<(), Stop> {
        let mut command = shell(&self.command);
        command.env("TIDINGS_ID", id.to_string()).env("TIDINGS_AT", published_at(id));
        if data.len() <= MAX_VARIABLE {
            // No variable can hold a NUL.
            command.env("TIDINGS_MESSAGE", data.replace('\0', "\u{fffd}"));
        } else {
            command.env_remove("TIDINGS_MESSAGE");
        }
        let cannot = |error| Stop::Failed(format!("the command cannot be run: {error}"));
        status.clear();
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(cannot)?;
        let stdin = child.stdin.take();
        let exit = thread::scope(|scope| {
            scope.spawn(|| {
                // A command need not read it.
                stdin.map(|mut stdin| stdin.write_all(data.as_bytes()))
            });
            child.wait()
        });
        let exit = exit.map_err(cannot)?;
        if exit.success() {
            return Ok(());
        }
        let text = format!("the command failed for the message {id}: {exit}");
        match self.on_failure {
            ExecFailure::Continue => {
                status.note(&text);
                Ok(())
            }
            ExecFailure::Stop => Err(Stop::Failed(text)),
        }
    }
}
