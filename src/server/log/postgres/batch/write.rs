//! The second half of a transaction: everything that it changes, sent in one exchange with the COMMIT.

use std::{pin::pin, task::Poll};

use futures::{future::OptionFuture, join, poll};
use tokio_postgres::Error;

use super::{Batch, DirtyStream, GroupId, StoreRow};
use crate::{
    message::{Message, StreamName},
    server::log::postgres::{
        read::{StreamRow, signed},
        session::Session,
        statements::{CHANNEL, Statements},
    },
};

/// The most messages that a transaction removes from a stream, beside twice those that it adds.
const MESSAGES_PER_TRIM: usize = 100;
/// The most stream names of one notification: with names of 64 characters less than the 8,000 bytes
/// that a notification may have.
const NAMES_PER_NOTIFICATION: usize = 100;

/// Why the second half of a transaction failed.
pub(super) enum WriteError {
    /// A statement before the COMMIT was refused, and with it the transaction.
    NotStored(Error),
    /// The COMMIT failed.
    Commit(Error),
    /// The COMMIT was not answered in time.
    NoAnswer,
}

impl Batch {
    /// Sends everything in one exchange, with the COMMIT.
    pub(super) async fn write(
        &self,
        session: &Session,
        statements: &Statements,
        group: GroupId,
    ) -> Result<(), WriteError> {
        let client = &session.client;
        let changed: Vec<(&StreamName, &DirtyStream)> =
            self.streams.iter().filter(|(_, dirty)| dirty.is_changed).collect();
        let new = StreamColumns::of(changed.iter().filter(|(_, dirty)| dirty.is_new));
        let stored = StreamColumns::of(changed.iter().filter(|(_, dirty)| !dirty.is_new));
        // A stream can be created and ended at once.
        let ended_new =
            StreamColumns::of(changed.iter().filter(|(_, dirty)| dirty.is_new && dirty.has_ended));
        let messages = MessageColumns::of(&changed);
        let keys = self.key_columns();
        let (due, most) = self.streams_to_trim(&changed);
        let (due_keys, most_keys) = self.streams_to_trim_keys(&changed);
        let limits = (signed(self.limits.messages), signed(self.limits.bytes));
        let no_cutoff = i64::MIN;
        let notifications = self.notifications(group, &changed);

        let statements_sent = async {
            <[_; 9]>::from(join!(
                insert_streams(session, statements, &new),
                OptionFuture::from((!messages.streams.is_empty()).then_some(async {
                    let MessageColumns { streams, seqs, millis, data } = &messages;
                    client
                        .execute(&statements.insert_messages, &[streams, seqs, millis, data])
                        .await
                })),
                update_streams(session, statements, &stored),
                update_streams(session, statements, &ended_new),
                OptionFuture::from(self.deleted.map(|stream| async move {
                    client.execute(&statements.delete_stream, &[&stream]).await
                })),
                OptionFuture::from(self.store.map(|store| async move {
                    let StoreRow { generation, sequence, streams } = store;
                    client
                        .execute(
                            &statements.update_store,
                            &[&generation, &signed(sequence), &signed(streams)],
                        )
                        .await
                })),
                OptionFuture::from((!keys.names.is_empty()).then_some(async {
                    let KeyColumns { names, streams, seqs, millis, digests, used } = &keys;
                    client
                        .execute(
                            &statements.insert_keys,
                            &[names, streams, seqs, millis, digests, used],
                        )
                        .await
                })),
                OptionFuture::from((!due.is_empty()).then_some(async {
                    client
                        .execute(&statements.trim, &[&due, &most, &limits.0, &limits.1, &no_cutoff])
                        .await
                })),
                OptionFuture::from((!due_keys.is_empty()).then_some(async {
                    client.execute(&statements.trim_keys, &[&due_keys, &most_keys]).await
                })),
            ))
        };
        let (written, recorded, committed) = join!(
            statements_sent,
            async {
                client.execute(&statements.record_group, &[&group.server, &group.number]).await
            },
            async {
                let mut commit = pin!(client.batch_execute("COMMIT"));
                // The first poll sends. The notification is sent after the COMMIT, or it would hold a lock
                // of all servers during it, and its answer is not awaited: it is only a hint.
                let committed = poll!(commit.as_mut());
                let _ =
                    poll!(pin!(client.execute(&statements.notify, &[&CHANNEL, &notifications])));
                match committed {
                    Poll::Ready(committed) => committed,
                    Poll::Pending => commit.await,
                }
            },
        );
        for written in written.into_iter().flatten().chain([recorded]) {
            // Where the connection broke, the COMMIT may have been processed all the same: only an
            // error of the database itself is certain.
            if let Err(error) = written {
                let is_refused = error.as_db_error().is_some();
                return Err(if is_refused {
                    WriteError::NotStored(error)
                } else {
                    WriteError::Commit(error)
                });
            }
        }
        committed.map_err(WriteError::Commit)
    }

    fn key_columns(&self) -> KeyColumns<'_> {
        let mut columns = KeyColumns::default();
        for (name, stream) in &self.new_keys {
            let Some(record) = self.keys.get(name) else { continue };
            columns.names.push(name);
            columns.streams.push(*stream);
            columns.seqs.push(signed(record.last.seq));
            columns.millis.push(signed(record.last.millis));
            columns.digests.push(&record.digest);
            columns.used.push(signed(record.used));
        }
        columns
    }

    /// The streams that exceed a limit, and how many messages to remove at most: more than were
    /// added, or the excess would grow.
    fn streams_to_trim(&self, changed: &[(&StreamName, &DirtyStream)]) -> (Vec<i64>, Vec<i64>) {
        let exceeds =
            |row: &StreamRow| row.count > self.limits.messages || row.bytes > self.limits.bytes;
        let due = changed.iter().filter(|(_, dirty)| exceeds(&dirty.row));
        due.map(|(_, dirty)| {
            (dirty.row.stream, signed((2 * dirty.fresh.len() + MESSAGES_PER_TRIM) as u64))
        })
        .unzip()
    }

    fn streams_to_trim_keys(
        &self,
        changed: &[(&StreamName, &DirtyStream)],
    ) -> (Vec<i64>, Vec<i64>) {
        let surplus = |dirty: &DirtyStream| dirty.row.keys.saturating_sub(self.limits.keys);
        let due = changed.iter().filter(|(_, dirty)| surplus(dirty) > 0);
        due.map(|(_, dirty)| (dirty.row.stream, signed(surplus(dirty)))).unzip()
    }

    /// The notifications for the other servers: who sends them, and the names of the changed streams.
    fn notifications(
        &self,
        group: GroupId,
        changed: &[(&StreamName, &DirtyStream)],
    ) -> Vec<String> {
        let deleted =
            self.streams.iter().filter(|(_, dirty)| Some(dirty.row.stream) == self.deleted);
        let names: Vec<&str> = changed
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(deleted.map(|(name, _)| name.as_str()))
            .collect();
        names
            .chunks(NAMES_PER_NOTIFICATION)
            .map(|names| format!("{} {}", group.server, names.join(" ")))
            .collect()
    }
}

async fn insert_streams(
    session: &Session,
    statements: &Statements,
    columns: &StreamColumns<'_>,
) -> Option<Result<u64, Error>> {
    if columns.streams.is_empty() {
        return None;
    }
    let StreamColumns { names, streams, bases, seqs, millis, counts, bytes, keys, .. } = columns;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [names, streams, bases, seqs, millis, counts, bytes, keys];
    Some(session.client.execute(&statements.insert_streams, &parameters).await)
}

async fn update_streams(
    session: &Session,
    statements: &Statements,
    columns: &StreamColumns<'_>,
) -> Option<Result<u64, Error>> {
    if columns.streams.is_empty() {
        return None;
    }
    let StreamColumns { streams, seqs, millis, counts, bytes, keys, closings, .. } = columns;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [streams, seqs, millis, counts, bytes, keys, closings];
    Some(session.client.execute(&statements.update_streams, &parameters).await)
}

/// Rows of `streams`, as the columns that a statement takes.
#[derive(Default)]
struct StreamColumns<'a> {
    names: Vec<&'a str>,
    streams: Vec<i64>,
    bases: Vec<i64>,
    seqs: Vec<i64>,
    millis: Vec<i64>,
    counts: Vec<i64>,
    bytes: Vec<i64>,
    keys: Vec<i64>,
    closings: Vec<Option<&'a [u8]>>,
}

impl<'a> StreamColumns<'a> {
    fn of<'b>(rows: impl Iterator<Item = &'b (&'a StreamName, &'a DirtyStream)>) -> Self
    where
        'a: 'b,
    {
        let mut columns = Self::default();
        for (name, DirtyStream { row, .. }) in rows {
            columns.names.push(name.as_str());
            columns.streams.push(row.stream);
            columns.bases.push(signed(row.base));
            columns.seqs.push(signed(row.head.seq));
            columns.millis.push(signed(row.head.millis));
            columns.counts.push(signed(row.count));
            columns.bytes.push(signed(row.bytes));
            columns.keys.push(signed(row.keys));
            columns.closings.push(row.closing.as_deref().map(str::as_bytes));
        }
        columns
    }
}

/// New rows of `messages`.
#[derive(Default)]
struct MessageColumns<'a> {
    streams: Vec<i64>,
    seqs: Vec<i64>,
    millis: Vec<i64>,
    data: Vec<&'a [u8]>,
}

impl<'a> MessageColumns<'a> {
    fn of(changed: &[(&StreamName, &'a DirtyStream)]) -> Self {
        let mut columns = Self::default();
        for (_, DirtyStream { row, fresh, .. }) in changed {
            for Message { id, data } in fresh {
                columns.streams.push(row.stream);
                columns.seqs.push(signed(id.seq));
                columns.millis.push(signed(id.millis));
                columns.data.push(data.as_bytes());
            }
        }
        columns
    }
}

/// New rows of `keys`.
#[derive(Default)]
struct KeyColumns<'a> {
    names: Vec<&'a [u8]>,
    streams: Vec<i64>,
    seqs: Vec<i64>,
    millis: Vec<i64>,
    digests: Vec<&'a [u8]>,
    used: Vec<i64>,
}
