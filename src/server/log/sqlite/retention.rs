//! Retention: the oldest messages go, in small steps: each append removes what it displaces, and a
//! sweep does the rest, a little in each transaction, so that no publisher waits for long.

use std::time::Duration;

use super::{
    super::{KEY_LIFETIME, Life, Refusal, StreamName},
    group::Group,
    read::{Stream, signed, unsigned},
};

/// How many messages of one stream, or keys, one step removes at the most.
pub(super) const STEP: usize = 1000;
/// About how many bytes of one stream one step removes at the most.
const STEP_BYTES: u64 = 4 * 1024 * 1024;
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
    let life: Option<i64> =
        group.tx.query_row("SELECT min(life) FROM garbage", [], |row| row.get(0))?;
    let Some(life) = life else { return Ok(false) };
    let oldest = Oldest::of(group, Life(life), STEP, |_| true)?;
    oldest.remove(group, Life(life))?;
    if oldest.messages == 0 {
        group.tx.execute("DELETE FROM garbage WHERE life = ?1", [life])?;
    }
    Ok(true)
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
    let more = !due.is_empty();
    for name in due {
        // Whatever a transaction touches it trims at its end.
        if let Some(touched) = group.take_up(&name)? {
            group.put_back(name, touched);
        }
    }
    Ok(more)
}

/// Streams that are empty, and silent for as long as a message is kept.
fn forget_silent_streams(group: &mut Group<'_>) -> rusqlite::Result<bool> {
    // Its keys go with it: not before their time.
    let before_that = before(group.now, group.limits.age.max(KEY_LIFETIME));
    let silent = names(
        group,
        "SELECT name FROM streams WHERE count = 0 AND millis < ?1 LIMIT ?2",
        (signed(before_that), STREAMS),
    )?;
    let more = silent.len() == STREAMS;
    for name in silent {
        let Some(touched) = group.take_up(&name)? else { continue };
        // Someone may have spoken in this very transaction.
        let still_silent = touched.stream.count == 0 && touched.stream.head.millis < before_that;
        group.put_back(name.clone(), touched);
        if still_silent {
            let _: Result<(), Refusal> = group.delete(name)?;
        }
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

/// Removes the oldest messages of a stream that are beyond a limit, at most `most`.
pub(super) fn trim(group: &Group<'_>, stream: &mut Stream, most: usize) -> rusqlite::Result<()> {
    let limits = group.limits;
    let oldest_kept = before(group.now, limits.age);
    let oldest = Oldest::of(group, stream.life, most, |oldest| {
        stream.count.saturating_sub(oldest.messages) > limits.messages
            || stream.bytes.saturating_sub(oldest.bytes) > limits.bytes
            || oldest.next_millis < oldest_kept
    })?;
    if oldest.messages > 0 {
        oldest.remove(group, stream.life)?;
        stream.trimmed = oldest.last;
        stream.count = stream.count.saturating_sub(oldest.messages);
        stream.bytes = stream.bytes.saturating_sub(oldest.bytes);
    } else if oldest.next_millis == 0 {
        // There is none: should the counts ever be wrong, they do not stay so.
        (stream.count, stream.bytes) = (0, 0);
    }
    Ok(())
}

/// The oldest messages of a stream, as far as they are to go.
#[derive(Default)]
struct Oldest {
    messages: u64,
    bytes: u64,
    /// The sequence of the last of them.
    last: u64,
    /// When the one after them was said; 0 if nothing was found.
    next_millis: u64,
}

impl Oldest {
    /// As long as `goes` says of what was found that the next one goes too; at most `most`, and
    /// about [`STEP_BYTES`].
    fn of(
        group: &Group<'_>,
        life: Life,
        most: usize,
        goes: impl Fn(&Self) -> bool,
    ) -> rusqlite::Result<Self> {
        let mut select = group.tx.prepare_cached(
            "SELECT seq, millis, octet_length(data) FROM messages WHERE life = ?1 \
             ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = select.query((life.0, most))?;
        let mut oldest = Self::default();
        while let Some(row) = rows.next()? {
            oldest.next_millis = unsigned(row, 1)?;
            if oldest.bytes >= STEP_BYTES || !goes(&oldest) {
                break;
            }
            oldest.messages += 1;
            oldest.bytes += unsigned(row, 2)?;
            oldest.last = unsigned(row, 0)?;
        }
        Ok(oldest)
    }

    fn remove(&self, group: &Group<'_>, life: Life) -> rusqlite::Result<usize> {
        group
            .tx
            .prepare_cached("DELETE FROM messages WHERE life = ?1 AND seq <= ?2")?
            .execute((life.0, signed(self.last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{
        data::Data,
        log::{
            Append, Limits, Store,
            sqlite::{file::Location, read::Stream},
        },
    };

    const DAY: u64 = 24 * 60 * 60 * 1000;
    const LIMITS: Limits =
        Limits { messages: 10, age: Duration::from_secs(1), bytes: 1000, streams: 10 };

    fn append(group: &mut Group<'_>, name: &StreamName) {
        let batch = vec![Data::new(b"text".to_vec(), 10).expect("data")];
        let append = Append { stream: name.clone(), batch, key: None };
        group.append(append).expect("stored").expect("taken");
    }

    /// A sweep shares the transaction of those who publish at the same moment.
    #[test]
    fn a_silent_stream_that_speaks_again_is_not_forgotten() {
        let (location, _claim) = Location::claim(Store::Memory).expect("a store");
        let mut connection = location.open_to_write().expect("a connection");
        let name: StreamName = "news".parse().expect("a name");
        let mut group = Group::begin(&mut connection, LIMITS, DAY).expect("a transaction");
        append(&mut group, &name);
        group.commit().expect("stored");

        for (now, speaks) in [(3 * DAY, false), (3 * DAY + 1, true)] {
            let mut group = Group::begin(&mut connection, LIMITS, now).expect("a transaction");
            // The first sweep empties the stream; it is forgotten by the next one unless it speaks.
            if speaks {
                append(&mut group, &name);
            }
            step(&mut group).expect("a step");
            group.commit().expect("stored");
        }
        let stream = Stream::of(&connection, &name).expect("readable").expect("a stream");
        assert_eq!((stream.head.seq, stream.count), (2, 1));
    }
}
