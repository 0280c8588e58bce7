//! Disk space: releases free pages (incremental vacuum).

use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Free pages that stay in the file for new messages: this number, and this share of its pages (one of
/// 64).
const MIN_FREE_PAGES: u64 = 128;
const FREE_PAGES_SHARE: u64 = 64;
/// The most pages that one transaction releases, and the longest time for it.
const MAX_RELEASED_PAGES: u64 = 1024;
const MAX_RELEASE_TIME: Duration = Duration::from_millis(5);

/// Releases some of the free pages above the reserve; returns whether there are more.
pub(super) fn release_pages(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    let surplus = free.saturating_sub(MIN_FREE_PAGES + pages / FREE_PAGES_SHARE);
    if surplus == 0 {
        return Ok(false);
    }
    let begun = Instant::now();
    let mut released = 0;
    // Each step of the statement releases one page.
    let sql = format!("PRAGMA incremental_vacuum({})", surplus.min(MAX_RELEASED_PAGES));
    let mut vacuum = connection.prepare(&sql)?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {
        released += 1;
        if begun.elapsed() > MAX_RELEASE_TIME {
            break;
        }
    }
    Ok(released < surplus)
}
