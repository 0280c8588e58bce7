//! The file: whose it is, how it is opened, what is in it.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags, ffi::ErrorCode};
use rusqlite_migration::{M, Migrations, SchemaVersion};

use super::Store;

/// Marks a file as ours (`PRAGMA application_id`): "Tidi".
const APPLICATION_ID: i32 = 0x5469_6469;

/// The steps from an empty file to the newest schema. What was released is never changed.
const STEPS: &[M<'_>] = &[M::up(
    "CREATE TABLE streams (
        -- Never used again, so that what belonged to a deleted stream is never taken for this one's.
        life    INTEGER PRIMARY KEY AUTOINCREMENT,
        name    TEXT NOT NULL UNIQUE,
        -- The id of the newest message, or of the end.
        seq     INTEGER NOT NULL,
        millis  INTEGER NOT NULL,
        -- The sequence of the newest message that is not kept any more, 0 if all are.
        trimmed INTEGER NOT NULL,
        -- What is kept: messages, and the bytes of their text.
        count   INTEGER NOT NULL,
        bytes   INTEGER NOT NULL,
        -- The closing text, once the stream has ended.
        closing TEXT
    ) STRICT;
    CREATE TABLE messages (
        life   INTEGER NOT NULL,
        seq    INTEGER NOT NULL,
        millis INTEGER NOT NULL,
        data   TEXT NOT NULL,
        PRIMARY KEY (life, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        life   INTEGER NOT NULL,
        key    TEXT NOT NULL,
        digest BLOB NOT NULL,
        seq    INTEGER NOT NULL,
        millis INTEGER NOT NULL,
        -- When the key was used; the id may be later than the clock.
        used   INTEGER NOT NULL,
        PRIMARY KEY (life, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_age ON keys (used);
    -- Lives of streams that were deleted and whose messages are still there.
    CREATE TABLE garbage (life INTEGER PRIMARY KEY) STRICT;
    -- One row: the greatest milliseconds of any stream that was deleted.
    CREATE TABLE store (deleted INTEGER NOT NULL) STRICT;
    INSERT INTO store VALUES (0);",
)];
const MIGRATIONS: Migrations<'_> = Migrations::from_slice(STEPS);

/// How long a connection waits for another one: only while a file is checked or recovered.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// Where the database is, as `SQLite` understands it.
#[derive(Clone, Debug)]
pub(super) enum Location {
    File(PathBuf),
    /// A name that the connections of this process share.
    Memory(String),
}

/// Held as long as the store is ours.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: Option<File>,
}

impl Location {
    /// Makes sure that nobody else writes to the store.
    ///
    /// The lock is on a file beside it: `SQLite` locks the database itself in its own way, which
    /// opening and closing it here would undo.
    pub(super) fn claim(store: Store) -> anyhow::Result<(Self, Claim)> {
        static MEMORIES: AtomicU64 = AtomicU64::new(0);
        let path = match store {
            Store::Memory => {
                let name = format!("/tidings-{}", MEMORIES.fetch_add(1, Ordering::Relaxed));
                return Ok((Self::Memory(name), Claim { _lock: None }));
            }
            Store::File(path) => path,
        };
        let mut beside = path.clone().into_os_string();
        beside.push(".lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&beside)
            .with_context(|| format!("cannot create {}", Path::new(&beside).display()))?;
        match lock.try_lock() {
            Ok(()) => Ok((Self::File(path), Claim { _lock: Some(lock) })),
            Err(TryLockError::WouldBlock) => {
                bail!("another server holds {}; choose another file with --data", path.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", Path::new(&beside).display()))
            }
        }
    }

    /// The connection that writes, to a file that is sound and has the newest schema.
    pub(super) fn open_to_write(&self) -> anyhow::Result<Connection> {
        let open = || {
            let mut connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            check(&connection)?;
            // Waits for the disk at each commit: what is acknowledged survives a power cut.
            self.log_ahead(&connection)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
            // First, so that a file with a schema is always known to be ours.
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            MIGRATIONS.to_latest(&mut connection)?;
            anyhow::Ok(connection)
        };
        open().map_err(|error| match error.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, _)) => {
                let what = match failure.code {
                    ErrorCode::NotADatabase => "is not a Tidings store: it is no SQLite file",
                    ErrorCode::DatabaseCorrupt => "is damaged; restore it from a copy",
                    _ => "can not be opened",
                };
                error.context(format!("{self} {what}"))
            }
            _ => error.context(format!("{self} can not be used")),
        })
    }

    /// Readers go on while the writer writes; in memory they take turns.
    fn log_ahead(&self, connection: &Connection) -> anyhow::Result<()> {
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if matches!(self, Self::File(_)) && mode != "wal" {
            bail!("its file system can not hold a write-ahead log; choose another with --data");
        }
        Ok(())
    }

    pub(super) fn open_to_read(&self) -> rusqlite::Result<Connection> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// How many bytes the store takes: its file, and what is written ahead of it.
    pub(super) fn size(&self, connection: &Connection) -> rusqlite::Result<u64> {
        match self {
            Self::File(path) => {
                let mut ahead = path.clone().into_os_string();
                ahead.push("-wal");
                let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
                Ok(size(path) + size(Path::new(&ahead)))
            }
            Self::Memory(_) => {
                let number = |pragma| {
                    connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0))
                };
                Ok(number("page_count")? * number("page_size")?)
            }
        }
    }

    fn open(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self {
            Self::File(path) => {
                let create = OpenFlags::SQLITE_OPEN_CREATE;
                let writes = flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE);
                Connection::open_with_flags(path, if writes { flags | create } else { flags })?
            }
            Self::Memory(name) => Connection::open_with_flags(
                format!("file:{name}?vfs=memdb"),
                OpenFlags::SQLITE_OPEN_READ_WRITE
                    | OpenFlags::SQLITE_OPEN_CREATE
                    | OpenFlags::SQLITE_OPEN_URI
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?,
        };
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory(_) => f.write_str("the store in memory"),
        }
    }
}

/// Refuses a file that is another program's, newer than this server, or damaged.
fn check(connection: &Connection) -> anyhow::Result<()> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && number("application_id")? != APPLICATION_ID {
        bail!("it is a database of another program; choose another file with --data");
    }
    if let SchemaVersion::Outside(_) = MIGRATIONS.current_version(connection)? {
        bail!(
            "it was written by a newer Tidings (schema {}); run that one, or restore a copy from \
             before the upgrade",
            number("user_version")?
        );
    }
    let sound: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if sound != "ok" {
        bail!("it is damaged ({}); restore it from a copy", sound.replace('\n', " "));
    }
    Ok(())
}
