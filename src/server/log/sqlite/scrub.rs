//! Secure deletion (scrubbing): overwrites remains of texts in the unused part of database pages.
//!
//! `secure_delete` overwrites a deleted row in its place. But when `SQLite` rebalances rows between
//! neighbouring pages, it may leave the bytes of a moved row in the gap between the page's header and
//! its rows, where they remain readable after the row is deleted. So the gap of every changed page is
//! overwritten. The changed pages are those in the write-ahead log; they are read and written through
//! `SQLite`'s virtual table `sqlite_dbpage`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::PAGE_SIZE;

/// Sizes and offsets, in bytes, of a write-ahead log:
/// <https://sqlite.org/fileformat2.html#the_write_ahead_log>.
const WAL_HEADER_BYTES: u64 = 32;
const WAL_SALTS_OFFSET: u64 = 16;
const WAL_FRAME_BYTES: u64 = 24 + PAGE_SIZE as u64;

/// The first byte of pages that hold texts or names: leaves of tables and of indexes.
const LEAF_KINDS: [u8; 2] = [13, 10];
const LEAF_HEADER_BYTES: usize = 8;
/// Other pages begin with a lesser kind, or with a page number. From this page number on, the first byte
/// of a number could be mistaken for the kind of a leaf: in files of 640 GiB and more.
const MAX_SCRUBBED_PAGES: u64 = 10 << 24;

/// Size in bytes of a write-ahead log with this number of frames.
pub(super) fn wal_length(frames: u64) -> u64 {
    WAL_HEADER_BYTES + frames * WAL_FRAME_BYTES
}

/// The position up to which a write-ahead log was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WalPosition {
    /// They change each time that the log is restarted.
    salts: [u8; 8],
    frames: u64,
}

/// The page numbers in the first `frames` frames of a write-ahead log, without the frames before
/// `position`; moves the position.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn new_pages(
    wal: &Path,
    position: &mut WalPosition,
    frames: u64,
) -> io::Result<BTreeSet<u32>> {
    let mut pages = BTreeSet::new();
    if frames == 0 {
        return Ok(pages);
    }
    let mut log = BufReader::with_capacity(64 * 1024, File::open(wal)?);
    let mut salts = [0; 8];
    log.seek(SeekFrom::Start(WAL_SALTS_OFFSET))?;
    log.read_exact(&mut salts)?;
    let from = if salts == position.salts { position.frames } else { 0 };
    log.seek(SeekFrom::Start(wal_length(from)))?;
    for _ in from..frames {
        let mut number = [0; 4];
        log.read_exact(&mut number)?;
        pages.insert(u32::from_be_bytes(number));
        log.seek_relative(WAL_FRAME_BYTES.cast_signed() - 4)?;
    }
    *position = WalPosition { salts, frames };
    Ok(pages)
}

/// Overwrites the gap of a page with zeros; returns whether it contained anything else.
pub(super) fn scrub_page(connection: &Connection, number: u32) -> rusqlite::Result<bool> {
    let clean = connection
        .prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?
        .query_row([number], |row| Ok(without_gap(row.get_ref(0)?.as_blob()?)))
        .optional()?
        .flatten();
    let Some(clean) = clean else { return Ok(false) };
    connection
        .prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?
        .execute((number, clean))?;
    Ok(true)
}

/// Whether the pages of this file can be read and written, and identified by their first byte.
pub(super) fn is_supported(connection: &Connection) -> rusqlite::Result<bool> {
    let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, u64>(0))?;
    Ok(pages < MAX_SCRUBBED_PAGES && is_compiled_in(connection)?)
}

/// Whether `SQLite` was built with `sqlite_dbpage`: see `.cargo/config.toml`.
pub(super) fn is_compiled_in(connection: &Connection) -> rusqlite::Result<bool> {
    let modules = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    connection.prepare_cached(modules)?.query_row([], |row| row.get(0))
}

/// The page with zeros in its gap. None if it is not a leaf, or its gap has zeros only.
fn without_gap(page: &[u8]) -> Option<Vec<u8>> {
    let (&kind, header) = (page.first()?, page.get(..LEAF_HEADER_BYTES)?);
    if !LEAF_KINDS.contains(&kind) {
        return None;
    }
    let number = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    // Where the cell pointers end, and where the cells begin.
    let (pointers, cells) = (LEAF_HEADER_BYTES + 2 * number(3), number(5));
    let gap = page.get(pointers..cells)?;
    if gap.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut clean = page.to_vec();
    clean[pointers..cells].fill(0);
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::log::sqlite::file::Location;

    #[test]
    fn the_gap_of_a_leaf_is_overwritten_and_nothing_else() {
        let leaf = |kind: u8| {
            let mut page = vec![0xAA; 4096];
            // Two cells, which begin at 4000.
            page[..LEAF_HEADER_BYTES].copy_from_slice(&[kind, 0, 0, 0, 2, 0x0F, 0xA0, 0]);
            page
        };
        for kind in [13, 10] {
            let (page, clean) =
                (leaf(kind), without_gap(&leaf(kind)).expect("its gap was not empty"));
            assert_eq!((&clean[..12], &clean[4000..]), (&page[..12], &page[4000..]));
            assert!(clean[12..4000].iter().all(|byte| *byte == 0));
            assert_eq!(without_gap(&clean), None);
        }
        for kind in [0, 2, 5, 1] {
            assert_eq!(without_gap(&leaf(kind)), None, "not a leaf");
        }
        assert_eq!(without_gap(&[]), None);
        assert_eq!(without_gap(&[13; 4096]), None, "not a valid page");
    }

    #[test]
    fn a_page_is_written_through_sqlite() {
        let folder = tempfile::tempdir().expect("a folder");
        let (location, _lock) =
            Location::lock(Some(folder.path().join("tidings.db"))).expect("a store");
        let connection = location.open_to_write().expect("a connection").connection;
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'messages'";
        let root: u32 = connection.query_row(root, [], |row| row.get(0)).expect("a page");
        assert_eq!(scrub_page(&connection, root), Ok(false), "it is clean");
        let read = || -> Vec<u8> {
            let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
            connection.query_row(sql, [root], |row| row.get(0)).expect("a page")
        };
        let sound = read();
        let mut dirty = sound.clone();
        dirty[100] = 7;
        let sql = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
        connection.execute(sql, (root, &dirty)).expect("written");
        assert_eq!(scrub_page(&connection, root), Ok(true));
        assert_eq!(read(), sound);
        let sound: String = connection
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .expect("an answer");
        assert_eq!(sound, "ok");
    }
}
