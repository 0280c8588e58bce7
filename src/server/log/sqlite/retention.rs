//! Retention: the oldest messages go, in small steps: each append removes what it displaces, and a
//! sweep does the rest, a little in each transaction, so that no publisher waits for long.

use super::{
    idempotency,
    read::{ClockSkew, Stream, Trimmed, far_ahead, signed, time_before, unsigned},
    row_key::{OFFSET_BITS, Slot, offset},
    space,
    transaction::WriteBatch,
    wal,
};
use crate::server::log::{AppendError, KEY_LIFETIME, StreamName};

/// How many messages of one stream one step removes at the most.
pub(super) const STEP: usize = 1000;
/// About how many bytes of one stream one step removes at the most: they are overwritten.
pub(super) const STEP_BYTES: u64 = 1024 * 1024;
/// How many streams one step looks after.
const STREAMS: usize = 20;

/// Does a part of what is due, and tells whether there is more. It always writes, so that it also
/// finds out whether the store can be written.
pub(super) fn step(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    wal::probe_write(&batch.tx)?;
    let keys = batch.restamp_keys()? | batch.forget_old_keys()?;
    let garbage = remove_garbage(batch)?;
    let trimmed = trim_streams(batch)?;
    let silent = forget_silent_streams(batch)?;
    let more = keys || garbage || trimmed || silent || batch.has_too_many_keys();
    // Pages that become free are given back once there will be no more of them.
    Ok(more || space::give_back(&batch.tx)?)
}

/// Messages and keys of deleted streams.
fn remove_garbage(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    let slots: Vec<i64> = batch
        .tx
        .prepare_cached("SELECT slot FROM garbage LIMIT ?1")?
        .query_map([STREAMS], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut more = slots.len() == STREAMS;
    let (mut messages, mut bytes) = (0, 0);
    for slot in slots.into_iter().map(Slot) {
        if messages >= STEP || bytes >= STEP_BYTES {
            return Ok(true);
        }
        let max = TrimBound { messages: STEP - messages, bytes: STEP_BYTES };
        let oldest = Oldest::of(batch, slot, max, |_| true)?;
        oldest.remove(batch, slot)?;
        messages += oldest.messages;
        bytes += oldest.bytes;
        let forgotten = batch
            .tx
            .prepare_cached(
                "DELETE FROM keys WHERE key IN \
                 (SELECT key FROM keys WHERE key BETWEEN ?1 AND ?2 LIMIT ?3)",
            )?
            .execute((slot.start(), slot.end(), idempotency::STEP))?;
        if oldest.messages == 0 && forgotten == 0 {
            batch.tx.execute("DELETE FROM garbage WHERE slot = ?1", [slot.0])?;
            batch.tx.execute("INSERT INTO free_slots VALUES (?1)", [slot.0])?;
        } else {
            more = true;
        }
    }
    Ok(more)
}

fn trim_streams(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    let (limits, now) = (batch.limits, batch.now);
    let too_old = time_before(now, limits.age);
    let due = names(
        batch,
        "SELECT name FROM streams s WHERE count > ?1 OR bytes > ?2 OR keys >= ?7 \
         OR (SELECT millis FROM messages WHERE key > slot << ?6 AND key < (slot + 1) << ?6 \
             ORDER BY key LIMIT 1) < ?3 \
         OR (ahead_since IS NULL) = (millis > ?4) \
         OR (ahead_since < ?3 AND iif(trimmed < ahead_seq, count > 0, ahead_seq < seq)) LIMIT ?5",
        (
            signed(limits.messages),
            signed(limits.bytes),
            signed(too_old),
            signed(far_ahead(now)),
            STREAMS,
            OFFSET_BITS,
            signed(idempotency::too_many(limits.keys)),
        ),
    )?;
    let more = !due.is_empty();
    for name in due {
        // Whatever a transaction loads it trims at its end.
        if let Some(mut dirty) = batch.load(&name)? {
            mark_clock_skew(&mut dirty.stream, now, too_old);
            batch.stash(name, dirty);
        }
    }
    Ok(more)
}

/// Notes that the ids of a stream are far ahead of the clock, or no longer.
fn mark_clock_skew(stream: &mut Stream, now: u64, too_old: u64) {
    if !stream.is_ahead(now) {
        stream.skew = None;
        return;
    }
    let mark = ClockSkew { since: now, seq: stream.head.seq };
    let skew = *stream.skew.get_or_insert(mark);
    // All of what was there then has gone by its age: what came since has its own.
    if skew.since < too_old && stream.trimmed.seq >= skew.seq && skew.seq < mark.seq {
        stream.skew = Some(mark);
    }
}

/// Streams that are empty, and silent for as long as a message is kept.
fn forget_silent_streams(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    // Its keys go with it: not before their time.
    let silent_since = time_before(batch.now, batch.limits.age.max(KEY_LIFETIME));
    let silent = names(
        batch,
        "SELECT name FROM streams WHERE count = 0 \
         AND (millis < ?1 OR (millis > ?2 AND ahead_since < ?1 AND ahead_seq = seq)) LIMIT ?3",
        (signed(silent_since), signed(far_ahead(batch.now)), STREAMS),
    )?;
    let more = silent.len() == STREAMS;
    for name in silent {
        let Some(dirty) = batch.load(&name)? else { continue };
        // Someone may have published in this very transaction.
        let stream = &dirty.stream;
        let is_silent = stream.head.millis < silent_since
            || stream.known_old(batch.now, silent_since) == Some(stream.head.seq);
        let still_silent = stream.count == 0 && is_silent;
        batch.stash(name.clone(), dirty);
        if still_silent {
            let _: Result<(), AppendError> = batch.delete(name)?;
        }
    }
    Ok(more)
}

fn names(
    batch: &WriteBatch<'_>,
    select: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StreamName>> {
    let mut select = batch.tx.prepare_cached(select)?;
    let names = select.query_map(parameters, |row| row.get::<_, String>(0))?;
    names.filter_map(|name| name.map(|name| name.parse().ok()).transpose()).collect()
}

/// How much is removed at a time: so many messages at the most, and about so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrimBound {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// Removes the oldest messages of a stream that are beyond a limit.
pub(super) fn trim(
    batch: &mut WriteBatch<'_>,
    stream: &mut Stream,
    max: TrimBound,
) -> rusqlite::Result<()> {
    let limits = batch.limits;
    let too_old = time_before(batch.now, limits.age);
    let known_old = stream.known_old(batch.now, too_old);
    let oldest = Oldest::of(batch, stream.slot, max, |oldest| {
        stream.count.saturating_sub(oldest.messages as u64) > limits.messages
            || stream.bytes.saturating_sub(oldest.bytes) > limits.bytes
            || oldest.next.is_some_and(|(next, millis)| {
                millis < too_old || known_old.is_some_and(|seq| stream.base + next <= seq)
            })
    })?;
    if let Some((last, millis)) = oldest.last {
        oldest.remove(batch, stream.slot)?;
        stream.trimmed = Trimmed { seq: stream.base + last, millis: Some(millis) };
        stream.count = stream.count.saturating_sub(oldest.messages as u64);
        stream.bytes = stream.bytes.saturating_sub(oldest.bytes);
    } else if oldest.next.is_none() {
        // There is none: should the counts ever be wrong, they do not stay so.
        (stream.count, stream.bytes) = (0, 0);
    }
    Ok(())
}

/// The oldest messages of a slot, as far as they are to go.
#[derive(Default)]
struct Oldest {
    messages: usize,
    bytes: u64,
    /// The last of them: its offset and milliseconds.
    last: Option<(u64, u64)>,
    /// The one after them, or the last one that was looked at.
    next: Option<(u64, u64)>,
}

impl Oldest {
    /// As long as `goes` says of what was found that the next one goes too.
    fn of(
        batch: &WriteBatch<'_>,
        slot: Slot,
        max: TrimBound,
        goes: impl Fn(&Self) -> bool,
    ) -> rusqlite::Result<Self> {
        let mut select = batch.tx.prepare_cached(
            "SELECT key, millis, octet_length(data) FROM messages WHERE key BETWEEN ?1 AND ?2 \
             ORDER BY key LIMIT ?3",
        )?;
        let mut rows = select.query((slot.start(), slot.end(), max.messages))?;
        let mut oldest = Self::default();
        while let Some(row) = rows.next()? {
            oldest.next = Some((offset(row.get(0)?), unsigned(row, 1)?));
            if oldest.bytes >= max.bytes || !goes(&oldest) {
                break;
            }
            oldest.messages += 1;
            oldest.bytes += unsigned(row, 2)?;
            oldest.last = oldest.next;
        }
        Ok(oldest)
    }

    fn remove(&self, batch: &mut WriteBatch<'_>, slot: Slot) -> rusqlite::Result<()> {
        let Some((last, _)) = self.last else { return Ok(()) };
        batch.removed = true;
        batch
            .tx
            .prepare_cached("DELETE FROM messages WHERE key BETWEEN ?1 AND ?2")?
            .execute((slot.start(), slot.row_key(last)))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::log::{
        RetentionLimits, Store,
        message_text::MessageText,
        sqlite::{file::Location, transaction::Totals},
    };

    const DAY: u64 = 24 * 60 * 60 * 1000;
    const LIMITS: RetentionLimits = RetentionLimits {
        messages: 10,
        age: std::time::Duration::from_secs(1),
        bytes: 1000,
        streams: 10,
        keys: 10,
        all_keys: 20,
    };

    fn append(batch: &mut WriteBatch<'_>, name: &StreamName) {
        let data = vec![MessageText::new(b"text".to_vec(), 10).expect("data")];
        batch.append(name.clone(), data, None).expect("stored").expect("taken");
    }

    /// A sweep shares the transaction of what is published at the same moment.
    #[test]
    fn a_silent_stream_that_speaks_again_is_not_forgotten() {
        let (location, _claim) = Location::claim(Store::Memory).expect("a store");
        let mut connection = location.open_to_write().expect("a connection").connection;
        let name: StreamName = "news".parse().expect("a name");
        for (now, speaks, sweeps) in
            [(DAY, true, false), (3 * DAY, false, true), (3 * DAY + 1, true, true)]
        {
            let totals = Totals::of(&connection).expect("readable");
            let mut batch =
                WriteBatch::begin(&mut connection, LIMITS, now, totals).expect("a transaction");
            // The first sweep empties the stream; it is forgotten by the next one unless it speaks.
            if speaks {
                append(&mut batch, &name);
            }
            if sweeps {
                step(&mut batch).expect("a step");
            }
            batch.commit().expect("stored");
        }
        let stream = Stream::of(&connection, &name).expect("readable").expect("a stream");
        assert_eq!((stream.head.seq, stream.count), (2, 1));
    }

    /// One stream that takes all that a transaction does.
    #[test]
    fn bytes_are_bounded_however_many_come_at_a_time() {
        let (location, _claim) = Location::claim(Store::Memory).expect("a store");
        let mut connection = location.open_to_write().expect("a connection").connection;
        let name: StreamName = "news".parse().expect("a name");
        let limits = RetentionLimits { messages: 1_000_000, bytes: 1024 * 1024, ..LIMITS };
        for round in 0..5 {
            let totals = Totals::of(&connection).expect("readable");
            let mut batch =
                WriteBatch::begin(&mut connection, limits, 0, totals).expect("a transaction");
            let data = (0..64).map(|_| MessageText::new(vec![b'x'; 64 * 1024], usize::MAX));
            let data = data.collect::<Result<_, _>>().expect("data");
            batch.append(name.clone(), data, None).expect("stored").expect("taken");
            batch.commit().expect("stored");
            let stream = Stream::of(&connection, &name).expect("readable").expect("a stream");
            assert!(stream.bytes <= limits.bytes, "round {round}: {} bytes", stream.bytes);
        }
    }
}
