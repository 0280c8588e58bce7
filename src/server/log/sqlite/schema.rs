//! The database schema, and the identification of files (`application_id`, `user_version`).

use anyhow::{bail, ensure};
use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as a Tidings store (`PRAGMA application_id`): "Tidi".
const APPLICATION_ID: i32 = 0x5469_6469;
/// The version of the schema (`PRAGMA user_version`).
const VERSION: i32 = 2;
/// The version of an unfinished copy.
const UNFINISHED_VERSION: i32 = -VERSION;

/// Why a server does not use an unfinished copy.
pub(super) const UNFINISHED_COPY: &str =
    "it is an unfinished copy: finish it with the same `tidings copy`, or delete it";

/// Page size in bytes, `SQLite`'s default: a commit writes whole pages.
pub(super) const PAGE_SIZE: u32 = 4096;
/// `PRAGMA auto_vacuum`: free pages are released on request.
const INCREMENTAL: i64 = 2;

/// Values of `store.clean`. While a server runs, or after a crash:
pub(super) const UNCLEAN: i64 = 0;
/// After a clean shutdown.
pub(super) const CLEAN: i64 = 1;
/// After a clean shutdown, with pages that must still be scrubbed.
pub(super) const UNSCRUBBED: i64 = 2;

/// A released schema is never changed: a new schema needs a new version and a migration.
const SCHEMA: &str = "
    CREATE TABLE streams (
        -- The higher part of the integer keys of its messages and idempotency keys.
        slot           INTEGER PRIMARY KEY,
        -- Never assigned twice.
        generation     INTEGER NOT NULL,
        name           TEXT NOT NULL UNIQUE,
        -- The sequence before the first one. The lower part of a message's key is seq - base.
        base           INTEGER NOT NULL,
        -- The id of the newest message, or of the end.
        seq            INTEGER NOT NULL,
        millis         INTEGER NOT NULL,
        -- The id of the newest trimmed message. Without one the sequence is the base, and
        -- milliseconds are null; they are also null where they are not known.
        trimmed        INTEGER NOT NULL,
        trimmed_millis INTEGER,
        -- Numbers of messages, bytes of their text, idempotency keys.
        count          INTEGER NOT NULL,
        bytes          INTEGER NOT NULL,
        keys           INTEGER NOT NULL,
        -- Clock skew: when it was detected, and the newest sequence at that time.
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
        -- The key of the last message that was appended with it, which may have been trimmed.
        key    INTEGER PRIMARY KEY,
        -- Hash of the generation of the stream and the text of the key.
        name   BLOB NOT NULL UNIQUE,
        -- Hash of the messages.
        digest BLOB NOT NULL,
        millis INTEGER NOT NULL,
        -- When it was used, by the clock. The milliseconds of the id may be later.
        used   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX keys_by_age ON keys (used);
    -- Slots of streams that were deleted, until they are empty.
    CREATE TABLE garbage (slot INTEGER PRIMARY KEY) STRICT;
    -- Emptied slots, to be used again.
    CREATE TABLE free_slots (slot INTEGER PRIMARY KEY) STRICT;
    -- One row.
    CREATE TABLE store (
        -- The generation that was assigned last.
        generation INTEGER NOT NULL,
        -- The greatest sequence of any stream that was deleted.
        sequence   INTEGER NOT NULL,
        -- The greatest slot that was ever used.
        slots      INTEGER NOT NULL,
        -- How the last server stopped: 0 running or crashed, 1 clean, 2 clean, with pages that
        -- must still be scrubbed.
        clean      INTEGER NOT NULL,
        -- Changed to test whether the store can be written.
        probe      INTEGER NOT NULL
    ) STRICT;
    INSERT INTO store VALUES (0, 0, 0, 0, 0);";

/// What a file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    /// Nothing yet.
    Nothing,
    /// A store of Tidings 0.1.
    Version1,
    /// A store with this schema.
    Current,
    /// A copy with this schema that is not complete.
    UnfinishedCopy,
}

/// Creates the tables of a store in an empty database.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn create(connection: &mut Connection) -> anyhow::Result<()> {
    // Both must be set before the first write; afterwards SQLite ignores them silently.
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

/// Marks a store with this schema as an unfinished copy, or as complete.
pub(super) fn set_unfinished(connection: &Connection, is_unfinished: bool) -> rusqlite::Result<()> {
    let version = if is_unfinished { UNFINISHED_VERSION } else { VERSION };
    connection.pragma_update(None, "user_version", version)
}

/// Identifies the content of a database file.
///
/// # Errors
/// When it belongs to another program, has a newer schema, or cannot be read.
pub(super) fn identify(connection: &Connection) -> anyhow::Result<FileContent> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        bail!("it is a database of another program; choose another file");
    }
    match version {
        0 if tables == 0 => Ok(FileContent::Nothing),
        1 => Ok(FileContent::Version1),
        VERSION => Ok(FileContent::Current),
        UNFINISHED_VERSION => Ok(FileContent::UnfinishedCopy),
        newer if newer > VERSION => bail!(
            "it was written by a newer Tidings (schema {newer}); run that one, or restore a copy \
             from before the upgrade"
        ),
        other => bail!("it has a schema that no Tidings has written ({other})"),
    }
}
