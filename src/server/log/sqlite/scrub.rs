//! Scrubbing: overwrites copies of texts that `SQLite` leaves in the unused part of a page.
//!
//! `secure_delete` overwrites what is deleted where it is. But when `SQLite` spreads rows anew over
//! neighbouring pages it may leave the bytes of a row that moved in the gap between the page's header
//! and its rows, where they stay legible when the row itself is deleted later. So the pages that were
//! changed are looked at once more, and their gaps overwritten. The pages are those in the write-ahead
//! log; they are read and written as pages by `SQLite` itself (`sqlite_dbpage`).

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::PAGE_SIZE;

/// The parts of a write-ahead log: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.
const WAL_HEADER: u64 = 32;
const WAL_SALTS: u64 = 16;
const FRAME: u64 = 24 + PAGE_SIZE as u64;

/// The kinds of pages that hold texts or names, in their first byte: leaves of tables and of indexes.
const LEAVES: [u8; 2] = [13, 10];
const LEAF_HEADER: usize = 8;
/// Any other page begins with a kind that is less, or with the number of a page. From this number on
/// that could be taken for a leaf, in a file of 640 GiB.
const AMBIGUOUS: u64 = 10 << 24;

/// How many bytes a write-ahead log of so many frames has.
pub(super) fn wal_length(frames: u64) -> u64 {
    WAL_HEADER + frames * FRAME
}

/// How far a write-ahead log was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WalPosition {
    /// The log has others each time that it is begun anew.
    salts: [u8; 8],
    frames: u64,
}

/// The numbers of the pages that the first `frames` frames of a write-ahead log hold, beyond those
/// that were read before; moves the position.
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
    log.seek(SeekFrom::Start(WAL_SALTS))?;
    log.read_exact(&mut salts)?;
    let from = if salts == position.salts { position.frames } else { 0 };
    log.seek(SeekFrom::Start(wal_length(from)))?;
    for _ in from..frames {
        let mut number = [0; 4];
        log.read_exact(&mut number)?;
        pages.insert(u32::from_be_bytes(number));
        log.seek_relative(FRAME.cast_signed() - 4)?;
    }
    *position = WalPosition { salts, frames };
    Ok(pages)
}

/// Overwrites the gap of a page, if there is anything in it; tells whether there was.
pub(super) fn page(connection: &Connection, number: u32) -> rusqlite::Result<bool> {
    let clean = connection
        .prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?
        .query_row([number], |row| Ok(cleaned(row.get_ref(0)?.as_blob()?)))
        .optional()?
        .flatten();
    let Some(clean) = clean else { return Ok(false) };
    connection
        .prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?
        .execute((number, clean))?;
    Ok(true)
}

/// Whether pages of this file can be read as such, and told from each other by their first byte.
pub(super) fn is_possible(connection: &Connection) -> rusqlite::Result<bool> {
    let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, u64>(0))?;
    Ok(pages < AMBIGUOUS && is_compiled_in(connection)?)
}

/// Whether this `SQLite` gives access to its pages: see `.cargo/config.toml`.
pub(super) fn is_compiled_in(connection: &Connection) -> rusqlite::Result<bool> {
    let modules = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    connection.prepare_cached(modules)?.query_row([], |row| row.get(0))
}

/// The page with nothing in its gap, if there is something in it now.
fn cleaned(page: &[u8]) -> Option<Vec<u8>> {
    let (&kind, header) = (page.first()?, page.get(..LEAF_HEADER)?);
    if !LEAVES.contains(&kind) {
        return None;
    }
    let number = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    // Where the pointers to its cells end, and where the cells begin.
    let (pointers, cells) = (LEAF_HEADER + 2 * number(3), number(5));
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
    use crate::server::log::{Store, sqlite::file::Location};

    #[test]
    fn the_gap_of_a_leaf_is_overwritten_and_nothing_else() {
        let leaf = |kind: u8| {
            let mut page = vec![0xAA; 4096];
            // Two cells, which begin at 4000.
            page[..LEAF_HEADER].copy_from_slice(&[kind, 0, 0, 0, 2, 0x0F, 0xA0, 0]);
            page
        };
        for kind in [13, 10] {
            let (page, clean) = (leaf(kind), cleaned(&leaf(kind)).expect("something was there"));
            assert_eq!((&clean[..12], &clean[4000..]), (&page[..12], &page[4000..]));
            assert!(clean[12..4000].iter().all(|byte| *byte == 0));
            assert_eq!(cleaned(&clean), None);
        }
        for kind in [0, 2, 5, 1] {
            assert_eq!(cleaned(&leaf(kind)), None, "no leaf");
        }
        assert_eq!(cleaned(&[]), None);
        assert_eq!(cleaned(&[13; 4096]), None, "no page that SQLite would write");
    }

    #[test]
    fn a_page_is_written_through_sqlite() {
        let folder = tempfile::tempdir().expect("a folder");
        let (location, _claim) =
            Location::claim(Store::File(folder.path().join("tidings.db"))).expect("a store");
        let connection = location.open_to_write().expect("a connection").connection;
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'messages'";
        let root: u32 = connection.query_row(root, [], |row| row.get(0)).expect("a page");
        assert_eq!(page(&connection, root), Ok(false), "it is clean");
        let read = || -> Vec<u8> {
            let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
            connection.query_row(sql, [root], |row| row.get(0)).expect("a page")
        };
        let sound = read();
        let mut dirty = sound.clone();
        dirty[100] = 7;
        let sql = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
        connection.execute(sql, (root, &dirty)).expect("written");
        assert_eq!(page(&connection, root), Ok(true));
        assert_eq!(read(), sound);
        let sound: String = connection
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .expect("an answer");
        assert_eq!(sound, "ok");
    }
}
