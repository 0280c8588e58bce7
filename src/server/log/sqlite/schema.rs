//! The schema of the database file, and which files are not ours to open.

use anyhow::{bail, ensure};
use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as ours (`PRAGMA application_id`): "Tidi".
const APPLICATION_ID: i32 = 0x5469_6469;
/// The version of the schema (`PRAGMA user_version`).
const VERSION: i32 = 2;

/// Four KiB, `SQLite`'s own choice: what a commit writes is whole pages.
pub(super) const PAGE_SIZE: u32 = 4096;
/// `PRAGMA auto_vacuum`: pages are given back when that is asked for.
const INCREMENTAL: i64 = 2;

/// How a server has left the store: not in order, as long as it runs.
pub(super) const UNCLEAN: i64 = 0;
pub(super) const CLEAN: i64 = 1;
/// In order, but pages have still to be scrubbed.
pub(super) const UNSCRUBBED: i64 = 2;

/// What was released is never changed: a new schema is a new version, and a migration.
const SCHEMA: &str = "
    CREATE TABLE streams (
        -- Where its messages and keys are: the higher part of their integer keys.
        slot           INTEGER PRIMARY KEY,
        -- Never given twice.
        generation     INTEGER NOT NULL,
        name           TEXT NOT NULL UNIQUE,
        -- The sequence before the first one: the lower part of a message's key is its distance.
        base           INTEGER NOT NULL,
        -- The id of the newest message, or of the end.
        seq            INTEGER NOT NULL,
        millis         INTEGER NOT NULL,
        -- The id of the newest message that is not kept any more. Milliseconds are null when there
        -- is none, or when it is not known any more; the sequence is the base then, or greater.
        trimmed        INTEGER NOT NULL,
        trimmed_millis INTEGER,
        -- What is kept: messages, the bytes of their text, idempotency keys.
        count          INTEGER NOT NULL,
        bytes          INTEGER NOT NULL,
        keys           INTEGER NOT NULL,
        -- While ids are ahead of the clock: since when that is known, and up to which sequence.
        ahead_since    INTEGER,
        ahead_seq      INTEGER,
        -- The closing text, once the stream has ended.
        closing        TEXT
    ) STRICT;
    CREATE TABLE messages (
        key    INTEGER PRIMARY KEY,
        millis INTEGER NOT NULL,
        data   TEXT NOT NULL
    ) STRICT;
    -- Idempotency keys.
    CREATE TABLE keys (
        -- The key of the last message that was appended under it, which may have been trimmed.
        key    INTEGER PRIMARY KEY,
        -- Stands for the generation of the stream and the text of the key.
        name   BLOB NOT NULL UNIQUE,
        -- Stands for what was appended.
        digest BLOB NOT NULL,
        millis INTEGER NOT NULL,
        -- When it was used, by the clock; the id may be later.
        used   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX keys_by_age ON keys (used);
    -- Slots of streams that were deleted, until they are empty.
    CREATE TABLE garbage (slot INTEGER PRIMARY KEY) STRICT;
    -- Slots that were emptied.
    CREATE TABLE free_slots (slot INTEGER PRIMARY KEY) STRICT;
    -- One row.
    CREATE TABLE store (
        -- The generation that was given last.
        generation INTEGER NOT NULL,
        -- The greatest sequence of any stream that was deleted.
        sequence   INTEGER NOT NULL,
        -- The greatest slot that was ever used.
        slots      INTEGER NOT NULL,
        -- How the last server that wrote here stopped: 0 not in order, 1 in order, 2 in order but
        -- with pages that are not scrubbed yet.
        clean      INTEGER NOT NULL,
        -- Changed in order to find out whether the store can be written.
        probe      INTEGER NOT NULL
    ) STRICT;
    INSERT INTO store VALUES (0, 0, 0, 0, 0);";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    /// Nothing yet.
    Nothing,
    /// A store of Tidings 0.1.
    Version1,
    /// A store with this schema.
    Current,
}

/// Creates the tables of a store in an empty database.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn create(connection: &mut Connection) -> anyhow::Result<()> {
    // Both count only before anything is written, and are ignored without a word afterwards.
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.execute_batch(SCHEMA)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    let number = |pragma| tx.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (page_size, auto_vacuum) = (number("page_size")?, number("auto_vacuum")?);
    ensure!(
        (page_size, auto_vacuum) == (PAGE_SIZE.into(), INCREMENTAL),
        "SQLite chose pages of {page_size} bytes and auto_vacuum {auto_vacuum}"
    );
    tx.commit()?;
    Ok(())
}

/// Says what is in a database.
///
/// # Errors
/// When it is another program's, or newer than this server; when it cannot be read.
pub(super) fn identify(connection: &Connection) -> anyhow::Result<FileContent> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        bail!("it is a database of another program; choose another file with --data");
    }
    match version {
        0 if tables == 0 => Ok(FileContent::Nothing),
        1 => Ok(FileContent::Version1),
        VERSION => Ok(FileContent::Current),
        newer if newer > VERSION => bail!(
            "it was written by a newer Tidings (schema {newer}); run that one, or restore a copy \
             from before the upgrade"
        ),
        other => bail!("it has a schema that no Tidings has written ({other})"),
    }
}
