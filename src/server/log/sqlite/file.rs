//! The file: which server holds it, who may read it, how it is opened.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags, ffi::ErrorCode};

use super::{
    Store,
    check::refuse_damaged,
    folder::{beside, create_private, private},
    migrate,
    schema::{self, FileContent},
    scrub,
    wal::{BUSY, WriteAheadLog},
};

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

/// A store that can be written.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) wal: WriteAheadLog,
    /// Whether the file has still to be checked. Its last server stopped in order, so that it can be
    /// served meanwhile.
    pub(super) unchecked: bool,
}

impl Location {
    /// Makes sure that no other server writes to the store.
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
            // One file has one name, or two servers could hold it.
            Store::File(path) => path.canonicalize().unwrap_or(path),
        };
        let beside = beside(&path, ".lock");
        let lock = private()
            .create(true)
            .append(true)
            .open(&beside)
            .with_context(|| format!("cannot create {}", beside.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok((Self::File(path), Claim { _lock: Some(lock) })),
            Err(TryLockError::WouldBlock) => {
                bail!("another server holds {}; choose another file with --data", path.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", beside.display()))
            }
        }
    }

    /// The connection that writes, to a file that is sound, as far as it has to be checked, and has
    /// the newest schema.
    pub(super) fn open_to_write(&self) -> anyhow::Result<Opened> {
        self.prepare().map_err(|error| match error.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, _)) => {
                let what = match failure.code {
                    ErrorCode::NotADatabase => "is not a Tidings store: it is no SQLite file",
                    ErrorCode::DatabaseCorrupt => "is damaged; restore it from a copy",
                    _ => "cannot be opened",
                };
                error.context(format!("{self} {what}"))
            }
            _ => error.context(format!("{self} cannot be used")),
        })
    }

    fn prepare(&self) -> anyhow::Result<Opened> {
        if let Self::File(path) = self {
            migrate::remove_unfinished(path)?;
            create_private(path)?;
        }
        let wal = self.wal();
        let was_left = wal.as_ref().and_then(|wal| fs::metadata(wal).ok());
        let was_left = was_left.is_some_and(|wal| wal.len() > 0);
        let (connection, left) = self.open_current_schema()?;
        let unchecked = left.is_some_and(|left| left != schema::UNCLEAN);
        if left == Some(schema::UNCLEAN) {
            refuse_damaged(&connection, "the server before this one did not stop in order")?;
        }
        let unknown = if left.is_some_and(|left| left != schema::CLEAN) {
            connection.pragma_query_value(None, "page_count", |row| row.get(0))?
        } else {
            0
        };
        self.configure(&connection)?;
        connection.execute("UPDATE store SET clean = ?1", [schema::UNCLEAN])?;
        let wal = WriteAheadLog::new(wal, was_left, unknown);
        Ok(Opened { connection, wal, unchecked })
    }

    /// A connection to a store that has the newest schema: it is created, or upgraded, if it has not.
    /// And how its last server has left it, unless it is new.
    fn open_current_schema(&self) -> anyhow::Result<(Connection, Option<i64>)> {
        let mut connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        match (schema::identify(&connection)?, self) {
            (FileContent::Nothing, Self::Memory(_)) => schema::create(&mut connection)?,
            (FileContent::Nothing, Self::File(path)) => {
                // What a program was about to create has properties that stay. It stays the same file:
                // it may have been put there for us, with an owner.
                drop(connection);
                private().write(true).truncate(true).open(path)?;
                connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                schema::create(&mut connection)?;
            }
            (FileContent::Version1, Self::File(path)) => {
                migrate::migrate(connection, path)?;
                connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            }
            (FileContent::Current, Self::File(_)) => {
                let left = connection.query_row("SELECT clean FROM store", [], |row| row.get(0))?;
                return Ok((connection, Some(left)));
            }
            // It has just come into being.
            (FileContent::Version1 | FileContent::Current, Self::Memory(_)) => {}
        }
        Ok((connection, None))
    }

    /// Sets what the connection that writes needs.
    fn configure(&self, connection: &Connection) -> anyhow::Result<()> {
        // Readers go on while the writer writes; in memory they take turns.
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if matches!(self, Self::File(_)) && mode != "wal" {
            bail!("its file system cannot hold a write-ahead log; choose another with --data");
        }
        // Waits for the disk at each commit: what is acknowledged survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        // The writer does that, when it has seen what was changed.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        // What is deleted is overwritten.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        if !scrub::is_compiled_in(connection)? {
            tracing::warn!("built without sqlite_dbpage: deleted texts may stay in unused space");
        }
        Ok(())
    }

    /// The write-ahead log. None in memory.
    pub(super) fn wal(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(beside(path, "-wal")),
            Self::Memory(_) => None,
        }
    }

    pub(super) fn open_to_read(&self) -> rusqlite::Result<Connection> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// How many bytes the store takes: its file, and what is written ahead of it.
    pub(super) fn size(&self, connection: &Connection) -> rusqlite::Result<u64> {
        match self {
            Self::File(path) => {
                let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
                Ok(size(path) + size(&beside(path, "-wal")))
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
            Self::File(path) => Connection::open_with_flags(path, flags)?,
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

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory(_) => f.write_str("the store in memory"),
        }
    }
}
