//! Verifies a migrated copy: compares every column of every row with the old store.

use anyhow::ensure;
use rusqlite::{Connection, Row};

use super::COPIED_KEYS;
use crate::server::log::{
    Generation, IdempotencyKey, key_hash,
    progress::Progress,
    sqlite::{read::unsigned, row_key::OFFSET_BITS},
};

/// Compares the stores.
///
/// # Errors
/// When they differ, or cannot be read.
pub(super) fn verify(old: &Connection, new: &Connection) -> anyhow::Result<()> {
    let all =
        new.query_row("SELECT coalesce(sum(count), 0) FROM streams", [], |row| unsigned(row, 0))?;
    let mut progress = Progress::new("upgrading the store: verified", all);
    let of_slot = format!("CROSS JOIN streams s ON s.slot = key >> {OFFSET_BITS} ORDER BY key");
    let sequence = format!("key - (s.slot << {OFFSET_BITS})");
    same_rows(
        "messages",
        4,
        (
            old,
            "SELECT life, seq, millis, data FROM messages \
             WHERE life IN (SELECT life FROM streams) ORDER BY life, seq",
        ),
        (new, &format!("SELECT generation, {sequence}, m.millis, data FROM messages m {of_slot}")),
        |_, _| {
            progress.add(1);
            Ok(true)
        },
    )?;
    same_rows(
        "streams",
        6,
        (old, "SELECT life, name, seq, millis, trimmed, closing FROM streams ORDER BY life"),
        (new, "SELECT generation, name, seq, millis, trimmed, closing FROM streams ORDER BY slot"),
        |_, _| Ok(true),
    )?;
    same_rows(
        "keys",
        5,
        (
            old,
            &format!(
                "SELECT life, seq, millis, used, substr(digest, 1, {}), key FROM keys WHERE {COPIED_KEYS} \
                 ORDER BY life, seq",
                size_of::<key_hash::Hash>()
            ),
        ),
        (
            new,
            &format!(
                "SELECT generation, {sequence}, k.millis, used, digest, k.name FROM keys k {of_slot}"
            ),
        ),
        |old, new| {
            let key = IdempotencyKey(old.get("key")?);
            Ok(key_hash::hash_key(Generation(old.get("life")?), &key)
                == new.get::<_, key_hash::Hash>("name")?)
        },
    )?;
    let range = format!("key > slot << {OFFSET_BITS} AND key < (slot + 1) << {OFFSET_BITS}");
    let wrong = new.query_row(
        &format!(
            "SELECT count(*) FROM streams WHERE base != 0 \
             OR count != (SELECT count(*) FROM messages WHERE {range}) \
             OR bytes != (SELECT coalesce(sum(octet_length(data)), 0) FROM messages WHERE {range}) \
             OR keys != (SELECT count(*) FROM keys WHERE {range})"
        ),
        [],
        |row| unsigned(row, 0),
    )?;
    ensure!(wrong == 0, "the copy has wrong counts in {wrong} streams");
    Ok(())
}

/// Compares the rows of two selects: the first `columns` columns directly, the others with `is_same`.
fn same_rows(
    what: &str,
    columns: usize,
    (old, select_old): (&Connection, &str),
    (new, select_new): (&Connection, &str),
    mut is_same: impl FnMut(&Row<'_>, &Row<'_>) -> rusqlite::Result<bool>,
) -> anyhow::Result<()> {
    let (mut old, mut new) = (old.prepare(select_old)?, new.prepare(select_new)?);
    let (mut old, mut new) = (old.query([])?, new.query([])?);
    for number in 1.. {
        let (old, new) = (old.next()?, new.next()?);
        let (Some(old), Some(new)) = (old, new) else {
            ensure!(old.is_none() && new.is_none(), "the copy has a different number of {what}");
            break;
        };
        for column in 0..columns {
            let same = old.get_ref(column)? == new.get_ref(column)?;
            ensure!(same, "the copy differs in its {what}, at row {number}");
        }
        ensure!(is_same(old, new)?, "the copy differs in its {what}, at row {number}");
    }
    Ok(())
}
