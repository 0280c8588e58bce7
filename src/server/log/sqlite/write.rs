//! Writing: everything that waits is one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::{
        Append, Appended, Change, Clock, Data, EventId, IdempotencyKey, Life, Limits, Refusal,
        StreamName,
    },
    Trouble,
    file::Claim,
    read::{Stream, id, signed},
    retention,
};
use crate::message::Message;

/// How many bytes of text one transaction takes before it is closed.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What the writer is asked to do.
pub(super) enum Op {
    /// A part of the next transaction.
    Work {
        /// How many bytes of text it brings.
        size: usize,
        work: Work,
    },
    /// Stop, once what came before is done.
    Close,
}

/// Does its part, and gives back how to answer once that is stored. If it is not, the answer is
/// dropped, and who waits for it sees that: not before the trouble is known.
pub(super) type Work = Box<dyn FnOnce(&mut Group<'_>) -> (rusqlite::Result<()>, Answer) + Send>;
pub(super) type Answer = Box<dyn FnOnce() + Send>;

impl Op {
    /// Something to do, and where its answer will be.
    pub(super) fn new<T: Send + 'static>(
        size: usize,
        act: impl FnOnce(&mut Group<'_>) -> rusqlite::Result<Result<T, Refusal>> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |group| match act(group) {
            // Who does not wait any more does not hear it.
            Ok(outcome) => (Ok(()), Box::new(move || drop(reply.send(outcome)))),
            Err(error) => (Err(error), Box::new(move || drop(reply))),
        });
        (Self::Work { size, work }, answer)
    }
}

/// The thread that writes.
pub(super) struct Writer {
    connection: Connection,
    /// Goes after the connection: nobody opens a file that is not closed yet.
    _claim: Claim,
    limits: Limits,
    clock: Clock,
    trouble: Trouble,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        claim: Claim,
        limits: Limits,
        clock: Clock,
        trouble: Trouble,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, _claim: claim, limits, clock, trouble }
    }

    /// Serves until it is told to close, or until nobody can ask any more.
    pub(super) fn run(mut self, mut ops: mpsc::Receiver<Op>, mut observer: impl FnMut(Change)) {
        while let Some(first) = ops.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(Op::Work { size, work }) = next {
                group.push(work);
                bytes += size;
                next = if bytes < GROUP_BYTES { ops.try_recv().ok() } else { None };
            }
            self.serve(group, &mut observer);
            if let Some(Op::Close) = next {
                return;
            }
        }
    }

    /// Stores, acknowledges, fans out: in this order, always.
    fn serve(&mut self, group: Vec<Work>, observer: &mut impl FnMut(Change)) {
        let (mut group, mut answers) = (group.into_iter(), Vec::new());
        match self.store(&mut group, &mut answers) {
            Ok(changes) => {
                if self.trouble.set(None).is_some() {
                    tracing::info!("the store can be written again");
                }
                for answer in answers {
                    answer();
                }
                changes.into_iter().for_each(observer);
            }
            Err(error) => {
                if self.trouble.set(Some(error.to_string().into())).is_none() {
                    tracing::error!(%error, "the store can not be written");
                }
            }
        }
    }

    /// Both stay with the caller, so that nobody hears of a failure from the answer that is not
    /// given.
    fn store(
        &mut self,
        group: &mut impl Iterator<Item = Work>,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<Vec<Change>> {
        let mut transaction = Group {
            tx: self.connection.transaction()?,
            limits: self.limits,
            now: self.clock.now(),
            open: BTreeMap::new(),
            changes: Vec::new(),
        };
        for work in group {
            let (done, answer) = work(&mut transaction);
            answers.push(answer);
            done?;
        }
        transaction.commit()
    }
}

/// A transaction, and the streams it has touched.
pub(super) struct Group<'conn> {
    pub(super) tx: Transaction<'conn>,
    pub(super) limits: Limits,
    /// The time of day.
    pub(super) now: u64,
    /// What is written back once, when all is done.
    open: BTreeMap<StreamName, Open>,
    changes: Vec<Change>,
}

/// A stream that the transaction touches.
pub(super) struct Open {
    pub(super) stream: Stream,
    /// The sequence before the first of the fresh messages.
    after: u64,
    /// What was appended.
    fresh: Vec<Message>,
}

impl Group<'_> {
    /// Appends a batch; makes the stream if there is none.
    pub(super) fn append(&mut self, append: Append) -> rusqlite::Result<Result<Appended, Refusal>> {
        let Append { stream: name, batch, key } = append;
        let mut open = match self.open(&name)? {
            Some(open) => open,
            None if self.is_full()? => return Ok(Err(Refusal::TooManyStreams)),
            None => self.create(&name)?,
        };
        let outcome = self.append_to(&mut open, batch, key.as_ref());
        self.open.insert(name, open);
        outcome
    }

    fn append_to(
        &mut self,
        open: &mut Open,
        batch: Vec<Data>,
        key: Option<&IdempotencyKey>,
    ) -> rusqlite::Result<Result<Appended, Refusal>> {
        let Stream { life, .. } = open.stream;
        let digest = key.map(|_| digest(&batch));
        // Before anything else: what was done is done, even if the stream has ended since.
        if let Some(key) = key
            && let Some((first, last)) = self.used(life, key)?
        {
            let same = Some(first) == digest;
            return Ok(if same {
                Ok(Appended { last, replayed: true })
            } else {
                Err(Refusal::KeyReused)
            });
        }
        if open.stream.closing.is_some() {
            return Ok(Err(Refusal::Ended));
        }
        for data in batch {
            let message = Message { id: self.next(&open.stream), data: data.into_text() };
            self.tx.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4)")?.execute((
                life.0,
                signed(message.id.seq),
                signed(message.id.millis),
                &message.data,
            ))?;
            open.stream.head = message.id;
            open.stream.count += 1;
            open.stream.bytes += message.data.len() as u64;
            open.fresh.push(message);
        }
        let last = open.stream.head;
        if let Some(key) = key {
            self.tx
                .prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute((
                    life.0,
                    &key.0,
                    digest,
                    signed(last.seq),
                    signed(last.millis),
                    signed(self.now),
                ))?;
        }
        Ok(Ok(Appended { last, replayed: false }))
    }

    /// Ends a stream.
    pub(super) fn end(
        &mut self,
        name: StreamName,
        text: Data,
    ) -> rusqlite::Result<Result<EventId, Refusal>> {
        let Some(mut open) = self.open(&name)? else { return Ok(Err(Refusal::NoStream)) };
        let outcome = if open.stream.closing.is_some() {
            Err(Refusal::Ended)
        } else {
            open.stream.head = self.next(&open.stream);
            open.stream.closing = Some(text.into_text());
            Ok(open.stream.head)
        };
        self.open.insert(name, open);
        Ok(outcome)
    }

    /// Forgets a stream. Its messages are out of reach at once, and removed step by step.
    pub(super) fn delete(&mut self, name: StreamName) -> rusqlite::Result<Result<(), Refusal>> {
        let Some(open) = self.open(&name)? else { return Ok(Err(Refusal::NoStream)) };
        let Stream { life, head, .. } = open.stream;
        self.tx.execute("DELETE FROM streams WHERE life = ?1", [life.0])?;
        self.tx.execute("INSERT INTO garbage VALUES (?1)", [life.0])?;
        self.tx.execute("UPDATE store SET deleted = max(deleted, ?1)", [signed(head.millis)])?;
        self.tell(&name, open);
        self.changes.push(Change::Deleted { stream: name, life });
        Ok(Ok(()))
    }

    /// Takes the stream out of the transaction's hands, or out of the store; whoever changes it
    /// puts it back.
    pub(super) fn open(&mut self, name: &StreamName) -> rusqlite::Result<Option<Open>> {
        if let Some(open) = self.open.remove(name) {
            return Ok(Some(open));
        }
        let stream = Stream::of(&self.tx, name)?;
        Ok(stream.map(|stream| Open { after: stream.head.seq, fresh: Vec::new(), stream }))
    }

    pub(super) fn put_back(&mut self, name: StreamName, open: Open) {
        self.open.insert(name, open);
    }

    fn create(&mut self, name: &StreamName) -> rusqlite::Result<Open> {
        // Later than any message of an earlier life, whatever the clock says.
        let millis: i64 =
            self.tx.query_row("SELECT deleted + 1 FROM store", [], |row| row.get(0))?;
        self.tx.execute(
            "INSERT INTO streams (name, seq, millis, trimmed, count, bytes) VALUES (?1, 0, ?2, 0, 0, 0)",
            (name.as_str(), millis),
        )?;
        let stream = Stream {
            life: Life(self.tx.last_insert_rowid()),
            head: EventId { millis: millis.unsigned_abs(), seq: 0 },
            trimmed: 0,
            count: 0,
            bytes: 0,
            closing: None,
        };
        Ok(Open { stream, after: 0, fresh: Vec::new() })
    }

    fn is_full(&self) -> rusqlite::Result<bool> {
        let streams: i64 =
            self.tx.query_row("SELECT count(*) FROM streams", [], |row| row.get(0))?;
        Ok(streams.unsigned_abs() >= self.limits.streams)
    }

    /// The id of what comes next in a stream: it never goes back when the clock does.
    fn next(&self, stream: &Stream) -> EventId {
        EventId { millis: self.now.max(stream.head.millis), seq: stream.head.seq + 1 }
    }

    /// What was appended under a key that is still remembered: the digest of the data, and the id.
    fn used(
        &self,
        life: Life,
        key: &IdempotencyKey,
    ) -> rusqlite::Result<Option<(Vec<u8>, EventId)>> {
        self.tx
            .prepare_cached(
                "SELECT digest, seq, millis FROM keys WHERE life = ?1 AND key = ?2 AND used > ?3",
            )?
            .query_row((life.0, &key.0, signed(retention::keys_forgotten(self.now))), |row| {
                Ok((row.get(0)?, id(row, 1)?))
            })
            .optional()
    }

    /// Writes back what was touched, and makes all of it durable.
    fn commit(mut self) -> rusqlite::Result<Vec<Change>> {
        for (name, mut open) in std::mem::take(&mut self.open) {
            let most = 2 * open.fresh.len() + retention::STEP / 10;
            retention::trim(&self, &mut open.stream, most)?;
            let Stream { life, head, trimmed, count, bytes, closing } = &open.stream;
            self.tx
                .prepare_cached(
                    "UPDATE streams SET seq = ?2, millis = ?3, trimmed = ?4, count = ?5, \
                     bytes = ?6, closing = ?7 WHERE life = ?1",
                )?
                .execute((
                    life.0,
                    signed(head.seq),
                    signed(head.millis),
                    signed(*trimmed),
                    signed(*count),
                    signed(*bytes),
                    closing,
                ))?;
            self.tell(&name, open);
        }
        self.tx.commit()?;
        Ok(self.changes)
    }

    /// Notes what the observer will be told of a stream.
    fn tell(&mut self, name: &StreamName, open: Open) {
        let Open { stream, mut after, fresh } = open;
        let life = stream.life;
        let ended = stream.closing.filter(|_| stream.head.seq > after + fresh.len() as u64);
        if let Some(last) = fresh.last() {
            let before = std::mem::replace(&mut after, last.id.seq);
            self.changes.push(Change::Appended {
                stream: name.clone(),
                life,
                after: before,
                messages: fresh,
            });
        }
        if let Some(data) = ended {
            let end = Message { id: stream.head, data };
            self.changes.push(Change::Ended { stream: name.clone(), life, after, end });
        }
    }
}

/// What tells one batch from another.
fn digest(batch: &[Data]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for data in batch {
        hash.update((data.as_str().len() as u64).to_le_bytes());
        hash.update(data.as_str());
    }
    hash.finalize().to_vec()
}
