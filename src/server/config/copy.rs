//! The subcommand `tidings copy`: copies a store from a file to a database, or back.

use clap::Args;

use super::{DatabaseOptions, values::StoreParser};
use crate::server::log::{self, Store};

/// Copy all streams from a database file to a `PostgreSQL` database, or back
///
/// Messages, their ids, and idempotency keys stay the same, so that readers resume and publishers retry on
/// a server of the copy. The copy is verified. Stop all servers of both stores first. A copy that was
/// interrupted is continued by the same command; until it is complete no server starts on it.
#[derive(Args, Clone, Debug)]
pub struct CopyOptions {
    /// The store to copy: a file, or `postgres://user@host/database`. It is not changed
    #[arg(long, value_name = "FILE or URL", value_parser = StoreParser)]
    pub from: Store,

    /// Where to copy it to: a new file, or an empty database. An unfinished copy of the same store is
    /// continued
    #[arg(long, value_name = "FILE or URL", value_parser = StoreParser)]
    pub to: Store,

    /// The `PostgreSQL` database.
    #[command(flatten)]
    pub database: DatabaseOptions,
}

impl CopyOptions {
    /// Copies the store, and returns a line that says what was copied. Progress is logged.
    ///
    /// # Errors
    /// When the copy is not complete and verified. The error has the reason.
    pub async fn run(self) -> anyhow::Result<String> {
        let Self { from, to, database } = &self;
        let (from, to) = (database.apply_to(from), database.apply_to(to));
        // Boxed, because it is large.
        let summary = Box::pin(log::copy(from, to)).await?;
        Ok(summary.to_string())
    }

    /// Checks options that depend on each other.
    ///
    /// # Errors
    /// When they contradict each other, with the reason.
    pub fn check(&self) -> Result<(), String> {
        DatabaseOptions::check_visible(&self.from, "--from")?;
        DatabaseOptions::check_visible(&self.to, "--to")?;
        let problem = match (&self.from, &self.to) {
            (Store::File(_), Store::Postgres(_)) | (Store::Postgres(_), Store::File(_)) => {
                return Ok(());
            }
            (Store::Memory, _) | (_, Store::Memory) => {
                "a store in memory cannot be copied: it ends with its server"
            }
            (Store::File(_), Store::File(_)) => {
                "--from and --to are both files; copy a file with: sqlite3 FILE \"VACUUM INTO 'COPY'\""
            }
            (Store::Postgres(_), Store::Postgres(_)) => {
                "--from and --to are both databases; copy a database with pg_dump and pg_restore"
            }
        };
        Err(problem.to_owned())
    }
}
