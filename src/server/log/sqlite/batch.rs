//! A write batch: what is appended, ended and deleted in one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, OptionalExtension as _, ffi};

use super::{
    key_hash,
    read::{Stream, signed, unsigned},
    retention::{self, TrimBound},
    row_key::{MAX_OFFSET, MAX_SLOT, Slot},
    transaction::{DirtyStream, Totals, WriteBatch},
};
use crate::{
    message::Message,
    server::log::{
        AppendError, Appended, Change, EventId, Generation, IdempotencyKey, MessageText, StreamName,
    },
};

/// Why nothing is appended any more to a stream that has had as many messages as there are keys for.
const FULL: &str =
    "the stream has had 2^40 messages, as many as one can; delete it to begin it anew";

/// What a transaction did.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) changes: Vec<(StreamName, Change)>,
    pub(super) totals: Totals,
    /// Whether text was removed.
    pub(super) removed: bool,
}

/// A transaction failed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was stored.
    NotStored(Error),
    /// The COMMIT itself failed: it may have been stored, and this would be what it did.
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
        let key =
            key.map(|key| (key_hash::name(dirty.stream.generation, key), key_hash::digest(&batch)));
        // Before anything else: what is done is done, even if the stream has ended since.
        if let Some((name, digest)) = &key
            && let Some(used) = self.used(&mut dirty.stream, name)?
        {
            return Ok(if used.digest == *digest {
                Ok(Appended { last: used.last, replayed: true })
            } else {
                Err(AppendError::KeyReused)
            });
        }
        if dirty.stream.closing.is_some() {
            return Ok(Err(AppendError::Ended));
        }
        let offset = dirty.stream.head.seq.saturating_sub(dirty.stream.base);
        if offset.saturating_add(batch.len() as u64) > MAX_OFFSET {
            return Ok(Err(AppendError::Unavailable(FULL.into())));
        }
        for data in batch {
            let message = Message { id: self.next(&dirty.stream), data: data.into_text() };
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
            self.remember(&mut dirty.stream, name, digest)?;
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
            dirty.stream.head = self.next(&dirty.stream);
            dirty.stream.closing = Some(text.into_text());
            dirty.ended = true;
            Ok(dirty.stream.head)
        };
        self.stash(name, dirty);
        Ok(outcome)
    }

    /// Forgets a stream. Its messages are out of reach at once, and removed step by step.
    pub(super) fn delete(&mut self, name: StreamName) -> rusqlite::Result<Result<(), AppendError>> {
        let Some(dirty) = self.load(&name)? else { return Ok(Err(AppendError::NoStream)) };
        let Stream { slot, generation, head, keys, .. } = dirty.stream;
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

    /// Creates a stream, if there may be one more.
    fn create(&mut self, name: &StreamName) -> rusqlite::Result<Option<DirtyStream>> {
        if self.totals.streams >= self.limits.streams {
            return Ok(None);
        }
        let Some(slot) = self.free_slot()? else { return Ok(None) };
        // Sequences go on, so that no id of an earlier generation can be one of this one.
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
        let stream = Stream::new(slot, Generation(generation), sequence);
        Ok(Some(DirtyStream { stream, after: 0, fresh: Vec::new(), ended: false }))
    }

    /// The lowest slot that is free.
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

    /// The id of what comes next in a stream: it never goes back when the clock does.
    fn next(&self, stream: &Stream) -> EventId {
        EventId { millis: self.now.max(stream.head.millis), seq: stream.head.seq + 1 }
    }

    /// Writes back what was changed, and makes all of it durable.
    pub(super) fn commit(mut self) -> Result<Committed, CommitError> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for dirty in dirty.values_mut() {
            // More than came, or what is beyond a limit would grow.
            let fresh_bytes: u64 = dirty.fresh.iter().map(|one| one.data.len() as u64).sum();
            let max = TrimBound {
                messages: 2 * dirty.fresh.len() + retention::STEP / 10,
                bytes: retention::STEP_BYTES.max(2 * fresh_bytes),
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

    /// Notes what the followers of a stream will be told.
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

/// Whether an error of a commit says that a page could not be written, as opposed to made durable: then
/// the last page was not either, which makes a transaction one. But where the write-ahead log is written
/// over old pages (`over_old`), the half of a page may make a whole one with the other half that was there;
/// a disk that is full does not refuse what it has already.
pub(super) fn could_not_write(error: &Error, over_old: bool) -> bool {
    let Error::SqliteFailure(failure, _) = error else { return false };
    match failure.extended_code {
        ffi::SQLITE_FULL => true,
        ffi::SQLITE_IOERR_WRITE => !over_old,
        _ => false,
    }
}

/// Whether what a transaction has changed is in the store. The last change of each stream tells: what
/// it has done to those before it is not to be seen any more.
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
    let stream = Stream::of(connection, name)?.filter(|stream| stream.generation == *generation);
    Ok(match change {
        Change::Deleted { .. } => stream.is_none(),
        Change::Appended { .. } | Change::Ended { .. } => {
            stream.is_some_and(|stream| stream.head.seq >= change.head())
        }
    })
}

#[cfg(test)]
mod tests;
