//! Migration of a store that Tidings 0.1 has written (schema 1): a copy with the new schema is made
//! beside the file, verified, and put in its place. Whenever the server is killed meanwhile, the file
//! is the one or the other, whole.

mod progress;
mod verify;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, types::ToSqlOutput};

use self::{progress::Progress, verify::verify};
use super::{
    check::refuse_damaged,
    folder::{beside, create_private, sync_folder},
    key_hash::{self, Hash},
    read::unsigned,
    row_key::{MAX_OFFSET, OFFSET_BITS, Slot},
    schema,
};
use crate::server::{
    clock::Clock,
    log::{Generation, IdempotencyKey},
};

/// How the copy is called until it is put in place: the name of the file, and this.
const SUFFIX: &str = "-upgrade";
/// Space that is left besides, in bytes.
const MARGIN: u64 = 4 * 1024 * 1024;
/// Which idempotency keys are copied: as many as are remembered at the most.
const KEYS: &str = "life IN (SELECT life FROM streams) AND used >= \
     (SELECT min(used) FROM (SELECT used FROM keys ORDER BY used DESC LIMIT 1000000))";
/// The user who may own whatever file.
#[cfg(unix)]
const ROOT: u32 = 0;
/// Beyond every sequence that a stream can have had.
const BEYOND: i64 = 1 << 32;

/// Removes what a migration has left that was killed.
pub(super) fn remove_unfinished(path: &Path) -> io::Result<()> {
    let copy = copy_of(path);
    remove(&beside(&copy, "-journal"))?;
    remove(&copy)
}

/// Brings the file to the current schema. `old` is the only connection to it.
///
/// # Errors
/// When it is damaged, when there is no room, or when it cannot be written; then it is as it was. When
/// its folder cannot be made durable: then it is the new one, or after a power cut as it was.
pub(super) fn migrate(old: Connection, path: &Path) -> anyhow::Result<()> {
    let outcome = copy(&old, path).and_then(|copied| {
        put_in_place(old, path, &copied)?;
        Ok(copied)
    });
    if outcome.is_err() {
        // What stays is removed at the next start.
        let _ = remove_unfinished(path);
    }
    let Copied { began, messages, .. } = outcome
        .context("it cannot be brought to the schema of this Tidings; nothing was changed")?;
    sync_folder(path).context("it was upgraded, but its folder cannot be synced; start again")?;
    let duration_ms = began.elapsed().as_millis();
    tracing::info!(messages, duration_ms, "the store is upgraded");
    Ok(())
}

/// What was copied.
struct Copied {
    copy: PathBuf,
    began: Instant,
    messages: u64,
}

fn copy(old: &Connection, path: &Path) -> anyhow::Result<Copied> {
    let began = Instant::now();
    refuse_damaged(old, "it is about to be upgraded")?;
    let needed = needed(old, path)?;
    ensure_room(free(path)?, needed)?;
    tracing::info!(bytes = needed, "upgrading the store: it is copied beside the file");
    let copy = copy_of(path);
    create_private(&copy)?;
    let messages = {
        let mut new = open(&copy)?;
        schema::create(&mut new)?;
        // It counts only once it is whole and in place.
        new.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
        new.pragma_update(None, "synchronous", "OFF")?;
        let tx = new.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let messages = copy_streams(old, &tx)?;
        copy_keys(old, &tx)?;
        copy_store(old, &tx)?;
        tx.commit()?;
        messages
    };
    let new = open(&copy)?;
    refuse_damaged(&new, "the upgraded copy is verified")?;
    verify(old, &new)?;
    Ok(Copied { copy, began, messages })
}

fn put_in_place(old: Connection, path: &Path, Copied { copy, .. }: &Copied) -> anyhow::Result<()> {
    give_to_owner_of(path, copy)?;
    File::options().read(true).write(true).open(copy)?.sync_all()?;
    // What is in its write-ahead log goes into the old file, and the log goes: a new file beside an
    // old log would be taken for damaged, or worse.
    let mode: String =
        old.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    ensure!(mode == "delete", "another program has it open; close that");
    old.close().map_err(|(_, error)| error)?;
    remove(&beside(path, "-wal"))?;
    remove(&beside(path, "-shm"))?;
    sync_folder(path)?;
    fs::rename(copy, path)?;
    Ok(())
}

fn copy_of(path: &Path) -> PathBuf {
    beside(path, SUFFIX)
}

fn open(copy: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(copy, flags)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How many bytes it takes at the most: the copy, of which no row takes more than it did (those that
/// are just too large for a page waste half of it), and what the old file grows by when what is written
/// ahead of it goes into it.
fn needed(old: &Connection, path: &Path) -> anyhow::Result<u64> {
    let number = |sql| old.query_row(sql, [], |row| unsigned(row, 0));
    let keys = number("SELECT count(*) FROM keys")?;
    let streams = number("SELECT count(*) FROM streams")?;
    let rows = number("SELECT coalesce(sum(count), 0) FROM streams")?;
    let text = number(
        "SELECT coalesce(sum(bytes + octet_length(coalesce(closing, ''))), 0) FROM streams",
    )?;
    let pragma = |pragma| old.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    let (pages, page_size) = (pragma("page_count")?, pragma("page_size")?);
    let used = (pages - pragma("freelist_count")?) * page_size;
    let growth = (pages * page_size).saturating_sub(fs::metadata(path)?.len());
    Ok(used.min(2 * text + 40 * rows + 160 * keys + 400 * streams) + growth + MARGIN)
}

fn ensure_room(free: u64, needed: u64) -> anyhow::Result<()> {
    ensure!(
        free >= needed,
        "the disk has {free} bytes free, and a copy beside the file needs {needed}: make room"
    );
    Ok(())
}

/// How many bytes there is room for beside the file.
#[cfg(unix)]
fn free(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// A server that is started as root leaves the store to its owner. One that is not may have no right to
/// do so: then it owns the copy, which is enough for it.
#[cfg(unix)]
fn give_to_owner_of(path: &Path, copy: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let (old, new) = (fs::metadata(path)?, fs::metadata(copy)?);
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    match chown(copy, Some(old.uid()), Some(old.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && new.uid() != ROOT => {
            tracing::warn!(%error, owner = old.uid(), "the upgraded store has another owner");
            Ok(())
        }
        changed => changed,
    }
}

#[cfg(not(unix))]
fn give_to_owner_of(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Copies the streams, in slots in the order of their generations, and their messages.
fn copy_streams(old: &Connection, new: &Transaction<'_>) -> anyhow::Result<u64> {
    let all =
        old.query_row("SELECT coalesce(sum(count), 0) FROM streams", [], |row| unsigned(row, 0))?;
    let mut progress = Progress::new("copied", all);
    let mut select =
        old.prepare("SELECT life, name, seq, millis, trimmed, closing FROM streams ORDER BY life")?;
    let mut messages =
        old.prepare("SELECT seq, millis, data FROM messages WHERE life = ?1 ORDER BY seq")?;
    let mut insert = new.prepare("INSERT INTO messages VALUES (?1, ?2, ?3)")?;
    let mut insert_stream = new.prepare(
        "INSERT INTO streams (slot, generation, name, base, seq, millis, trimmed, closing, count, \
         bytes, keys) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, 0)",
    )?;
    let mut streams = select.query([])?;
    let mut slot = Slot(0);
    while let Some(stream) = streams.next()? {
        slot = Slot(slot.0 + 1);
        let generation: i64 = stream.get(0)?;
        let name: String = stream.get(1)?;
        ensure!(unsigned(stream, 2)? <= MAX_OFFSET, "the stream {name} has too many messages");
        let (mut count, mut bytes) = (0, 0);
        let mut rows = messages.query([generation])?;
        while let Some(row) = rows.next()? {
            let text = row.get_ref(2)?;
            insert.execute((
                slot.row_key(unsigned(row, 0)?),
                row.get::<_, i64>(1)?,
                ToSqlOutput::Borrowed(text),
            ))?;
            count += 1;
            bytes += text.as_bytes()?.len();
            progress.advance();
        }
        insert_stream.execute((
            slot.0,
            generation,
            name,
            stream.get::<_, i64>(2)?,
            stream.get::<_, i64>(3)?,
            stream.get::<_, i64>(4)?,
            stream.get::<_, Option<String>>(5)?,
            count,
            bytes,
        ))?;
    }
    new.execute("UPDATE store SET slots = ?1", [slot.0])?;
    Ok(progress.done)
}

/// Copies the newest idempotency keys.
fn copy_keys(old: &Connection, new: &Transaction<'_>) -> anyhow::Result<()> {
    let mut slots = new.prepare("SELECT slot FROM streams WHERE generation = ?1")?;
    let mut insert = new.prepare("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut select = old.prepare(&format!(
        "SELECT life, key, digest, seq, millis, used FROM keys WHERE {KEYS} ORDER BY life, seq"
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let generation: i64 = row.get(0)?;
        let slot = slots.query_row([generation], |row| row.get(0).map(Slot))?;
        let name = key_hash::name(Generation(generation), &IdempotencyKey(row.get(1)?));
        let digest: Hash =
            row.get_ref(2)?.as_blob()?[..].first_chunk().copied().context("a key")?;
        let (millis, used): (i64, i64) = (row.get(4)?, row.get(5)?);
        insert.execute((slot.row_key(unsigned(row, 3)?), name, digest, millis, used))?;
    }
    new.execute(
        "UPDATE streams SET keys = \
         (SELECT count(*) FROM keys WHERE key > slot << ?1 AND key < (slot + 1) << ?1)",
        [OFFSET_BITS],
    )?;
    Ok(())
}

/// Copies what the store remembers of streams that were deleted.
fn copy_store(old: &Connection, new: &Transaction<'_>) -> anyhow::Result<()> {
    let generation: i64 = old.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'streams'",
        [],
        |row| row.get(0),
    )?;
    let deleted = old.query_row("SELECT deleted FROM store", [], |row| unsigned(row, 0))?;
    // Sequences began anew in each generation: what kept ids apart were milliseconds, each later
    // than all of those deleted. That still holds, but for those of a clock that was ahead.
    let sequence = if deleted < Clock::System.now() {
        old.query_row("SELECT coalesce(max(seq), 0) FROM streams", [], |row| row.get(0))?
    } else {
        BEYOND
    };
    new.execute("UPDATE store SET generation = ?1, sequence = ?2", [generation, sequence])?;
    Ok(())
}

#[cfg(test)]
mod tests;
