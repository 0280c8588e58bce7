//! What an acknowledgement is worth: the settings of the database that decide it.

use std::fmt;

use tokio_postgres::{Client, Error};

use super::options::PostgresOptions;

/// The settings of a session that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Durability {
    /// Whether the database waits for its disk.
    fsync: bool,
    /// For what a COMMIT waits.
    synchronous_commit: String,
    /// The standbys that it waits for; empty for none.
    standbys: String,
}

/// The database does not replicate as `--require-synchronous-standby` demands.
#[derive(Debug)]
pub(super) struct NotReplicated(Durability);

impl fmt::Display for NotReplicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Durability { fsync, standbys, .. } = &self.0;
        let fsync = if *fsync { "on" } else { "off" };
        write!(
            f,
            "the database does not wait for a synchronous standby (fsync is {fsync}, \
             synchronous_standby_names is '{standbys}'), as --require-synchronous-standby demands"
        )
    }
}

impl std::error::Error for NotReplicated {}

impl Durability {
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let select = "SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit'), \
                      current_setting('synchronous_standby_names')";
        let row = client.query_one(select, &[]).await?;
        Ok(Self {
            fsync: row.try_get(0)?,
            synchronous_commit: row.try_get(1)?,
            standbys: row.try_get(2)?,
        })
    }

    /// # Errors
    /// When the options require a synchronous standby, and there is none.
    pub(super) fn check(&self, options: &PostgresOptions) -> Result<(), NotReplicated> {
        let is_enough = self.is_replicated() && self.fsync;
        if options.require_synchronous_standby && !is_enough {
            return Err(NotReplicated(self.clone()));
        }
        Ok(())
    }

    /// Logs what an acknowledgement is worth.
    pub(super) fn log(&self) {
        let Self { fsync, synchronous_commit, standbys } = self;
        if !fsync {
            tracing::warn!(
                "an acknowledged message can be lost: the database does not wait for its disk (fsync \
                 is off)"
            );
        } else if self.is_replicated() {
            tracing::info!(
                synchronous_commit,
                standbys,
                "an acknowledged message is on the disks of the database and of its synchronous standby"
            );
        } else {
            tracing::info!(
                "an acknowledged message is on the disk of the database only: it has no synchronous \
                 standby"
            );
        }
    }

    fn is_replicated(&self) -> bool {
        !self.standbys.is_empty()
            && matches!(self.synchronous_commit.as_str(), "on" | "remote_apply")
    }
}
