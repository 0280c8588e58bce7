//! The transaction of the writer, and the streams that it has loaded.

use std::collections::{BTreeMap, btree_map::Entry};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    read::{Stream, unsigned},
    row_key::Slot,
};
use crate::{
    message::{Message, StreamName},
    server::log::{Change, RetentionLimits},
};

/// A transaction, and the streams that it has changed.
pub(super) struct WriteBatch<'conn> {
    pub(super) tx: Transaction<'conn>,
    pub(super) limits: RetentionLimits,
    /// The time of day.
    pub(super) now: u64,
    /// What there will be.
    pub(super) totals: Totals,
    /// Whether text was removed.
    pub(super) removed: bool,
    /// How many idempotency keys are new.
    pub(super) fresh_keys: usize,
    /// Written back once, when all is done.
    pub(super) dirty: BTreeMap<StreamName, DirtyStream>,
    pub(super) changes: Vec<(StreamName, Change)>,
}

/// A stream that the transaction has loaded, and may have changed.
pub(super) struct DirtyStream {
    pub(super) stream: Stream,
    /// The sequence before the first of the fresh messages; 0 where nothing precedes them.
    pub(super) after: u64,
    /// What was appended.
    pub(super) fresh: Vec<Message>,
    /// Whether it has ended just now.
    pub(super) ended: bool,
}

/// What the store holds, as far as limits ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) streams: u64,
    /// Idempotency keys.
    pub(super) keys: u64,
    /// Since when some of them are known to have been used in the future, by the clock.
    pub(super) keys_ahead_since: Option<u64>,
}

impl Totals {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let select = "SELECT count(*), coalesce(sum(keys), 0) FROM streams";
        connection.query_row(select, [], |row| {
            let (streams, keys) = (unsigned(row, 0)?, unsigned(row, 1)?);
            Ok(Self { streams, keys, keys_ahead_since: None })
        })
    }
}

impl<'conn> WriteBatch<'conn> {
    pub(super) fn begin(
        connection: &'conn mut Connection,
        limits: RetentionLimits,
        now: u64,
        totals: Totals,
    ) -> rusqlite::Result<Self> {
        // It takes the lock at once: a transaction that begins with reading could not write any more
        // once another program has written.
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (dirty, changes) = (BTreeMap::new(), Vec::new());
        Ok(Self { tx, limits, now, totals, removed: false, fresh_keys: 0, dirty, changes })
    }

    /// Loads a stream, as the transaction has changed it or as the store has it. It is to be stashed
    /// again.
    pub(super) fn load(&mut self, name: &StreamName) -> rusqlite::Result<Option<DirtyStream>> {
        if let Some(dirty) = self.dirty.remove(name) {
            return Ok(Some(dirty));
        }
        let stream = Stream::of(&self.tx, name)?;
        Ok(stream.map(|stream| DirtyStream {
            after: stream.head.seq,
            fresh: Vec::new(),
            ended: false,
            stream,
        }))
    }

    pub(super) fn stash(&mut self, name: StreamName, dirty: DirtyStream) {
        self.dirty.insert(name, dirty);
    }

    /// Does something to the stream of a slot, if it is loaded; tells whether it is.
    pub(super) fn with_dirty(
        &mut self,
        slot: Slot,
        act: impl FnOnce(&mut Self, &mut Stream),
    ) -> bool {
        let name = self.dirty.iter().find(|(_, dirty)| dirty.stream.slot == slot);
        let Some(name) = name.map(|(name, _)| name.clone()) else { return false };
        let Entry::Occupied(entry) = self.dirty.entry(name) else { return false };
        let (name, mut dirty) = entry.remove_entry();
        act(self, &mut dirty.stream);
        self.stash(name, dirty);
        true
    }
}
