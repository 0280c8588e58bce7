//! Schema migration of a store of Tidings 0.1 (schema 1): a copy with the new schema is written to the
//! same folder, verified, and renamed over the file. If the server is killed at any point, the file is
//! complete, with the old schema or the new one.

mod verify;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, types::ToSqlOutput};

use self::verify::verify;
use super::{
    check::refuse_damaged,
    folder::{create_private, sibling, sync_folder},
    read::unsigned,
    row_key::{MAX_OFFSET, OFFSET_BITS, Slot},
    schema,
};
use crate::server::{
    clock::Clock,
    log::{
        Generation, IdempotencyKey,
        key_hash::{self, Hash},
        progress::Progress,
    },
};

/// Suffix of the copy's file name until it replaces the store.
const COPY_SUFFIX: &str = "-upgrade";
/// Disk space that must remain free, in bytes.
const SPACE_MARGIN_BYTES: u64 = 4 * 1024 * 1024;
/// SQL condition: which idempotency keys are copied, the newest million.
const COPIED_KEYS: &str = "life IN (SELECT life FROM streams) AND used >= \
     (SELECT min(used) FROM (SELECT used FROM keys ORDER BY used DESC LIMIT 1000000))";
/// The user id that may own any file.
#[cfg(unix)]
const ROOT: u32 = 0;
/// Greater than every sequence that a stream can have had.
const ABOVE_ALL_SEQUENCES: i64 = 1 << 32;

/// Removes the files of an interrupted migration.
pub(super) fn remove_unfinished(path: &Path) -> io::Result<()> {
    let copy = copy_of(path);
    remove(&sibling(&copy, "-journal"))?;
    remove(&copy)
}

/// Migrates the file to the current schema. `old` must be the only connection to it.
///
/// # Errors
/// When the file is damaged, the disk has too little space, or the copy cannot be written: then the file
/// is unchanged. When its folder cannot be synced: then the file is the new one, but after a power cut
/// it may be the old one.
pub(super) fn migrate(old: Connection, path: &Path) -> anyhow::Result<()> {
    let outcome = copy(&old, path).and_then(|copied| {
        put_in_place(old, path, &copied)?;
        Ok(copied)
    });
    if outcome.is_err() {
        // Remaining files are removed at the next start.
        let _ = remove_unfinished(path);
    }
    let Copied { began, messages, .. } = outcome
        .context("it cannot be upgraded to the schema of this version; nothing was changed")?;
    sync_folder(path).context("it was upgraded, but its folder cannot be synced; start again")?;
    let duration_ms = began.elapsed().as_millis();
    tracing::info!(messages, duration_ms, "the store is upgraded");
    Ok(())
}

/// A finished copy.
struct Copied {
    copy: PathBuf,
    began: Instant,
    messages: u64,
}

fn copy(old: &Connection, path: &Path) -> anyhow::Result<Copied> {
    let began = Instant::now();
    refuse_damaged(old, "before the upgrade")?;
    let needed_bytes = needed_bytes(old, path)?;
    ensure_space(free_bytes(path)?, needed_bytes)?;
    tracing::info!(bytes = needed_bytes, "upgrading the store: it is copied to the same folder");
    let copy = copy_of(path);
    create_private(&copy)?;
    let messages = {
        let mut new = open(&copy)?;
        schema::create(&mut new)?;
        // No journal and no sync: an unfinished copy is discarded.
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
    refuse_damaged(&new, "the upgraded copy")?;
    verify(old, &new)?;
    Ok(Copied { copy, began, messages })
}

fn put_in_place(old: Connection, path: &Path, Copied { copy, .. }: &Copied) -> anyhow::Result<()> {
    give_to_owner_of(path, copy)?;
    File::options().read(true).write(true).open(copy)?.sync_all()?;
    // Moves the write-ahead log into the old file and deletes it: a new file with an old log would
    // appear damaged, or be damaged by it.
    let mode: String =
        old.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    ensure!(mode == "delete", "another program has it open; close that program");
    old.close().map_err(|(_, error)| error)?;
    remove(&sibling(path, "-wal"))?;
    remove(&sibling(path, "-shm"))?;
    sync_folder(path)?;
    fs::rename(copy, path)?;
    Ok(())
}

fn copy_of(path: &Path) -> PathBuf {
    sibling(path, COPY_SUFFIX)
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

/// The most bytes that the migration needs: for the copy, in which no row is larger than before (rows
/// that are just too large for a page waste half of it), and for the growth of the old file when its
/// write-ahead log is moved into it.
fn needed_bytes(old: &Connection, path: &Path) -> anyhow::Result<u64> {
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
    Ok(used.min(2 * text + 40 * rows + 160 * keys + 400 * streams) + growth + SPACE_MARGIN_BYTES)
}

fn ensure_space(free_bytes: u64, needed_bytes: u64) -> anyhow::Result<()> {
    ensure!(
        free_bytes >= needed_bytes,
        "the disk has {free_bytes} bytes free, and a copy in the same folder needs {needed_bytes}: \
        make room"
    );
    Ok(())
}

/// Free bytes on the disk of the file.
#[cfg(unix)]
fn free_bytes(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Gives the copy to the owner of the file, for a server that runs as root. Another user may lack the
/// permission to change the owner: then the server owns the copy, which is sufficient.
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

/// Copies the streams and their messages. Slots are assigned in the order of the generations.
fn copy_streams(old: &Connection, new: &Transaction<'_>) -> anyhow::Result<u64> {
    let all =
        old.query_row("SELECT coalesce(sum(count), 0) FROM streams", [], |row| unsigned(row, 0))?;
    let mut progress = Progress::new("upgrading the store: copied", all);
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
            progress.add(1);
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
        "SELECT life, key, digest, seq, millis, used FROM keys WHERE {COPIED_KEYS} ORDER BY life, seq"
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let generation: i64 = row.get(0)?;
        let slot = slots.query_row([generation], |row| row.get(0).map(Slot))?;
        let name = key_hash::hash_key(Generation(generation), &IdempotencyKey(row.get(1)?));
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

/// Copies the counters of the store, which outlast deleted streams.
fn copy_store(old: &Connection, new: &Transaction<'_>) -> anyhow::Result<()> {
    let generation: i64 = old.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'streams'",
        [],
        |row| row.get(0),
    )?;
    let deleted = old.query_row("SELECT deleted FROM store", [], |row| unsigned(row, 0))?;
    // In schema 1 sequences restarted with each generation: ids differed by their milliseconds,
    // later than those of all deleted streams. That still holds, unless a clock was ahead.
    let sequence = if deleted < Clock::System.now() {
        old.query_row("SELECT coalesce(max(seq), 0) FROM streams", [], |row| row.get(0))?
    } else {
        ABOVE_ALL_SEQUENCES
    };
    new.execute("UPDATE store SET generation = ?1, sequence = ?2", [generation, sequence])?;
    Ok(())
}

#[cfg(test)]
mod tests;
