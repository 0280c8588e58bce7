//! Idempotency keys: remembered for a day, and bounded in number: for each stream and for all of
//! them together, oldest first.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension as _;

use super::{
    key_hash::Hash,
    read::{Stream, far_ahead, signed, time_before, unsigned},
    row_key::{Slot, offset},
    transaction::WriteBatch,
};
use crate::server::log::{EventId, KEY_LIFETIME};

/// So many keys beyond a bound are forgotten together: a page of them at a time is cheaper than one
/// with each append.
const SLACK: u64 = 64;
/// How many keys a step of the sweep forgets at the most.
pub(super) const STEP: usize = 256;
/// For how many milliseconds keys are used in the future before the clock is believed: one that is
/// wrong since the machine has started is usually right again by then.
const CLOCK_TRUST_AGE: u64 = 60 * 60 * 1000;
/// What was appended under a key.
pub(super) struct Used {
    /// The id of its last message.
    pub(super) last: EventId,
    pub(super) digest: Hash,
}

/// From how many keys on some are forgotten, with this limit.
pub(super) fn too_many(limit: u64) -> u64 {
    limit.saturating_add(SLACK.min(limit))
}

impl WriteBatch<'_> {
    /// What was appended under a key that is still remembered. One that is too old is forgotten.
    pub(super) fn used(
        &mut self,
        stream: &mut Stream,
        name: &Hash,
    ) -> rusqlite::Result<Option<Used>> {
        let found = self
            .tx
            .prepare_cached("SELECT key, millis, digest, used FROM keys WHERE name = ?1")?
            .query_row([name], |row| {
                let key: i64 = row.get(0)?;
                let last = EventId { seq: stream.base + offset(key), millis: unsigned(row, 1)? };
                Ok((key, unsigned(row, 3)?, Used { last, digest: row.get(2)? }))
            })
            .optional()?;
        match found {
            Some((key, used, _)) if used <= self.forgotten() => {
                self.tx.execute("DELETE FROM keys WHERE key = ?1", [key])?;
                self.forgot(stream, 1);
                Ok(None)
            }
            found => Ok(found.map(|(.., used)| used)),
        }
    }

    /// Remembers what was appended last under a key.
    pub(super) fn remember(
        &mut self,
        stream: &mut Stream,
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

    /// Forgets the oldest keys of a stream that has too many, some at a time.
    pub(super) fn trim_keys(&mut self, stream: &mut Stream) -> rusqlite::Result<()> {
        if stream.keys < too_many(self.limits.keys) {
            return Ok(());
        }
        let surplus = stream.keys - self.limits.keys;
        let forgotten = self
            .tx
            .prepare_cached(
                "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE key BETWEEN ?1 AND ?2 \
                 ORDER BY key LIMIT ?3)",
            )?
            .execute((
                stream.slot.start(),
                stream.slot.end(),
                surplus.min(self.max_keys() as u64),
            ))?;
        // Should the number ever be wrong, it does not stay so.
        let forgotten = if forgotten == 0 { stream.keys } else { forgotten as u64 };
        self.forgot(stream, forgotten);
        Ok(())
    }

    /// Forgets the oldest keys of all when there are too many, some at a time.
    pub(super) fn trim_all_keys(&mut self) -> rusqlite::Result<()> {
        if self.has_too_many_keys() {
            let surplus = usize::try_from(self.totals.keys - self.limits.all_keys);
            let max = self.max_keys();
            self.forget_oldest_keys(u64::MAX, surplus.unwrap_or(max).min(max))?;
        }
        Ok(())
    }

    pub(super) fn has_too_many_keys(&self) -> bool {
        self.totals.keys >= too_many(self.limits.all_keys)
    }

    /// How many keys this transaction forgets at a time: more than it brings.
    fn max_keys(&self) -> usize {
        STEP.max(2 * self.fresh_keys)
    }

    /// Has keys that were used in the future, by the clock, expire as if they were used just now, once
    /// it has been so for long enough that the clock was wrong then and is not wrong now. Tells whether
    /// there are more.
    pub(super) fn restamp_keys(&mut self) -> rusqlite::Result<bool> {
        let (now, ahead) = (self.now, signed(far_ahead(self.now)));
        let is_any: bool = self
            .tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE used > ?1)")?
            .query_row([ahead], |row| row.get(0))?;
        let since = self.totals.keys_ahead_since.filter(|since| *since <= now).unwrap_or(now);
        self.totals.keys_ahead_since = is_any.then_some(since);
        if !is_any || now - since < CLOCK_TRUST_AGE {
            return Ok(false);
        }
        let restamped = self
            .tx
            .prepare_cached(
                "UPDATE keys SET used = ?1 WHERE key IN \
                 (SELECT key FROM keys WHERE used > ?2 LIMIT ?3)",
            )?
            .execute((signed(now), ahead, STEP))?;
        Ok(restamped == STEP)
    }

    /// Forgets keys that are too old; tells whether there are more.
    pub(super) fn forget_old_keys(&mut self) -> rusqlite::Result<bool> {
        let forgotten = self.forget_oldest_keys(self.forgotten(), STEP)?;
        Ok(forgotten == STEP)
    }

    /// Keys that were used then or before are not remembered any more.
    fn forgotten(&self) -> u64 {
        time_before(self.now, KEY_LIFETIME)
    }

    /// Forgets the oldest keys, of whatever streams, as far as they were used up to then.
    fn forget_oldest_keys(&mut self, until: u64, max: usize) -> rusqlite::Result<usize> {
        let keys: Vec<i64> = self
            .tx
            .prepare_cached("SELECT key FROM keys WHERE used <= ?1 ORDER BY used LIMIT ?2")?
            .query_map((signed(until), max), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut of_slots: BTreeMap<Slot, u64> = BTreeMap::new();
        for key in &keys {
            self.tx.prepare_cached("DELETE FROM keys WHERE key = ?1")?.execute([key])?;
            *of_slots.entry(Slot::of(*key)).or_default() += 1;
        }
        for (slot, forgotten) in of_slots {
            if !self.with_dirty(slot, |batch, stream| batch.forgot(stream, forgotten)) {
                // It may be the slot of a stream that was deleted: then they are not counted.
                let counted = self
                    .tx
                    .prepare_cached("UPDATE streams SET keys = max(keys - ?2, 0) WHERE slot = ?1")?
                    .execute((slot.0, signed(forgotten)))?;
                self.totals.keys =
                    self.totals.keys.saturating_sub(if counted > 0 { forgotten } else { 0 });
            }
        }
        Ok(keys.len())
    }

    fn forgot(&mut self, stream: &mut Stream, keys: u64) {
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
        IdempotencyKey, MessageText, RetentionLimits, Store, StreamName,
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

    /// A store that takes one transaction after the other.
    struct Trial {
        connection: Connection,
        totals: Totals,
        limits: RetentionLimits,
    }

    impl Trial {
        fn new() -> (Self, impl Sized) {
            let (location, claim) = Location::claim(Store::Memory).expect("a store");
            let connection = location.open_to_write().expect("a connection").connection;
            (Self { connection, totals: Totals::default(), limits: LIMITS }, claim)
        }

        fn run<T>(&mut self, now: u64, act: impl FnOnce(&mut WriteBatch<'_>) -> T) -> T {
            let batch = WriteBatch::begin(&mut self.connection, self.limits, now, self.totals);
            let mut batch = batch.expect("a transaction");
            let result = act(&mut batch);
            self.totals = batch.commit().expect("stored").totals;
            result
        }

        fn sweep(&mut self, now: u64) {
            while self.run(now, |batch| retention::step(batch).expect("a step")) {}
        }

        /// How many keys there are of a stream, and of all.
        fn keys(&self, name: &str) -> (u64, u64) {
            let name = name.parse().expect("a name");
            let stream = Stream::of(&self.connection, &name).expect("readable").expect("a stream");
            let all = "SELECT count(*) FROM keys";
            let all = self.connection.query_row(all, [], |row| unsigned(row, 0)).expect("a number");
            assert_eq!(self.totals.keys, all);
            (stream.keys, all)
        }
    }

    /// Appends with a key; tells whether it had been used.
    fn is_replayed(batch: &mut WriteBatch<'_>, stream: &str, key: &str) -> bool {
        let name: StreamName = stream.parse().expect("a name");
        let data = vec![MessageText::new(b"text".to_vec(), 10).expect("data")];
        let key = IdempotencyKey(key.to_owned());
        let appended = batch.append(name, data, Some(&key)).expect("stored").expect("taken");
        appended.replayed
    }

    #[test]
    fn keys_are_bounded_however_many_come_at_a_time() {
        let (mut trial, _claim) = Trial::new();
        for round in 0..4 {
            for stream in ["one", "two", "three", "four"] {
                trial.run(round, |batch| {
                    for key in 0..1000 {
                        assert!(!is_replayed(batch, stream, &format!("{round} {key}")));
                    }
                });
                let (of_stream, all) = trial.keys(stream);
                assert!(of_stream < LIMITS.keys + SLACK, "{of_stream} in round {round}");
                assert!(all < LIMITS.all_keys + SLACK, "{all} in round {round}");
            }
        }
    }

    #[test]
    fn a_lower_bound_holds_for_streams_that_are_silent_too() {
        let (mut trial, _claim) = Trial::new();
        trial.limits.keys = 1000;
        trial.limits.all_keys = 1000;
        trial.run(1, |batch| {
            for key in 0..900 {
                assert!(!is_replayed(batch, "one", &key.to_string()));
            }
        });
        assert_eq!(trial.keys("one"), (900, 900));
        trial.limits.keys = 100;
        trial.sweep(1);
        assert!(trial.keys("one").0 < 100 + SLACK);
    }

    #[test]
    fn keys_of_a_clock_that_was_ahead_expire() {
        let (mut trial, _claim) = Trial::new();
        let (now, ahead) = (1_000 * HOUR, 100_000 * HOUR);
        trial.run(ahead, |batch| assert!(!is_replayed(batch, "one", "ahead")));
        trial.sweep(now);
        trial.sweep(now + HOUR);
        let replayed = |batch: &mut WriteBatch<'_>| is_replayed(batch, "one", "ahead");
        assert!(trial.run(now + 24 * HOUR, replayed), "they are remembered for a day");
        assert!(!trial.run(now + 26 * HOUR, replayed));
    }

    #[test]
    fn a_clock_that_was_behind_costs_no_key() {
        let (mut trial, _claim) = Trial::new();
        let now = 1_000 * HOUR;
        trial.run(now, |batch| assert!(!is_replayed(batch, "one", "first")));
        for clock in [0, 1, HOUR / 2, now, now + 1, HOUR / 2, now + HOUR] {
            trial.sweep(clock);
        }
        assert!(trial.run(now + 2 * HOUR, |batch| is_replayed(batch, "one", "first")));
    }
}
