//! Transaction of the writer, with a cache of the streams that it has loaded.

use std::collections::{BTreeMap, btree_map::Entry};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    read::{StreamRow, unsigned},
    row_key::Slot,
};
use crate::{
    message::{Message, StreamName},
    server::log::{Change, RetentionLimits},
};

/// A transaction, and the streams that it has loaded.
pub(super) struct WriteBatch<'conn> {
    pub(super) tx: Transaction<'conn>,
    pub(super) limits: RetentionLimits,
    /// The time of day, in Unix milliseconds.
    pub(super) now: u64,
    /// The totals after this transaction.
    pub(super) totals: Totals,
    /// Whether messages were removed.
    pub(super) removed: bool,
    /// Number of new idempotency keys.
    pub(super) fresh_keys: usize,
    /// Written back at the commit.
    pub(super) dirty: BTreeMap<StreamName, DirtyStream>,
    pub(super) changes: Vec<(StreamName, Change)>,
}

/// A stream that the transaction has loaded, and may have changed.
pub(super) struct DirtyStream {
    pub(super) stream: StreamRow,
    /// The sequence before the first of the fresh messages; 0 where nothing precedes them.
    pub(super) after: u64,
    /// The messages that were appended.
    pub(super) fresh: Vec<Message>,
    /// Whether this transaction has ended the stream.
    pub(super) ended: bool,
}

/// Totals of the store that are limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) streams: u64,
    /// Number of idempotency keys.
    pub(super) keys: u64,
    /// When keys with a time of use in the future were first found, by the clock.
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
        // Takes the write lock at once: a transaction that begins with a read could not write after
        // another program has written.
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (dirty, changes) = (BTreeMap::new(), Vec::new());
        Ok(Self { tx, limits, now, totals, removed: false, fresh_keys: 0, dirty, changes })
    }

    /// Takes a stream out of the cache, or reads it from the store. The caller must `stash` it again.
    pub(super) fn load(&mut self, name: &StreamName) -> rusqlite::Result<Option<DirtyStream>> {
        if let Some(dirty) = self.dirty.remove(name) {
            return Ok(Some(dirty));
        }
        let stream = StreamRow::load(&self.tx, name)?;
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

    /// Runs an operation on the stream of a slot, if it is in the cache; returns whether it is.
    pub(super) fn with_dirty(
        &mut self,
        slot: Slot,
        operation: impl FnOnce(&mut Self, &mut StreamRow),
    ) -> bool {
        let name = self.dirty.iter().find(|(_, dirty)| dirty.stream.slot == slot);
        let Some(name) = name.map(|(name, _)| name.clone()) else { return false };
        let Entry::Occupied(entry) = self.dirty.entry(name) else { return false };
        let (name, mut dirty) = entry.remove_entry();
        operation(self, &mut dirty.stream);
        self.stash(name, dirty);
        true
    }
}
