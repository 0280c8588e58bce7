//! Disk space: pages that are no longer needed are given back.

use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Free pages that stay in the file: what is trimmed makes room for what is published next. So many,
/// and one of so many that the file has.
const FREE_PAGES: u64 = 128;
const FREE_SHARE: u64 = 64;
/// How many pages are given back in one transaction at the most, and for how long.
const GIVE_BACK: u64 = 1024;
const GIVE_BACK_TIME: Duration = Duration::from_millis(5);

/// Gives back some of the pages that are free beyond a reserve; tells whether there are more.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    let surplus = free.saturating_sub(FREE_PAGES + pages / FREE_SHARE);
    if surplus == 0 {
        return Ok(false);
    }
    let begun = Instant::now();
    let mut given = 0;
    // Each step of the statement gives back one page.
    let sql = format!("PRAGMA incremental_vacuum({})", surplus.min(GIVE_BACK));
    let mut vacuum = connection.prepare(&sql)?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {
        given += 1;
        if begun.elapsed() > GIVE_BACK_TIME {
            break;
        }
    }
    Ok(given < surplus)
}
