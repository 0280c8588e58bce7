//! Retention: the oldest messages go, in steps that no publisher has to wait for.

use std::time::Duration;

use super::{
    super::{KEY_LIFETIME, Refusal, StreamName},
    read::{Stream, signed, unsigned},
    write::Group,
};

/// How many messages one step removes at the most.
pub(super) const STEP: usize = 1000;
/// How many streams one step looks after.
const STREAMS: usize = 20;

/// Does a part of what is due, and tells whether there is more. It always writes, so that it also
/// finds out whether the store can be written.
pub(super) fn step(group: &mut Group<'_>) -> rusqlite::Result<bool> {
    group.tx.execute("UPDATE store SET deleted = deleted", [])?;
    let forgotten = signed(keys_forgotten(group.now));
    let keys = group.tx.execute(
        "DELETE FROM keys WHERE (life, key) IN \
         (SELECT life, key FROM keys WHERE used <= ?1 LIMIT ?2)",
        (forgotten, STEP),
    )?;
    let garbage = remove_garbage(group)?;
    let trimmed = trim_streams(group)?;
    let silent = forget_silent_streams(group)?;
    Ok(keys == STEP || garbage || trimmed || silent)
}

/// Keys that were used then or before are not remembered any more.
pub(super) fn keys_forgotten(now: u64) -> u64 {
    before(now, KEY_LIFETIME)
}

fn before(now: u64, age: Duration) -> u64 {
    now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// Messages of deleted streams.
fn remove_garbage(group: &Group<'_>) -> rusqlite::Result<bool> {
    let removed = group.tx.execute(
        "DELETE FROM messages WHERE (life, seq) IN (SELECT life, seq FROM messages \
         WHERE life = (SELECT min(life) FROM garbage) LIMIT ?1)",
        [STEP],
    )?;
    if removed < STEP {
        group.tx.execute("DELETE FROM garbage WHERE life = (SELECT min(life) FROM garbage)", [])?;
    }
    group.tx.query_row("SELECT EXISTS (SELECT 1 FROM garbage)", [], |row| row.get(0))
}

fn trim_streams(group: &mut Group<'_>) -> rusqlite::Result<bool> {
    let limits = group.limits;
    let due = names(
        group,
        "SELECT name FROM streams s WHERE count > ?1 OR bytes > ?2 OR \
         (SELECT millis FROM messages m WHERE m.life = s.life ORDER BY seq LIMIT 1) < ?3 LIMIT ?4",
        (
            signed(limits.messages),
            signed(limits.bytes),
            signed(before(group.now, limits.age)),
            STREAMS,
        ),
    )?;
    let mut more = due.len() == STREAMS;
    for name in due {
        let Some(mut open) = group.open(&name)? else { continue };
        more |= trim(group, &mut open.stream, STEP / STREAMS)?;
        group.put_back(name, open);
    }
    Ok(more)
}

/// Streams that are empty, and silent for as long as a message is kept.
fn forget_silent_streams(group: &mut Group<'_>) -> rusqlite::Result<bool> {
    let silent = names(
        group,
        "SELECT name FROM streams WHERE count = 0 AND millis < ?1 LIMIT ?2",
        (signed(before(group.now, group.limits.age)), STREAMS),
    )?;
    let more = silent.len() == STREAMS;
    for name in silent {
        // It was found in this transaction: it is there.
        let _: Result<(), Refusal> = group.delete(name)?;
    }
    Ok(more)
}

fn names(
    group: &Group<'_>,
    select: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StreamName>> {
    let mut select = group.tx.prepare_cached(select)?;
    let names = select.query_map(parameters, |row| row.get::<_, String>(0))?;
    names.filter_map(|name| name.map(|name| name.parse().ok()).transpose()).collect()
}

/// Removes the oldest messages of a stream that are beyond a limit, at most `most`; tells whether
/// there may be more.
pub(super) fn trim(group: &Group<'_>, stream: &mut Stream, most: usize) -> rusqlite::Result<bool> {
    let limits = group.limits;
    let oldest_kept = before(group.now, limits.age);
    let mut select = group.tx.prepare_cached(
        "SELECT seq, millis, octet_length(data) FROM messages WHERE life = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut oldest = select.query((stream.life.0, most))?;
    let mut removed = 0;
    while let Some(row) = oldest.next()? {
        let beyond = stream.count > limits.messages
            || stream.bytes > limits.bytes
            || unsigned(row, 1)? < oldest_kept;
        if !beyond {
            break;
        }
        stream.trimmed = unsigned(row, 0)?;
        stream.count = stream.count.saturating_sub(1);
        stream.bytes = stream.bytes.saturating_sub(unsigned(row, 2)?);
        removed += 1;
    }
    if removed > 0 {
        group
            .tx
            .prepare_cached("DELETE FROM messages WHERE life = ?1 AND seq <= ?2")?
            .execute((stream.life.0, signed(stream.trimmed)))?;
    }
    Ok(removed == most)
}
