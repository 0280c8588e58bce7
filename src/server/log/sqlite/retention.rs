//! Retention: removes the oldest messages in small steps. Each append removes what then exceeds the
//! limits; a sweep removes the rest, a little in each transaction, so that no publisher waits for long.

use super::{
    idempotency,
    read::{ClockSkew, StreamRow, Trimmed, signed, skew_threshold, time_before, unsigned},
    row_key::{OFFSET_BITS, Slot, offset},
    space,
    transaction::WriteBatch,
    wal,
};
use crate::server::log::{AppendError, KEY_LIFETIME, StreamName};

/// The most messages that one step removes from a stream.
pub(super) const MESSAGES_PER_STEP: usize = 1000;
/// The approximate limit of bytes that one step removes from a stream, and overwrites.
pub(super) const BYTES_PER_STEP: u64 = 1024 * 1024;
/// The most streams that one step processes.
const STREAMS_PER_STEP: usize = 20;

/// Does some of the work of a sweep; returns whether there is more. It always writes, which also detects
/// whether the store can be written.
pub(super) fn step(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    wal::probe_write(&batch.tx)?;
    let keys = batch.restamp_keys()? | batch.delete_expired_keys()?;
    let garbage = remove_garbage(batch)?;
    let trimmed = trim_streams(batch)?;
    let idle = delete_idle_streams(batch)?;
    let more = keys || garbage || trimmed || idle || batch.has_too_many_keys();
    // Free pages are released once no more will become free.
    Ok(more || space::release_pages(&batch.tx)?)
}

/// Removes some messages and keys of deleted streams; returns whether there are more.
fn remove_garbage(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    let slots: Vec<i64> = batch
        .tx
        .prepare_cached("SELECT slot FROM garbage LIMIT ?1")?
        .query_map([STREAMS_PER_STEP], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut more = slots.len() == STREAMS_PER_STEP;
    let (mut messages, mut bytes) = (0, 0);
    for slot in slots.into_iter().map(Slot) {
        if messages >= MESSAGES_PER_STEP || bytes >= BYTES_PER_STEP {
            return Ok(true);
        }
        let max = TrimBound { messages: MESSAGES_PER_STEP - messages, bytes: BYTES_PER_STEP };
        let oldest = OldestMessages::of(batch, slot, max, |_| true)?;
        oldest.remove(batch, slot)?;
        messages += oldest.messages;
        bytes += oldest.bytes;
        let deleted_keys = batch
            .tx
            .prepare_cached(
                "DELETE FROM keys WHERE key IN \
                 (SELECT key FROM keys WHERE key BETWEEN ?1 AND ?2 LIMIT ?3)",
            )?
            .execute((slot.start(), slot.end(), idempotency::KEYS_PER_STEP))?;
        if oldest.messages == 0 && deleted_keys == 0 {
            batch.tx.execute("DELETE FROM garbage WHERE slot = ?1", [slot.0])?;
            batch.tx.execute("INSERT INTO free_slots VALUES (?1)", [slot.0])?;
        } else {
            more = true;
        }
    }
    Ok(more)
}

/// Trims some streams that exceed a limit; returns whether there may be more.
fn trim_streams(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    let (limits, now) = (batch.limits, batch.now);
    let cutoff = time_before(now, limits.age);
    let due = select_names(
        batch,
        "SELECT name FROM streams s WHERE count > ?1 OR bytes > ?2 OR keys >= ?7 \
         OR (SELECT millis FROM messages WHERE key > slot << ?6 AND key < (slot + 1) << ?6 \
             ORDER BY key LIMIT 1) < ?3 \
         OR (ahead_since IS NULL) = (millis > ?4) \
         OR (ahead_since < ?3 AND iif(trimmed < ahead_seq, count > 0, ahead_seq < seq)) LIMIT ?5",
        (
            signed(limits.messages),
            signed(limits.bytes),
            signed(cutoff),
            signed(skew_threshold(now)),
            STREAMS_PER_STEP,
            OFFSET_BITS,
            signed(idempotency::trim_threshold(limits.keys)),
        ),
    )?;
    let more = !due.is_empty();
    for name in due {
        // The commit trims every stream that the transaction has loaded.
        if let Some(mut dirty) = batch.load(&name)? {
            update_clock_skew(&mut dirty.stream, now, cutoff);
            batch.stash(name, dirty);
        }
    }
    Ok(more)
}

/// Records whether the ids of a stream are far ahead of the clock.
fn update_clock_skew(stream: &mut StreamRow, now: u64, cutoff: u64) {
    if !stream.is_ahead_of_clock(now) {
        stream.skew = None;
        return;
    }
    let current = ClockSkew { since: now, seq: stream.head.seq };
    let skew = *stream.skew.get_or_insert(current);
    // All messages before the mark have expired: a new mark covers the later ones.
    if skew.since < cutoff && stream.trimmed.seq >= skew.seq && skew.seq < current.seq {
        stream.skew = Some(current);
    }
}

/// Deletes some streams that are empty, and idle for longer than the maximum age; returns whether there
/// may be more.
fn delete_idle_streams(batch: &mut WriteBatch<'_>) -> rusqlite::Result<bool> {
    // Deletes its idempotency keys too, so not before they expire.
    let idle_since = time_before(batch.now, batch.limits.age.max(KEY_LIFETIME));
    let idle = select_names(
        batch,
        "SELECT name FROM streams WHERE count = 0 \
         AND (millis < ?1 OR (millis > ?2 AND ahead_since < ?1 AND ahead_seq = seq)) LIMIT ?3",
        (signed(idle_since), signed(skew_threshold(batch.now)), STREAMS_PER_STEP),
    )?;
    let more = idle.len() == STREAMS_PER_STEP;
    for name in idle {
        let Some(dirty) = batch.load(&name)? else { continue };
        // A message may have been appended in this transaction.
        let stream = &dirty.stream;
        let is_idle = stream.head.millis < idle_since
            || stream.expired_seq(batch.now, idle_since) == Some(stream.head.seq);
        let still_idle = stream.count == 0 && is_idle;
        batch.stash(name.clone(), dirty);
        if still_idle {
            let _: Result<(), AppendError> = batch.delete(name)?;
        }
    }
    Ok(more)
}

fn select_names(
    batch: &WriteBatch<'_>,
    select: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StreamName>> {
    let mut select = batch.tx.prepare_cached(select)?;
    let names = select.query_map(parameters, |row| row.get::<_, String>(0))?;
    names.filter_map(|name| name.map(|name| name.parse().ok()).transpose()).collect()
}

/// How much is removed at a time: a maximum of messages, and an approximate maximum of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrimBound {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// Removes the oldest messages of a stream that exceed a limit, at most `max`.
pub(super) fn trim(
    batch: &mut WriteBatch<'_>,
    stream: &mut StreamRow,
    max: TrimBound,
) -> rusqlite::Result<()> {
    let limits = batch.limits;
    let cutoff = time_before(batch.now, limits.age);
    let expired_seq = stream.expired_seq(batch.now, cutoff);
    let oldest = OldestMessages::of(batch, stream.slot, max, |oldest| {
        stream.count.saturating_sub(oldest.messages as u64) > limits.messages
            || stream.bytes.saturating_sub(oldest.bytes) > limits.bytes
            || oldest.next.is_some_and(|(next, millis)| {
                millis < cutoff || expired_seq.is_some_and(|seq| stream.base + next <= seq)
            })
    })?;
    if let Some((last, millis)) = oldest.last {
        oldest.remove(batch, stream.slot)?;
        stream.trimmed = Trimmed { seq: stream.base + last, millis: Some(millis) };
        stream.count = stream.count.saturating_sub(oldest.messages as u64);
        stream.bytes = stream.bytes.saturating_sub(oldest.bytes);
    } else if oldest.next.is_none() {
        // The stream is empty: corrects the counts, should they ever be wrong.
        (stream.count, stream.bytes) = (0, 0);
    }
    Ok(())
}

/// The oldest messages of a slot that are to be removed.
#[derive(Default)]
struct OldestMessages {
    messages: usize,
    bytes: u64,
    /// Offset and milliseconds of the last of them.
    last: Option<(u64, u64)>,
    /// Offset and milliseconds of the message after them, or of the last one that was read.
    next: Option<(u64, u64)>,
}

impl OldestMessages {
    /// Collects messages while `should_remove` is true for those found so far and the next one, at
    /// most `max`.
    fn of(
        batch: &WriteBatch<'_>,
        slot: Slot,
        max: TrimBound,
        should_remove: impl Fn(&Self) -> bool,
    ) -> rusqlite::Result<Self> {
        let mut select = batch.tx.prepare_cached(
            "SELECT key, millis, octet_length(data) FROM messages WHERE key BETWEEN ?1 AND ?2 \
             ORDER BY key LIMIT ?3",
        )?;
        let mut rows = select.query((slot.start(), slot.end(), max.messages))?;
        let mut oldest = Self::default();
        while let Some(row) = rows.next()? {
            oldest.next = Some((offset(row.get(0)?), unsigned(row, 1)?));
            if oldest.bytes >= max.bytes || !should_remove(&oldest) {
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
        RetentionLimits,
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

    /// A sweep can share its transaction with an append.
    #[test]
    fn an_idle_stream_with_a_new_message_is_not_deleted() {
        let (location, _lock) = Location::lock(None).expect("a store");
        let mut connection = location.open_to_write().expect("a connection").connection;
        let name: StreamName = "news".parse().expect("a name");
        for (now, appends, sweeps) in
            [(DAY, true, false), (3 * DAY, false, true), (3 * DAY + 1, true, true)]
        {
            let totals = Totals::of(&connection).expect("readable");
            let mut batch =
                WriteBatch::begin(&mut connection, LIMITS, now, totals).expect("a transaction");
            // The first sweep empties the stream; the next one deletes it unless it has a message.
            if appends {
                append(&mut batch, &name);
            }
            if sweeps {
                step(&mut batch).expect("a step");
            }
            batch.commit().expect("stored");
        }
        let stream = StreamRow::load(&connection, &name).expect("readable").expect("a stream");
        assert_eq!((stream.head.seq, stream.count), (2, 1));
    }

    /// Transactions that append to one stream only.
    #[test]
    fn bytes_are_bounded_in_large_transactions_too() {
        let (location, _lock) = Location::lock(None).expect("a store");
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
            let stream = StreamRow::load(&connection, &name).expect("readable").expect("a stream");
            assert!(stream.bytes <= limits.bytes, "round {round}: {} bytes", stream.bytes);
        }
    }
}
