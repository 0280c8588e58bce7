//! Idempotency keys: remembered for a day, and bounded in number: for each stream and for all of
//! them together, oldest first.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};

use super::{
    super::{Data, EventId, Generation, IdempotencyKey, KEY_LIFETIME},
    batch::WriteBatch,
    key::{Slot, offset},
    read::{Stream, signed, unsigned},
    retention::before,
};

/// So many keys beyond a bound are forgotten together: a page of them at a time is cheaper than one
/// with each append.
const SLACK: u64 = 64;
/// How many keys a step of the sweep forgets at the most.
pub(super) const STEP: usize = 256;
/// How many bytes of a hash tell keys, and what was appended under them, from each other.
const HASH: usize = 16;
pub(super) type Hash = [u8; HASH];

/// What was appended under a key.
pub(super) struct Used {
    /// The id of its last message.
    pub(super) last: EventId,
    pub(super) digest: Hash,
}

/// Stands for a key of a generation of a stream.
pub(super) fn name(generation: Generation, key: &IdempotencyKey) -> Hash {
    let mut hash = Sha256::new();
    hash.update(generation.0.to_le_bytes());
    hash.update(&key.0);
    shortened(hash)
}

/// Tells one batch from another.
pub(super) fn digest(batch: &[Data]) -> Hash {
    let mut hash = Sha256::new();
    for data in batch {
        hash.update((data.as_str().len() as u64).to_le_bytes());
        hash.update(data.as_str());
    }
    shortened(hash)
}

fn shortened(hash: Sha256) -> Hash {
    let mut short = Hash::default();
    short.copy_from_slice(&hash.finalize()[..HASH]);
    short
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
            stream.key(seq),
            name,
            digest,
            signed(millis),
            signed(self.now),
        ))?;
        stream.keys += 1;
        self.totals.keys += 1;
        Ok(())
    }

    /// Forgets the oldest keys of a stream that has too many, some at a time.
    pub(super) fn trim_keys(&mut self, stream: &mut Stream) -> rusqlite::Result<()> {
        let surplus = stream.keys.saturating_sub(self.limits.keys);
        if surplus < SLACK.min(self.limits.keys) {
            return Ok(());
        }
        let forgotten = self
            .tx
            .prepare_cached(
                "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE key BETWEEN ?1 AND ?2 \
                 ORDER BY key LIMIT ?3)",
            )?
            .execute((stream.slot.start(), stream.slot.end(), surplus.min(STEP as u64)))?;
        // Should the number ever be wrong, it does not stay so.
        let forgotten = if forgotten == 0 { stream.keys } else { forgotten as u64 };
        self.forgot(stream, forgotten);
        Ok(())
    }

    /// Forgets the oldest keys of all when there are too many, some at a time.
    pub(super) fn trim_all_keys(&mut self) -> rusqlite::Result<()> {
        if self.has_too_many_keys() {
            let surplus = self.totals.keys.saturating_sub(self.limits.all_keys);
            let surplus = usize::try_from(surplus).unwrap_or(STEP);
            self.forget_oldest_keys(u64::MAX, surplus.min(STEP))?;
        }
        Ok(())
    }

    pub(super) fn has_too_many_keys(&self) -> bool {
        let surplus = self.totals.keys.saturating_sub(self.limits.all_keys);
        surplus >= SLACK.min(self.limits.all_keys)
    }

    /// Forgets keys that are too old; tells whether there are more.
    pub(super) fn forget_old_keys(&mut self) -> rusqlite::Result<bool> {
        let forgotten = self.forget_oldest_keys(self.forgotten(), STEP)?;
        Ok(forgotten == STEP)
    }

    /// Keys that were used then or before are not remembered any more.
    fn forgotten(&self) -> u64 {
        before(self.now, KEY_LIFETIME)
    }

    /// Forgets the oldest keys, of whatever streams, as far as they were used up to then.
    fn forget_oldest_keys(&mut self, until: u64, most: usize) -> rusqlite::Result<usize> {
        let keys: Vec<i64> = self
            .tx
            .prepare_cached("SELECT key FROM keys WHERE used <= ?1 ORDER BY used LIMIT ?2")?
            .query_map((signed(until), most), |row| row.get(0))?
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
