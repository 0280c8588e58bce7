//! A transaction of the writer: locks the streams of a group of operations, computes their ids, and
//! writes everything in one exchange.
//!
//! Locks are taken in this order, by every server, so that none waits for another in a circle: the
//! rows of the streams, in the order of their names, then the row of the store.

mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry};

use futures::join;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Error, Row, error::SqlState};

use self::write::WriteError;
use super::{
    options::describe,
    read::{StreamRow, unsigned},
    session::Session,
    statements::Statements,
};
use crate::{
    message::Message,
    server::log::{
        AppendError, Appended, Change, EventId, Generation, IdempotencyKey, KEY_LIFETIME,
        MessageText, RetentionLimits, StreamName,
        key_hash::{self, Hash},
    },
};

/// What a publisher wants.
#[derive(Debug)]
pub(super) enum Operation {
    Append {
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    },
    End {
        stream: StreamName,
        text: MessageText,
    },
    Delete {
        stream: StreamName,
    },
    /// Nothing but the commit, which only the primary can make.
    Confirm,
}

/// The result of an operation. That of a deletion is the last id of the stream, that of a confirmation
/// means nothing.
pub(super) type Outcome = Result<Appended, AppendError>;

/// The results of a group, in its order, and the changes for the followers.
#[derive(Debug, Default)]
pub(super) struct GroupResult {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) changes: Vec<(StreamName, Change)>,
    /// Whether the session cannot be used further.
    pub(super) is_lost: bool,
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum GroupError {
    /// Nothing was stored; the same operations may be tried again at once.
    Retry(Vec<Operation>),
    /// Nothing was stored, for this reason.
    NotStored(String),
    /// The COMMIT was not answered: the transaction may have been stored, with this result.
    Unknown(String, GroupResult),
}

impl From<Error> for GroupError {
    fn from(error: Error) -> Self {
        Self::NotStored(describe(&error))
    }
}

impl GroupError {
    fn no_answer() -> Self {
        Self::NotStored(NO_ANSWER.to_owned())
    }
}

/// What clients are told where the standby that is demanded is missing.
pub(super) const NO_STANDBY: &str = "the database does not wait for a synchronous standby";
const NO_ANSWER: &str = "the database does not answer";

/// The rows that a transaction has locked, and what it does to them.
struct Batch {
    limits: RetentionLimits,
    /// The time of the database, in Unix milliseconds.
    now: u64,
    /// Whether commits wait for a standby.
    is_replicated: bool,
    streams: BTreeMap<StreamName, DirtyStream>,
    /// None where no operation needs it.
    store: Option<StoreRow>,
    keys: HashMap<Hash, KeyRecord>,
    new_keys: Vec<(Hash, i64)>,
    /// The key of the stream that is deleted.
    deleted: Option<i64>,
    /// Whether the stored streams are changed.
    has_changes: bool,
}

/// The row of `store`.
#[derive(Clone, Copy, Debug)]
struct StoreRow {
    generation: i64,
    sequence: u64,
    streams: u64,
}

struct DirtyStream {
    row: StreamRow,
    /// The sequence before the first of the fresh messages; 0 where nothing precedes them.
    after: u64,
    fresh: Vec<Message>,
    is_new: bool,
    is_changed: bool,
    has_ended: bool,
}

/// The append that used a key.
#[derive(Clone, Copy, Debug)]
struct KeyRecord {
    last: EventId,
    digest: Hash,
    /// When it was used, in Unix milliseconds.
    used: u64,
}

/// What identifies a group: the server, and a number that rises with each group of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupId {
    pub(super) server: i64,
    pub(super) number: i64,
}

/// Locks what the operations need. Returns none if the transaction must begin again, because a stream
/// was created meanwhile.
async fn lock(
    session: &Session,
    statements: &Statements,
    limits: RetentionLimits,
    operations: &[Operation],
) -> Result<Option<Batch>, Error> {
    let client = &session.client;
    let names: BTreeSet<&str> =
        operations.iter().filter_map(Operation::stream).map(StreamName::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let (begun, rows, now) = join!(
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        async { client.query(&statements.lock_streams, &[&names]).await },
        async { client.query_one(&statements.now, &[]).await },
    );
    begun?;
    let mut streams = BTreeMap::new();
    for row in rows? {
        let Ok(name) = row.try_get::<_, &str>(0)?.parse::<StreamName>() else { continue };
        let row = StreamRow::of(&row, 1)?;
        streams.insert(name, DirtyStream::stored(row));
    }
    let now = now?;
    let mut batch = Batch {
        limits,
        now: unsigned(&now, 0)?,
        is_replicated: now.try_get(1)?,
        streams,
        store: None,
        keys: HashMap::new(),
        new_keys: Vec::new(),
        deleted: None,
        has_changes: false,
    };
    let hashes: Vec<Hash> =
        operations.iter().filter_map(|operation| batch.key_of(operation)).collect();
    if !hashes.is_empty() {
        let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 16]>::as_slice).collect();
        for row in client.query(&statements.keys, &[&hashes]).await? {
            let (name, record) = KeyRecord::of(&row)?;
            batch.keys.insert(name, record);
        }
    }
    let creates = |operation: &Operation| matches!(operation, Operation::Append { stream, .. } if !batch.streams.contains_key(stream));
    let deletes = operations.iter().any(|operation| matches!(operation, Operation::Delete { .. }));
    if deletes || operations.iter().any(creates) {
        let (row, existing) = join!(client.query_one(&statements.lock_store, &[]), async {
            client.query(&statements.existing, &[&names]).await
        },);
        // To lock a row that was created meanwhile would break the order of the locks.
        if existing?.len() != batch.streams.len() {
            return Ok(None);
        }
        let row = row?;
        batch.store = Some(StoreRow {
            generation: row.try_get(0)?,
            sequence: unsigned(&row, 1)?,
            streams: unsigned(&row, 2)?,
        });
    }
    Ok(Some(batch))
}

/// Whether a transaction was refused because of another one, and may begin again.
fn is_conflict(error: &Error) -> bool {
    let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| conflicts.contains(code))
}

/// What a transaction must keep to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) limits: RetentionLimits,
    /// Whether to store nothing without a synchronous standby.
    pub(super) needs_standby: bool,
    /// When it must be answered.
    pub(super) deadline: Instant,
}

/// Runs a group as one transaction, committed durably.
pub(super) async fn run(
    session: &Session,
    statements: &Statements,
    group: GroupId,
    operations: Vec<Operation>,
    terms: Terms,
) -> Result<GroupResult, GroupError> {
    let Terms { limits, needs_standby, deadline } = terms;
    let roll_back = async || {
        let rolled_back = timeout_at(deadline, session.client.batch_execute("ROLLBACK")).await;
        rolled_back.map_err(|_| GroupError::no_answer())?.map_err(GroupError::from)
    };
    let locking = lock(session, statements, limits, &operations);
    let locked = timeout_at(deadline, locking).await.map_err(|_| GroupError::no_answer())?;
    let mut batch = match locked {
        Ok(Some(batch)) => batch,
        Err(error) if !is_conflict(&error) => return Err(error.into()),
        Ok(None) | Err(_) => {
            roll_back().await?;
            return Err(GroupError::Retry(operations));
        }
    };
    if needs_standby && !batch.is_replicated {
        roll_back().await?;
        return Err(GroupError::NotStored(NO_STANDBY.to_owned()));
    }
    let outcomes = operations.into_iter().map(|operation| batch.apply(operation)).collect();
    if !batch.has_changes {
        // The outcomes are known, whatever becomes of the session.
        let is_lost = roll_back().await.is_err();
        return Ok(GroupResult { outcomes, changes: Vec::new(), is_lost });
    }
    let warnings = session.warnings();
    let writing = batch.write(session, statements, group);
    let written = timeout_at(deadline, writing).await.unwrap_or_else(|_| Err(WriteError::NoAnswer));
    let result = GroupResult { outcomes, changes: batch.into_changes(), is_lost: false };
    match written {
        // A commit that was not replicated, because the wait for the standby was cancelled, is a
        // success with a warning.
        Ok(()) if session.warnings() != warnings => {
            Err(GroupError::Unknown("the database warned at the commit".to_owned(), result))
        }
        Ok(()) => Ok(result),
        Err(WriteError::NotStored(error)) => Err(error.into()),
        Err(WriteError::Commit(error)) => Err(GroupError::Unknown(describe(&error), result)),
        Err(WriteError::NoAnswer) => Err(GroupError::Unknown(NO_ANSWER.to_owned(), result)),
    }
}

impl Operation {
    fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::Append { stream, .. } | Self::End { stream, .. } | Self::Delete { stream } => {
                Some(stream)
            }
            Self::Confirm => None,
        }
    }
}

impl DirtyStream {
    fn stored(row: StreamRow) -> Self {
        let after = row.head.seq;
        Self { row, after, fresh: Vec::new(), is_new: false, is_changed: false, has_ended: false }
    }

    /// The next id. Its milliseconds do not decrease when the clock is set back.
    fn next_id(&self, now: u64) -> EventId {
        let EventId { millis, seq } = self.row.head;
        EventId { millis: now.max(millis), seq: seq + 1 }
    }
}

impl KeyRecord {
    fn of(row: &Row) -> Result<(Hash, Self), Error> {
        let hash = |bytes: Vec<u8>| Hash::try_from(bytes).unwrap_or_default();
        let last = EventId { seq: unsigned(row, 1)?, millis: unsigned(row, 2)? };
        let record = Self { last, digest: hash(row.try_get(3)?), used: unsigned(row, 4)? };
        Ok((hash(row.try_get(0)?), record))
    }
}

impl Batch {
    /// The hash of the key of an operation on a stream that exists.
    fn key_of(&self, operation: &Operation) -> Option<Hash> {
        let Operation::Append { stream, key: Some(key), .. } = operation else { return None };
        Some(key_hash::hash_key(Generation(self.streams.get(stream)?.row.stream), key))
    }

    fn apply(&mut self, operation: Operation) -> Outcome {
        match operation {
            Operation::Append { stream, batch, key } => self.append(stream, batch, key.as_ref()),
            Operation::End { stream, text } => self.end(&stream, text),
            Operation::Delete { stream } => self.delete(&stream),
            Operation::Confirm => {
                self.has_changes = true;
                Ok(Appended { last: EventId::BEGINNING, replayed: false })
            }
        }
    }

    fn append(
        &mut self,
        stream: StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
    ) -> Outcome {
        let now = self.now;
        let dirty = match self.streams.entry(stream) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let store = self.store.as_mut();
                let store = store.filter(|store| store.streams < self.limits.streams);
                let Some(store) = store else { return Err(AppendError::TooManyStreams) };
                store.streams += 1;
                store.generation += 1;
                let row = StreamRow::new(store.generation, store.sequence);
                entry.insert(DirtyStream { after: 0, is_new: true, ..DirtyStream::stored(row) })
            }
        };
        let key = key.map(|key| {
            (key_hash::hash_key(Generation(dirty.row.stream), key), key_hash::digest(&batch))
        });
        // Checked first: a replay succeeds even if the stream has ended since.
        if let Some((name, digest)) = &key
            && let Some(record) = self.keys.get(name)
            && record.used > now.saturating_sub(lifetime_ms())
        {
            // Another server may not know yet whether it is replicated: this commit shows that it is.
            self.has_changes = true;
            return if record.digest == *digest {
                Ok(Appended { last: record.last, replayed: true })
            } else {
                Err(AppendError::KeyReused)
            };
        }
        if dirty.row.closing.is_some() {
            return Err(AppendError::Ended);
        }
        for data in batch {
            let message = Message { id: dirty.next_id(now), data: data.into_text() };
            dirty.row.head = message.id;
            dirty.row.count += 1;
            dirty.row.bytes += message.data.len() as u64;
            dirty.fresh.push(message);
        }
        let last = dirty.row.head;
        if let Some((name, digest)) = key {
            let replaced = self.keys.insert(name, KeyRecord { last, digest, used: now });
            self.new_keys.push((name, dirty.row.stream));
            dirty.row.keys += u64::from(replaced.is_none());
        }
        (dirty.is_changed, self.has_changes) = (true, true);
        Ok(Appended { last, replayed: false })
    }

    fn end(&mut self, stream: &StreamName, text: MessageText) -> Outcome {
        let Some(dirty) = self.streams.get_mut(stream) else { return Err(AppendError::NoStream) };
        if dirty.row.closing.is_some() {
            return Err(AppendError::Ended);
        }
        dirty.row.head = dirty.next_id(self.now);
        dirty.row.closing = Some(text.into_text());
        (dirty.is_changed, dirty.has_ended, self.has_changes) = (true, true, true);
        Ok(Appended { last: dirty.row.head, replayed: false })
    }

    /// Deletes a stream. The sweep removes its messages in steps.
    fn delete(&mut self, stream: &StreamName) -> Outcome {
        let (Some(dirty), Some(store)) = (self.streams.get(stream), &mut self.store) else {
            return Err(AppendError::NoStream);
        };
        // Sequences continue, so that no id of an earlier generation is assigned again.
        store.sequence = store.sequence.max(dirty.row.head.seq);
        store.streams = store.streams.saturating_sub(1);
        self.deleted = Some(dirty.row.stream);
        self.has_changes = true;
        Ok(Appended { last: dirty.row.head, replayed: false })
    }

    /// The changes that the followers of this server receive.
    fn into_changes(self) -> Vec<(StreamName, Change)> {
        let mut changes = Vec::new();
        for (name, dirty) in self.streams {
            let DirtyStream { row, mut after, fresh, has_ended, .. } = dirty;
            let generation = row.generation;
            if self.deleted == Some(row.stream) {
                changes.push((name, Change::Deleted { generation }));
                continue;
            }
            if let Some(last) = fresh.last() {
                let before = std::mem::replace(&mut after, last.id.seq);
                let change = Change::Appended { generation, after: before, messages: fresh };
                changes.push((name.clone(), change));
            }
            if let Some(data) = row.closing.filter(|_| has_ended) {
                let end = Message { id: row.head, data };
                changes.push((name, Change::Ended { generation, after, end }));
            }
        }
        changes
    }
}

fn lifetime_ms() -> u64 {
    u64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(u64::MAX)
}
