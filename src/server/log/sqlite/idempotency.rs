//! Idempotency keys: kept for a day, and limited in number per stream and in total. The oldest are
//! deleted first.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension as _;

use super::{
    read::{StreamRow, signed, skew_threshold, time_before, unsigned},
    row_key::{Slot, offset},
    transaction::WriteBatch,
};
use crate::server::log::{EventId, KEY_LIFETIME, key_hash::Hash};

/// Keys are deleted once this many exceed a limit: a page of them at a time is cheaper than one with
/// each append.
const TRIM_SLACK: u64 = 64;
/// The most keys that one step of the sweep deletes.
pub(super) const KEYS_PER_STEP: usize = 256;
/// How long keys must have times in the future, in milliseconds, before the clock is trusted: a clock
/// that is wrong after the machine has started is usually corrected by then.
const CLOCK_TRUST_MS: u64 = 60 * 60 * 1000;
/// The append that used a key.
pub(super) struct KeyRecord {
    /// The id of its last message.
    pub(super) last: EventId,
    pub(super) digest: Hash,
}

/// The number of keys from which on some are deleted, for a limit.
pub(super) fn trim_threshold(limit: u64) -> u64 {
    limit.saturating_add(TRIM_SLACK.min(limit))
}

impl WriteBatch<'_> {
    /// The append that used a key, if the key is known. Deletes a key that has expired.
    pub(super) fn find_key(
        &mut self,
        stream: &mut StreamRow,
        name: &Hash,
    ) -> rusqlite::Result<Option<KeyRecord>> {
        let found = self
            .tx
            .prepare_cached("SELECT key, millis, digest, used FROM keys WHERE name = ?1")?
            .query_row([name], |row| {
                let key: i64 = row.get(0)?;
                let last = EventId { seq: stream.base + offset(key), millis: unsigned(row, 1)? };
                Ok((key, unsigned(row, 3)?, KeyRecord { last, digest: row.get(2)? }))
            })
            .optional()?;
        match found {
            Some((key, used_at, _)) if used_at <= self.expiry_cutoff() => {
                self.tx.execute("DELETE FROM keys WHERE key = ?1", [key])?;
                self.subtract_keys(stream, 1);
                Ok(None)
            }
            found => Ok(found.map(|(.., record)| record)),
        }
    }

    /// Stores a key with the id of the last message that was appended.
    pub(super) fn insert_key(
        &mut self,
        stream: &mut StreamRow,
        name: &Hash,
        digest: &Hash,
    ) -> rusqlite::Result<()> {
        let EventId { seq, millis } = stream.head;
        self.tx.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
            stream.row_key(seq),
            name,
            digest,
            signed(millis),
            signed(self.now),
        ))?;
        stream.keys += 1;
        self.totals.keys += 1;
        self.fresh_keys += 1;
        Ok(())
    }

    /// Deletes some of the oldest keys of a stream that has too many.
    pub(super) fn trim_keys(&mut self, stream: &mut StreamRow) -> rusqlite::Result<()> {
        if stream.keys < trim_threshold(self.limits.keys) {
            return Ok(());
        }
        let surplus = stream.keys - self.limits.keys;
        let deleted = self
            .tx
            .prepare_cached(
                "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE key BETWEEN ?1 AND ?2 \
                 ORDER BY key LIMIT ?3)",
            )?
            .execute((
                stream.slot.start(),
                stream.slot.end(),
                surplus.min(self.max_deleted_keys() as u64),
            ))?;
        // Corrects the count, should it ever be wrong.
        let deleted = if deleted == 0 { stream.keys } else { deleted as u64 };
        self.subtract_keys(stream, deleted);
        Ok(())
    }

    /// Deletes some of the oldest keys of all streams when there are too many.
    pub(super) fn trim_all_keys(&mut self) -> rusqlite::Result<()> {
        if self.has_too_many_keys() {
            let surplus = usize::try_from(self.totals.keys - self.limits.all_keys);
            let max = self.max_deleted_keys();
            self.delete_oldest_keys(u64::MAX, surplus.unwrap_or(max).min(max))?;
        }
        Ok(())
    }

    pub(super) fn has_too_many_keys(&self) -> bool {
        self.totals.keys >= trim_threshold(self.limits.all_keys)
    }

    /// The most keys that this transaction deletes at a time: more than it adds.
    fn max_deleted_keys(&self) -> usize {
        KEYS_PER_STEP.max(2 * self.fresh_keys)
    }

    /// Handles a clock that was ahead: keys with a time of use in the future get the current time, once
    /// that has lasted for [`CLOCK_TRUST_MS`]. Returns whether there are more.
    pub(super) fn restamp_keys(&mut self) -> rusqlite::Result<bool> {
        let (now, threshold) = (self.now, signed(skew_threshold(self.now)));
        let is_any: bool = self
            .tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE used > ?1)")?
            .query_row([threshold], |row| row.get(0))?;
        let since = self.totals.keys_ahead_since.filter(|since| *since <= now).unwrap_or(now);
        self.totals.keys_ahead_since = is_any.then_some(since);
        if !is_any || now - since < CLOCK_TRUST_MS {
            return Ok(false);
        }
        let restamped = self
            .tx
            .prepare_cached(
                "UPDATE keys SET used = ?1 WHERE key IN \
                 (SELECT key FROM keys WHERE used > ?2 LIMIT ?3)",
            )?
            .execute((signed(now), threshold, KEYS_PER_STEP))?;
        Ok(restamped == KEYS_PER_STEP)
    }

    /// Deletes some of the expired keys; returns whether there may be more.
    pub(super) fn delete_expired_keys(&mut self) -> rusqlite::Result<bool> {
        let deleted = self.delete_oldest_keys(self.expiry_cutoff(), KEYS_PER_STEP)?;
        Ok(deleted == KEYS_PER_STEP)
    }

    /// Keys that were used at this time or earlier have expired, in Unix milliseconds.
    fn expiry_cutoff(&self) -> u64 {
        time_before(self.now, KEY_LIFETIME)
    }

    /// Deletes the oldest keys of all streams that were used at `until` or earlier, at most `max`;
    /// returns how many.
    fn delete_oldest_keys(&mut self, until: u64, max: usize) -> rusqlite::Result<usize> {
        let keys: Vec<i64> = self
            .tx
            .prepare_cached("SELECT key FROM keys WHERE used <= ?1 ORDER BY used LIMIT ?2")?
            .query_map((signed(until), max), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut deleted_by_slot: BTreeMap<Slot, u64> = BTreeMap::new();
        for key in &keys {
            self.tx.prepare_cached("DELETE FROM keys WHERE key = ?1")?.execute([key])?;
            *deleted_by_slot.entry(Slot::of(*key)).or_default() += 1;
        }
        for (slot, deleted) in deleted_by_slot {
            if !self.with_dirty(slot, |batch, stream| batch.subtract_keys(stream, deleted)) {
                // The slot may belong to a deleted stream, whose keys are not counted.
                let counted = self
                    .tx
                    .prepare_cached("UPDATE streams SET keys = max(keys - ?2, 0) WHERE slot = ?1")?
                    .execute((slot.0, signed(deleted)))?;
                self.totals.keys =
                    self.totals.keys.saturating_sub(if counted > 0 { deleted } else { 0 });
            }
        }
        Ok(keys.len())
    }

    fn subtract_keys(&mut self, stream: &mut StreamRow, keys: u64) {
        let keys = keys.min(stream.keys);
        stream.keys -= keys;
        self.totals.keys = self.totals.keys.saturating_sub(keys);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::Connection;

    use super::*;
    use crate::server::log::{
        IdempotencyKey, MessageText, RetentionLimits, StreamName,
        sqlite::{file::Location, retention, transaction::Totals},
    };

    const HOUR: u64 = 60 * 60 * 1000;
    const LIMITS: RetentionLimits = RetentionLimits {
        messages: 5,
        age: Duration::from_secs(1_000_000_000),
        bytes: 1000,
        streams: 10,
        keys: 100,
        all_keys: 300,
    };

    /// A store for tests, with one transaction after the other.
    struct TestStore {
        connection: Connection,
        totals: Totals,
        limits: RetentionLimits,
    }

    impl TestStore {
        fn new() -> (Self, impl Sized) {
            let (location, lock) = Location::lock(None).expect("a store");
            let connection = location.open_to_write().expect("a connection").connection;
            (Self { connection, totals: Totals::default(), limits: LIMITS }, lock)
        }

        fn run<T>(&mut self, now: u64, operation: impl FnOnce(&mut WriteBatch<'_>) -> T) -> T {
            let batch = WriteBatch::begin(&mut self.connection, self.limits, now, self.totals);
            let mut batch = batch.expect("a transaction");
            let result = operation(&mut batch);
            self.totals = batch.commit().expect("stored").totals;
            result
        }

        fn sweep(&mut self, now: u64) {
            while self.run(now, |batch| retention::step(batch).expect("a step")) {}
        }

        /// Number of keys of a stream, and of all streams.
        fn keys(&self, name: &str) -> (u64, u64) {
            let name = name.parse().expect("a name");
            let stream =
                StreamRow::load(&self.connection, &name).expect("readable").expect("a stream");
            let all = "SELECT count(*) FROM keys";
            let all = self.connection.query_row(all, [], |row| unsigned(row, 0)).expect("a number");
            assert_eq!(self.totals.keys, all);
            (stream.keys, all)
        }
    }

    /// Appends with a key; returns whether the key had been used.
    fn is_replayed(batch: &mut WriteBatch<'_>, stream: &str, key: &str) -> bool {
        let name: StreamName = stream.parse().expect("a name");
        let data = vec![MessageText::new(b"text".to_vec(), 10).expect("data")];
        let key = IdempotencyKey(key.to_owned());
        let appended = batch.append(name, data, Some(&key)).expect("stored").expect("taken");
        appended.replayed
    }

    #[test]
    fn the_number_of_keys_is_bounded_in_large_transactions_too() {
        let (mut store, _lock) = TestStore::new();
        for round in 0..4 {
            for stream in ["one", "two", "three", "four"] {
                store.run(round, |batch| {
                    for key in 0..1000 {
                        assert!(!is_replayed(batch, stream, &format!("{round} {key}")));
                    }
                });
                let (of_stream, all) = store.keys(stream);
                assert!(of_stream < LIMITS.keys + TRIM_SLACK, "{of_stream} in round {round}");
                assert!(all < LIMITS.all_keys + TRIM_SLACK, "{all} in round {round}");
            }
        }
    }

    #[test]
    fn a_lowered_limit_applies_to_idle_streams_too() {
        let (mut store, _lock) = TestStore::new();
        store.limits.keys = 1000;
        store.limits.all_keys = 1000;
        store.run(1, |batch| {
            for key in 0..900 {
                assert!(!is_replayed(batch, "one", &key.to_string()));
            }
        });
        assert_eq!(store.keys("one"), (900, 900));
        store.limits.keys = 100;
        store.sweep(1);
        assert!(store.keys("one").0 < 100 + TRIM_SLACK);
    }

    #[test]
    fn keys_of_a_clock_that_was_ahead_expire() {
        let (mut store, _lock) = TestStore::new();
        let (now, threshold) = (1_000 * HOUR, 100_000 * HOUR);
        store.run(threshold, |batch| assert!(!is_replayed(batch, "one", "ahead")));
        store.sweep(now);
        store.sweep(now + HOUR);
        let replayed = |batch: &mut WriteBatch<'_>| is_replayed(batch, "one", "ahead");
        assert!(store.run(now + 24 * HOUR, replayed), "they are kept for a day");
        assert!(!store.run(now + 26 * HOUR, replayed));
    }

    #[test]
    fn a_clock_that_was_behind_deletes_no_key() {
        let (mut store, _lock) = TestStore::new();
        let now = 1_000 * HOUR;
        store.run(now, |batch| assert!(!is_replayed(batch, "one", "first")));
        for clock in [0, 1, HOUR / 2, now, now + 1, HOUR / 2, now + HOUR] {
            store.sweep(clock);
        }
        assert!(store.run(now + 2 * HOUR, |batch| is_replayed(batch, "one", "first")));
    }
}
