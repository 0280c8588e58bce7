//! Checkpoints: what was written ahead is taken into the file, by a thread and a connection of its
//! own. `SQLite` would have the writer do it, within a commit: then everyone waits for the disk
//! who publishes, and everyone who reads.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use rusqlite::Connection;

/// How often a checkpoint is tried again at once, when the writer wrote meanwhile. Only after one
/// that was complete does the write-ahead log begin anew, and each is shorter than the one before.
const ATTEMPTS: usize = 5;

/// The thread. It is gone when this value is.
pub(super) struct Checkpoints {
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn begin(connection: Connection) -> anyhow::Result<Self> {
        let (due, dues) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || run(&connection, &dues))
            .context("the thread that makes checkpoints can not be started")?;
        Ok(Self { due: Some(due), thread: Some(thread) })
    }

    /// Asks for one; nobody waits for it.
    pub(super) fn ask(&self) {
        if let Some(due) = &self.due {
            // One that was asked for and has not begun is enough.
            let _ = due.try_send(());
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, dues: &Receiver<()>) {
    while dues.recv().is_ok() {
        for _ in 0..ATTEMPTS {
            match checkpoint(connection) {
                Ok(true) => break,
                Ok(false) => {}
                // It is tried again when more was written.
                Err(error) => {
                    tracing::debug!(%error, "what is written ahead can not be taken in");
                    break;
                }
            }
        }
    }
}

/// Takes in as much as can be without anyone having to wait; tells whether that was everything.
fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (ahead, taken_in): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(ahead == taken_in)
    })
}
