//! A transaction: what is appended, ended and deleted together.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        Append, Appended, Change, Data, EventId, IdempotencyKey, Life, Limits, Refusal, StreamName,
    },
    read::{Stream, id, signed},
    retention,
};
use crate::message::Message;

/// A transaction, and the streams it has touched.
pub(super) struct Group<'conn> {
    pub(super) tx: Transaction<'conn>,
    pub(super) limits: Limits,
    /// The time of day.
    pub(super) now: u64,
    /// What is written back once, when all is done.
    touched: BTreeMap<StreamName, Touched>,
    changes: Vec<Change>,
}

/// A stream that the transaction touches.
pub(super) struct Touched {
    pub(super) stream: Stream,
    /// The sequence before the first of the fresh messages.
    after: u64,
    /// What was appended.
    fresh: Vec<Message>,
}

impl<'conn> Group<'conn> {
    pub(super) fn begin(
        connection: &'conn mut Connection,
        limits: Limits,
        now: u64,
    ) -> rusqlite::Result<Self> {
        let tx = connection.transaction()?;
        Ok(Self { tx, limits, now, touched: BTreeMap::new(), changes: Vec::new() })
    }

    /// Appends a batch; makes the stream if there is none.
    pub(super) fn append(&mut self, append: Append) -> rusqlite::Result<Result<Appended, Refusal>> {
        let Append { stream: name, batch, key } = append;
        let mut touched = match self.take_up(&name)? {
            Some(touched) => touched,
            None if self.is_full()? => return Ok(Err(Refusal::TooManyStreams)),
            None => self.create(&name)?,
        };
        let outcome = self.append_to(&mut touched, batch, key.as_ref());
        self.put_back(name, touched);
        outcome
    }

    fn append_to(
        &mut self,
        touched: &mut Touched,
        batch: Vec<Data>,
        key: Option<&IdempotencyKey>,
    ) -> rusqlite::Result<Result<Appended, Refusal>> {
        let Stream { life, .. } = touched.stream;
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
        if touched.stream.closing.is_some() {
            return Ok(Err(Refusal::Ended));
        }
        for data in batch {
            let message = Message { id: self.next(&touched.stream), data: data.into_text() };
            self.tx.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4)")?.execute((
                life.0,
                signed(message.id.seq),
                signed(message.id.millis),
                &message.data,
            ))?;
            touched.stream.head = message.id;
            touched.stream.count += 1;
            touched.stream.bytes += message.data.len() as u64;
            touched.fresh.push(message);
        }
        let last = touched.stream.head;
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
        let Some(mut touched) = self.take_up(&name)? else { return Ok(Err(Refusal::NoStream)) };
        let outcome = if touched.stream.closing.is_some() {
            Err(Refusal::Ended)
        } else {
            touched.stream.head = self.next(&touched.stream);
            touched.stream.closing = Some(text.into_text());
            Ok(touched.stream.head)
        };
        self.put_back(name, touched);
        Ok(outcome)
    }

    /// Forgets a stream. Its messages are out of reach at once, and removed step by step.
    pub(super) fn delete(&mut self, name: StreamName) -> rusqlite::Result<Result<(), Refusal>> {
        let Some(touched) = self.take_up(&name)? else { return Ok(Err(Refusal::NoStream)) };
        let Stream { life, head, .. } = touched.stream;
        self.tx.execute("DELETE FROM streams WHERE life = ?1", [life.0])?;
        self.tx.execute("INSERT INTO garbage VALUES (?1)", [life.0])?;
        self.tx.execute("UPDATE store SET deleted = max(deleted, ?1)", [signed(head.millis)])?;
        self.tell(&name, touched);
        self.changes.push(Change::Deleted { stream: name, life });
        Ok(Ok(()))
    }

    /// Takes up a stream, as the transaction has it or as the store does; whoever takes it up puts
    /// it back.
    pub(super) fn take_up(&mut self, name: &StreamName) -> rusqlite::Result<Option<Touched>> {
        if let Some(touched) = self.touched.remove(name) {
            return Ok(Some(touched));
        }
        let stream = Stream::of(&self.tx, name)?;
        Ok(stream.map(|stream| Touched { after: stream.head.seq, fresh: Vec::new(), stream }))
    }

    pub(super) fn put_back(&mut self, name: StreamName, touched: Touched) {
        self.touched.insert(name, touched);
    }

    fn create(&mut self, name: &StreamName) -> rusqlite::Result<Touched> {
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
        Ok(Touched { stream, after: 0, fresh: Vec::new() })
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
    pub(super) fn commit(mut self) -> rusqlite::Result<Vec<Change>> {
        for (name, mut touched) in std::mem::take(&mut self.touched) {
            let most = 2 * touched.fresh.len() + retention::STEP / 10;
            retention::trim(&self, &mut touched.stream, most)?;
            let Stream { life, head, trimmed, count, bytes, closing } = &touched.stream;
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
            self.tell(&name, touched);
        }
        self.tx.commit()?;
        Ok(self.changes)
    }

    /// Notes what the observer will be told of a stream.
    fn tell(&mut self, name: &StreamName, touched: Touched) {
        let Touched { stream, mut after, fresh } = touched;
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
