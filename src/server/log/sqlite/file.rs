//! The database file: its lock, its permissions, how it is opened.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags, ffi::ErrorCode};

use super::{
    check::refuse_damaged,
    folder::{create_private, owner_only, sibling},
    migrate,
    schema::{self, FileContent},
    scrub,
    wal::{BUSY_TIMEOUT, WriteAheadLog},
};

/// Where the database is.
#[derive(Clone, Debug)]
pub(super) enum Location {
    File(PathBuf),
    /// In memory, under a name that the connections of this process share.
    Memory(String),
}

/// Excludes other servers from the store until it is dropped.
#[derive(Debug)]
pub(super) struct StoreLock {
    _lock: Option<File>,
}

/// A store that is open for writing.
pub(super) struct OpenedStore {
    pub(super) connection: Connection,
    pub(super) wal: WriteAheadLog,
    /// Whether the file must be checked in the background: its last server shut down cleanly.
    pub(super) unchecked: bool,
}

impl Location {
    /// Locks the store, so that no other server writes to it.
    ///
    /// The lock is on a separate file, `.lock`: opening and closing the database file here would release
    /// `SQLite`'s own locks on it.
    ///
    /// Without a path the store is in memory.
    ///
    /// # Errors
    /// When another server holds the lock, or the lock file cannot be created.
    pub(super) fn lock(path: Option<PathBuf>) -> anyhow::Result<(Self, StoreLock)> {
        static MEMORY_STORE_COUNT: AtomicU64 = AtomicU64::new(0);
        let path = match path {
            None => {
                let name =
                    format!("/tidings-{}", MEMORY_STORE_COUNT.fetch_add(1, Ordering::Relaxed));
                return Ok((Self::Memory(name), StoreLock { _lock: None }));
            }
            // Canonical, or two servers could hold the same file by different names.
            Some(path) => path.canonicalize().unwrap_or(path),
        };
        let lock_path = sibling(&path, ".lock");
        let lock = owner_only()
            .create(true)
            .append(true)
            .open(&lock_path)
            .with_context(|| format!("cannot create {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok((Self::File(path), StoreLock { _lock: Some(lock) })),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another server holds {}, or a copy is being made; stop that, or choose another \
                     file",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", lock_path.display()))
            }
        }
    }

    /// Opens the connection of the writer. The file is checked first if its last server crashed, and is
    /// migrated to the current schema.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or is not a store that this version can read.
    pub(super) fn open_to_write(&self) -> anyhow::Result<OpenedStore> {
        self.prepare().map_err(|error| self.name_in_error(error))
    }

    /// The reason why the store cannot be opened, with its name.
    pub(super) fn name_in_error(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, _)) => {
                let what = match failure.code {
                    ErrorCode::NotADatabase => "is not a Tidings store: it is not an SQLite file",
                    ErrorCode::DatabaseCorrupt => "is damaged; restore it from a copy",
                    _ => "cannot be opened",
                };
                error.context(format!("{self} {what}"))
            }
            _ => error.context(format!("{self} cannot be used")),
        }
    }

    fn prepare(&self) -> anyhow::Result<OpenedStore> {
        if let Self::File(path) = self {
            migrate::remove_unfinished(path)?;
            create_private(path)?;
        }
        let wal = self.wal();
        let has_leftover_wal = wal.as_ref().and_then(|wal| fs::metadata(wal).ok());
        let has_leftover_wal = has_leftover_wal.is_some_and(|wal| wal.len() > 0);
        let (connection, shutdown_state) = self.open_current_schema()?;
        let unchecked =
            shutdown_state.is_some_and(|shutdown_state| shutdown_state != schema::UNCLEAN);
        if shutdown_state == Some(schema::UNCLEAN) {
            refuse_damaged(&connection, "the previous server did not shut down cleanly")?;
        }
        let maybe_changed =
            if shutdown_state.is_some_and(|shutdown_state| shutdown_state != schema::CLEAN) {
                connection.pragma_query_value(None, "page_count", |row| row.get(0))?
            } else {
                0
            };
        self.configure(&connection)?;
        connection.execute("UPDATE store SET clean = ?1", [schema::UNCLEAN])?;
        let wal = WriteAheadLog::new(wal, has_leftover_wal, maybe_changed);
        Ok(OpenedStore { connection, wal, unchecked })
    }

    /// Opens a connection to a store with the current schema, which is created or migrated if needed. The
    /// second value is how the last server shut down (`store.clean`), unless the store is new.
    fn open_current_schema(&self) -> anyhow::Result<(Connection, Option<i64>)> {
        let mut connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        match (schema::identify(&connection)?, self) {
            (FileContent::Nothing, _) => {
                drop(connection);
                connection = self.create()?;
            }
            (FileContent::Version1, Self::File(path)) => {
                migrate::migrate(connection, path)?;
                connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            }
            (FileContent::Current, Self::File(_)) => {
                let shutdown_state =
                    connection.query_row("SELECT clean FROM store", [], |row| row.get(0))?;
                return Ok((connection, Some(shutdown_state)));
            }
            (FileContent::UnfinishedCopy, _) => bail!(schema::UNFINISHED_COPY),
            // A store in memory is always new.
            (FileContent::Version1 | FileContent::Current, Self::Memory(_)) => {}
        }
        Ok((connection, None))
    }

    /// Creates a store in a file that holds nothing yet, and opens it.
    pub(super) fn create(&self) -> anyhow::Result<Connection> {
        if let Self::File(path) = self {
            // An unfinished database keeps properties such as its page size, so it is emptied. It is
            // not replaced: the operator may have created the file, with an owner.
            owner_only().write(true).truncate(true).open(path)?;
        }
        let mut connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::create(&mut connection)?;
        Ok(connection)
    }

    /// Sets the pragmas of the writer's connection.
    pub(super) fn configure(&self, connection: &Connection) -> anyhow::Result<()> {
        // Readers continue while the writer writes; in memory they take turns.
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if matches!(self, Self::File(_)) && mode != "wal" {
            bail!("its file system cannot hold a write-ahead log; choose another with --data");
        }
        // Flushes at each commit: acknowledged messages survive a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        // The writer runs checkpoints itself, after it has recorded the changed pages.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        // Overwrites deleted content with zeros.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        if !scrub::is_compiled_in(connection)? {
            tracing::warn!("built without sqlite_dbpage: deleted texts may stay in unused space");
        }
        Ok(())
    }

    /// Path of the write-ahead log. None in memory.
    pub(super) fn wal(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(sibling(path, "-wal")),
            Self::Memory(_) => None,
        }
    }

    pub(super) fn open_to_read(&self) -> rusqlite::Result<Connection> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Size of the store in bytes: the file and its write-ahead log.
    pub(super) fn size(&self, connection: &Connection) -> rusqlite::Result<u64> {
        match self {
            Self::File(path) => {
                let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
                Ok(size(path) + size(&sibling(path, "-wal")))
            }
            Self::Memory(_) => {
                let number = |pragma| {
                    connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0))
                };
                Ok(number("page_count")? * number("page_size")?)
            }
        }
    }

    pub(super) fn open(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
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
        connection.busy_timeout(BUSY_TIMEOUT)?;
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
