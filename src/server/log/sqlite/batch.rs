//! Write batch: the appends, ends and deletions of one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, OptionalExtension as _, ffi};

use super::{
    read::{StreamRow, signed, unsigned},
    retention::{self, TrimBound},
    row_key::{MAX_OFFSET, MAX_SLOT, Slot},
    transaction::{DirtyStream, Totals, WriteBatch},
};
use crate::{
    message::Message,
    server::log::{
        AppendError, Appended, Change, EventId, Generation, IdempotencyKey, MessageText,
        StreamName, key_hash,
    },
};

/// The error of an append to a stream that has used all of its row keys.
const SEQUENCES_EXHAUSTED: &str =
    "the stream has had the maximum of 2^40 messages; delete it to start it again";

/// The result of a transaction.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) changes: Vec<(StreamName, Change)>,
    pub(super) totals: Totals,
    /// Whether messages were removed.
    pub(super) removed: bool,
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was stored.
    NotStored(Error),
    /// The COMMIT itself failed: the transaction may have been stored, with this result.
    Unknown(Error, Box<Committed>),
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self::NotStored(error)
    }
}

impl WriteBatch<'_> {
    /// Appends a batch; creates the stream if there is none.
    pub(super) fn append(
        &mut self,
        name: StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
    ) -> rusqlite::Result<Result<Appended, AppendError>> {
        let mut dirty = match self.load(&name)? {
            Some(dirty) => dirty,
            None => match self.create(&name)? {
                Some(dirty) => dirty,
                None => return Ok(Err(AppendError::TooManyStreams)),
            },
        };
        let outcome = self.append_to(&mut dirty, batch, key);
        self.stash(name, dirty);
        outcome
    }

    fn append_to(
        &mut self,
        dirty: &mut DirtyStream,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
    ) -> rusqlite::Result<Result<Appended, AppendError>> {
        let key = key.map(|key| {
            (key_hash::hash_key(dirty.stream.generation, key), key_hash::digest(&batch))
        });
        // Checked first: a replay succeeds even if the stream has ended since.
        if let Some((name, digest)) = &key
            && let Some(record) = self.find_key(&mut dirty.stream, name)?
        {
            return Ok(if record.digest == *digest {
                Ok(Appended { last: record.last, replayed: true })
            } else {
                Err(AppendError::KeyReused)
            });
        }
        if dirty.stream.closing.is_some() {
            return Ok(Err(AppendError::Ended));
        }
        let offset = dirty.stream.head.seq.saturating_sub(dirty.stream.base);
        if offset.saturating_add(batch.len() as u64) > MAX_OFFSET {
            return Ok(Err(AppendError::Unavailable(SEQUENCES_EXHAUSTED.into())));
        }
        for data in batch {
            let message = Message { id: self.next_id(&dirty.stream), data: data.into_text() };
            self.tx.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3)")?.execute((
                dirty.stream.row_key(message.id.seq),
                signed(message.id.millis),
                &message.data,
            ))?;
            dirty.stream.head = message.id;
            dirty.stream.count += 1;
            dirty.stream.bytes += message.data.len() as u64;
            dirty.fresh.push(message);
        }
        if let Some((name, digest)) = &key {
            self.insert_key(&mut dirty.stream, name, digest)?;
        }
        Ok(Ok(Appended { last: dirty.stream.head, replayed: false }))
    }

    /// Ends a stream.
    pub(super) fn end(
        &mut self,
        name: StreamName,
        text: MessageText,
    ) -> rusqlite::Result<Result<EventId, AppendError>> {
        let Some(mut dirty) = self.load(&name)? else { return Ok(Err(AppendError::NoStream)) };
        let outcome = if dirty.stream.closing.is_some() {
            Err(AppendError::Ended)
        } else {
            dirty.stream.head = self.next_id(&dirty.stream);
            dirty.stream.closing = Some(text.into_text());
            dirty.ended = true;
            Ok(dirty.stream.head)
        };
        self.stash(name, dirty);
        Ok(outcome)
    }

    /// Deletes a stream. Its messages cannot be read from now on; the sweep removes them in steps.
    pub(super) fn delete(&mut self, name: StreamName) -> rusqlite::Result<Result<(), AppendError>> {
        let Some(dirty) = self.load(&name)? else { return Ok(Err(AppendError::NoStream)) };
        let StreamRow { slot, generation, head, keys, .. } = dirty.stream;
        self.tx.execute("DELETE FROM streams WHERE slot = ?1", [slot.0])?;
        self.tx.execute("INSERT INTO garbage VALUES (?1)", [slot.0])?;
        let sequence = "UPDATE store SET sequence = max(sequence, ?1)";
        self.tx.execute(sequence, [signed(head.seq)])?;
        self.totals.streams = self.totals.streams.saturating_sub(1);
        self.totals.keys = self.totals.keys.saturating_sub(keys);
        self.removed = true;
        self.record_change(&name, dirty);
        self.changes.push((name, Change::Deleted { generation }));
        Ok(Ok(()))
    }

    /// Creates a stream, unless the store has the maximum number of streams.
    fn create(&mut self, name: &StreamName) -> rusqlite::Result<Option<DirtyStream>> {
        if self.totals.streams >= self.limits.streams {
            return Ok(None);
        }
        let Some(slot) = self.free_slot()? else { return Ok(None) };
        // Sequences continue, so that no id of an earlier generation is assigned again.
        let (generation, sequence) = self.tx.query_row(
            "UPDATE store SET generation = generation + 1 RETURNING generation, sequence",
            [],
            |row| Ok((row.get(0)?, unsigned(row, 1)?)),
        )?;
        self.tx.execute(
            "INSERT INTO streams (slot, generation, name, base, seq, millis, trimmed, count, bytes, \
             keys) VALUES (?1, ?2, ?3, ?4, ?4, 0, ?4, 0, 0, 0)",
            (slot.0, generation, name.as_str(), signed(sequence)),
        )?;
        self.totals.streams += 1;
        let stream = StreamRow::new(slot, Generation(generation), sequence);
        Ok(Some(DirtyStream { stream, after: 0, fresh: Vec::new(), ended: false }))
    }

    /// The lowest free slot, if there is one.
    fn free_slot(&self) -> rusqlite::Result<Option<Slot>> {
        let emptied = self
            .tx
            .query_row(
                "DELETE FROM free_slots WHERE slot = (SELECT min(slot) FROM free_slots) \
                 RETURNING slot",
                [],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(slot) = emptied {
            return Ok(Some(Slot(slot)));
        }
        let next = "UPDATE store SET slots = slots + 1 WHERE slots < ?1 RETURNING slots";
        Ok(self.tx.query_row(next, [MAX_SLOT], |row| row.get(0)).optional()?.map(Slot))
    }

    /// The next id of a stream. Its milliseconds do not decrease when the clock is set back.
    fn next_id(&self, stream: &StreamRow) -> EventId {
        EventId { millis: self.now.max(stream.head.millis), seq: stream.head.seq + 1 }
    }

    /// Writes the changed streams back, and commits the transaction durably.
    pub(super) fn commit(mut self) -> Result<Committed, CommitError> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for dirty in dirty.values_mut() {
            // More than was appended, or the excess over a limit would grow.
            let fresh_bytes: u64 =
                dirty.fresh.iter().map(|message| message.data.len() as u64).sum();
            let max = TrimBound {
                messages: 2 * dirty.fresh.len() + retention::MESSAGES_PER_STEP / 10,
                bytes: retention::BYTES_PER_STEP.max(2 * fresh_bytes),
            };
            retention::trim(&mut self, &mut dirty.stream, max)?;
            self.trim_keys(&mut dirty.stream)?;
        }
        self.dirty = dirty;
        self.trim_all_keys()?;
        for (name, dirty) in std::mem::take(&mut self.dirty) {
            dirty.stream.write(&self.tx)?;
            self.record_change(&name, dirty);
        }
        let Self { tx, totals, removed, changes, .. } = self;
        let committed = Committed { changes, totals, removed };
        match tx.commit() {
            Ok(()) => Ok(committed),
            Err(error) => Err(CommitError::Unknown(error, Box::new(committed))),
        }
    }

    /// Records the changes that the followers of a stream will receive.
    fn record_change(&mut self, name: &StreamName, dirty: DirtyStream) {
        let DirtyStream { stream, mut after, fresh, ended } = dirty;
        let generation = stream.generation;
        if let Some(last) = fresh.last() {
            let before = std::mem::replace(&mut after, last.id.seq);
            let change = Change::Appended { generation, after: before, messages: fresh };
            self.changes.push((name.clone(), change));
        }
        if let Some(data) = stream.closing.filter(|_| ended) {
            let end = Message { id: stream.head, data };
            self.changes.push((name.clone(), Change::Ended { generation, after, end }));
        }
    }
}

/// Whether a failed COMMIT has certainly stored nothing: when a page could not be written (as opposed
/// to flushed), because then the last page, which completes the transaction, was not written either.
/// But where the write-ahead log overwrites old pages (`reuses_wal`), half of a page may form a whole
/// one with the half that was there. A full disk is no such case: it does not refuse to overwrite.
pub(super) fn is_certainly_not_stored(error: &Error, reuses_wal: bool) -> bool {
    let Error::SqliteFailure(failure, _) = error else { return false };
    match failure.extended_code {
        ffi::SQLITE_FULL => true,
        ffi::SQLITE_IOERR_WRITE => !reuses_wal,
        _ => false,
    }
}

/// Whether the changes of a transaction are in the store. Only the last change of each stream is
/// compared: it may have hidden the earlier ones.
pub(super) fn are_stored(
    connection: &Connection,
    changes: &[(StreamName, Change)],
) -> rusqlite::Result<bool> {
    let last: BTreeMap<&StreamName, &Change> =
        changes.iter().map(|(name, change)| (name, change)).collect();
    for (name, change) in &last {
        if !is_stored(connection, name, change)? {
            return Ok(false);
        }
    }
    Ok(!last.is_empty())
}

fn is_stored(
    connection: &Connection,
    name: &StreamName,
    change: &Change,
) -> rusqlite::Result<bool> {
    let (Change::Appended { generation, .. }
    | Change::Ended { generation, .. }
    | Change::Deleted { generation }) = change;
    let stream =
        StreamRow::load(connection, name)?.filter(|stream| stream.generation == *generation);
    Ok(match change {
        Change::Deleted { .. } => stream.is_none(),
        Change::Appended { .. } | Change::Ended { .. } => {
            stream.is_some_and(|stream| stream.head.seq >= change.head())
        }
    })
}

#[cfg(test)]
mod tests;
