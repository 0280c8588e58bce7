//! Copies: reads the store in a file for a copy, or writes a copy into a file.
//!
//! The file of an unfinished copy has a version of its own, which servers refuse.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{
    check::refuse_damaged,
    file::{Location, StoreLock},
    folder::{create_private, sync_folder},
    read::{self, StreamRow, signed, unsigned},
    row_key::{MAX_OFFSET, MAX_SLOT, OFFSET_BITS, Slot, offset},
    schema::{self, FileContent},
};
use crate::{
    message::{EventId, Message, StreamName},
    server::log::copied::{
        CopiedKey, CopiedStream, KEYS_PER_PAGE, PAGE, STREAMS_PER_PAGE, StoreCounters,
        StreamCounts, StreamPart,
    },
};

/// Pages in the write-ahead log from which on `SQLite` moves them into the file (its default).
const CHECKPOINT_PAGES: u32 = 1000;

/// The store in a file that is copied, or becomes a copy. No server can use it meanwhile.
#[derive(Debug)]
pub(crate) struct SqliteCopy {
    connection: Connection,
    path: PathBuf,
    /// Dropped after the connection is closed.
    _lock: StoreLock,
}

impl SqliteCopy {
    /// Opens a file to read it. It is checked first, and is not changed.
    ///
    /// # Errors
    /// When there is no store of this version in it, a server uses it, or it is damaged.
    pub(crate) fn open_source(path: PathBuf) -> anyhow::Result<Self> {
        ensure!(path.exists(), "there is no file {}", path.display());
        Self::open(path, |location, _| {
            let connection = location.open_to_read()?;
            match schema::identify(&connection)? {
                FileContent::Current => {}
                FileContent::Nothing => bail!("it holds no store"),
                FileContent::Version1 => {
                    bail!("its schema is of Tidings 0.1; start a server on it, which upgrades it")
                }
                FileContent::UnfinishedCopy => bail!(schema::UNFINISHED_COPY),
            }
            refuse_damaged(&connection, "before it is copied")?;
            Ok(connection)
        })
    }

    /// Opens a file to write a copy into it, or to go on with an unfinished one; creates it if it is
    /// missing.
    ///
    /// # Errors
    /// When it holds something else, a server uses it, or it cannot be written.
    pub(crate) fn open_target(path: PathBuf) -> anyhow::Result<Self> {
        Self::open(path, |location, path| {
            create_private(path)?;
            let mut connection = location.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            match schema::identify(&connection)? {
                FileContent::Nothing => {
                    drop(connection);
                    connection = location.create()?;
                }
                FileContent::Current => {
                    ensure!(is_unused(&connection)?, "it holds a store; copy to another file");
                }
                FileContent::Version1 => bail!("it holds a store; copy to another file"),
                FileContent::UnfinishedCopy => {}
            }
            schema::set_unfinished(&connection, true)?;
            location.configure(&connection)?;
            let checkpoint = "wal_autocheckpoint";
            connection.pragma_update_and_check(None, checkpoint, CHECKPOINT_PAGES, |_| Ok(()))?;
            Ok(connection)
        })
    }

    fn open(
        path: PathBuf,
        connect: impl FnOnce(&Location, &PathBuf) -> anyhow::Result<Connection>,
    ) -> anyhow::Result<Self> {
        let (location, lock) = Location::lock(Some(path.clone()))?;
        let connection =
            connect(&location, &path).map_err(|error| location.name_in_error(error))?;
        Ok(Self { connection, path, _lock: lock })
    }

    pub(crate) fn counters(&self) -> rusqlite::Result<StoreCounters> {
        self.connection.query_row("SELECT generation, sequence FROM store", [], |row| {
            Ok(StoreCounters { generation: row.get(0)?, sequence: unsigned(row, 1)? })
        })
    }

    /// Number of messages.
    pub(crate) fn messages_total(&self) -> rusqlite::Result<u64> {
        Ok(read::counts(&self.connection)?.1)
    }

    /// The next streams in the order of their names, with what the file says that it has of them.
    pub(crate) fn streams(
        &self,
        after: Option<&StreamName>,
    ) -> anyhow::Result<Vec<(CopiedStream, StreamCounts)>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT name FROM streams WHERE name > ?1 ORDER BY name LIMIT ?2")?;
        let after = after.map_or("", StreamName::as_str);
        let names = select.query_map((after, STREAMS_PER_PAGE), |row| row.get::<_, String>(0))?;
        let mut streams = Vec::new();
        for name in names {
            let Ok(name) = name?.parse() else { bail!("the name of a stream is invalid") };
            streams.push(self.stream(name)?);
        }
        Ok(streams)
    }

    fn stream(&self, name: StreamName) -> anyhow::Result<(CopiedStream, StreamCounts)> {
        let row = self.row(&name)?;
        let counts = StreamCounts { messages: row.count, bytes: row.bytes, keys: row.keys };
        let stream = CopiedStream {
            name,
            number: row.generation.0,
            base: row.base,
            head: row.head,
            trimmed: row.trimmed.seq,
            trimmed_millis: row.trimmed.millis,
            closing: row.closing,
        };
        Ok((stream, counts))
    }

    fn row(&self, name: &StreamName) -> anyhow::Result<StreamRow> {
        StreamRow::load(&self.connection, name)?.with_context(|| format!("{name} has disappeared"))
    }

    /// The next messages after a sequence.
    pub(crate) fn messages(
        &mut self,
        stream: &CopiedStream,
        after: u64,
    ) -> anyhow::Result<Vec<Message>> {
        let row = self.row(&stream.name)?;
        let tx = self.connection.transaction()?;
        Ok(read::messages_after(&tx, &row, after, PAGE)?.0)
    }

    /// The next idempotency keys, of messages after a sequence.
    pub(crate) fn keys(&self, stream: &CopiedStream, after: u64) -> anyhow::Result<Vec<CopiedKey>> {
        let row = self.row(&stream.name)?;
        let mut select = self.connection.prepare_cached(
            "SELECT key, millis, name, digest, used FROM keys WHERE key > ?1 AND key <= ?2 \
             ORDER BY key LIMIT ?3",
        )?;
        let keys =
            select.query_map((row.row_key(after), row.slot.end(), KEYS_PER_PAGE), |found| {
                let seq = row.base + offset(found.get(0)?);
                Ok(CopiedKey {
                    last: EventId { seq, millis: unsigned(found, 1)? },
                    name: found.get(2)?,
                    digest: found.get(3)?,
                    used: unsigned(found, 4)?,
                })
            })?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    /// The sequences of the newest message and of the newest idempotency key, 0 without one.
    pub(crate) fn newest(&self, stream: &CopiedStream) -> anyhow::Result<(u64, u64)> {
        let row = self.row(&stream.name)?;
        let newest = |table| -> rusqlite::Result<u64> {
            let select = format!("SELECT max(key) FROM {table} WHERE key BETWEEN ?1 AND ?2");
            let range = (row.slot.start(), row.slot.end());
            let key: Option<i64> =
                self.connection.query_row(&select, range, |found| found.get(0))?;
            Ok(key.map_or(0, |key| row.base + offset(key)))
        };
        Ok((newest("messages")?, newest("keys")?))
    }

    /// Stores parts in one transaction.
    pub(crate) fn write(&mut self, parts: &[StreamPart]) -> anyhow::Result<()> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for part in parts {
            write_part(&tx, part)
                .with_context(|| format!("the stream {} cannot be written", part.stream.name))?;
        }
        tx.commit()?;
        Ok(())
    }

    /// Makes the copy a store that servers use.
    pub(crate) fn finish(mut self, counters: StoreCounters) -> anyhow::Result<()> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "UPDATE store SET generation = ?1, sequence = ?2, clean = ?3",
            (counters.generation, signed(counters.sequence), schema::UNSCRUBBED),
        )?;
        schema::set_unfinished(&tx, false)?;
        tx.commit()?;
        // Moves the write-ahead log into the file.
        self.connection.close().map_err(|(_, error)| error)?;
        sync_folder(&self.path)?;
        Ok(())
    }
}

/// Whether no stream was ever stored.
fn is_unused(connection: &Connection) -> rusqlite::Result<bool> {
    let is_used =
        "SELECT generation <> 0 OR sequence <> 0 OR EXISTS (SELECT 1 FROM streams) FROM store";
    connection.query_row(is_used, [], |row| row.get(0)).map(|is_used: bool| !is_used)
}

fn write_part(tx: &Transaction<'_>, part: &StreamPart) -> anyhow::Result<()> {
    let StreamPart { stream, messages, keys } = part;
    let CopiedStream { name, number, base, head, trimmed, trimmed_millis, closing } = stream;
    let counts = part.counts();
    ensure!(
        head.seq.checked_sub(*base).is_some_and(|offset| offset <= MAX_OFFSET),
        "a file holds at most 2^{OFFSET_BITS} messages of a stream; end it and begin another one"
    );
    let slot = slot_of(tx, name)?;
    tx.prepare_cached(
        "INSERT INTO streams (slot, generation, name, base, seq, millis, trimmed, trimmed_millis, \
         count, bytes, keys, closing) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT (slot) DO UPDATE SET count = count + excluded.count, \
         bytes = bytes + excluded.bytes, keys = keys + excluded.keys",
    )?
    .execute((
        slot.0,
        number,
        name.as_str(),
        signed(*base),
        signed(head.seq),
        signed(head.millis),
        signed(*trimmed),
        trimmed_millis.map(signed),
        signed(counts.messages),
        signed(counts.bytes),
        signed(counts.keys),
        closing,
    ))?;
    let row_key = |id: EventId| slot.row_key(id.seq.saturating_sub(*base));
    let mut insert = tx.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3)")?;
    for Message { id, data } in messages {
        insert.execute((row_key(*id), signed(id.millis), data))?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for CopiedKey { name, last, digest, used } in keys {
        insert.execute((row_key(*last), name, digest, signed(last.millis), signed(*used)))?;
    }
    Ok(())
}

/// The slot of a stream, or the next one for a new stream.
fn slot_of(tx: &Transaction<'_>, name: &StreamName) -> anyhow::Result<Slot> {
    let stored = tx
        .prepare_cached("SELECT slot FROM streams WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0).map(Slot))
        .optional()?;
    if let Some(slot) = stored {
        return Ok(slot);
    }
    let next = tx
        .prepare_cached("UPDATE store SET slots = slots + 1 WHERE slots < ?1 RETURNING slots")?
        .query_row([MAX_SLOT], |row| row.get(0).map(Slot))
        .optional()?;
    next.context("a file cannot hold so many streams")
}
