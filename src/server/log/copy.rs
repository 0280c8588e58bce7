//! `tidings copy`: copies a store from one engine to the other, and verifies the copy.
//!
//! Streams are copied in the order of their names, with their messages and then their idempotency keys, a
//! batch in each transaction. So an interrupted copy holds the first streams, and a part of the last of
//! them; it is marked as unfinished, so that no server uses it, and can be continued.

use std::fmt;

use anyhow::{Context as _, bail, ensure};

use super::{
    Store,
    copied::{CopiedKey, CopiedStream, PAGE, StoreCounters, StreamCounts, StreamPart},
    postgres::PostgresCopy,
    progress::Progress,
    sqlite::SqliteCopy,
};
use crate::message::{Message, StreamName};

/// The most streams with something to store in one transaction.
const STREAMS_PER_BATCH: usize = 1000;

/// What to do with a copy that differs from its source.
const COPY_AGAIN: &str = "delete the copy, and copy again";

/// What was copied, and verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopySummary {
    streams: u64,
    counts: StreamCounts,
}

impl fmt::Display for CopySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, counts: StreamCounts { messages, bytes, keys } } = self;
        write!(
            f,
            "Copied and verified: {streams} streams, {messages} messages, {bytes} bytes of text, \
             {keys} idempotency keys"
        )
    }
}

/// Copies the store in `from` to `to`, which must be empty or an unfinished copy of the same store. One is
/// a file, the other a database. The future blocks its thread while it reads or writes the file.
///
/// # Errors
/// When a server uses one of them, one of them cannot be used, or the copy differs; the error says which
/// and why. Then the copy stays unfinished.
pub(crate) async fn copy(from: Store, to: Store) -> anyhow::Result<CopySummary> {
    let mut source = Side::open_source(from).await.context("the source cannot be copied")?;
    let counters = source.counters().await?;
    let mut target = Side::open_target(to).await.context("nothing can be copied to the target")?;
    let summary = copy_and_verify(&mut source, &mut target).await;
    let summary = summary.context("the copy is unfinished")?;
    target.finish(counters).await.context("the copy is verified, and may be unfinished")?;
    Ok(summary)
}

async fn copy_and_verify(source: &mut Side, target: &mut Side) -> anyhow::Result<CopySummary> {
    let messages = source.messages_total().await?;
    let begun = begun_copy(source, target).await?;
    let copied = target.messages_total().await?;
    if begun.is_some() {
        tracing::info!(messages, copied, "continuing the copy");
    } else {
        tracing::info!(messages, "copying");
    }
    let mut progress = Progress::new("copying", messages);
    progress.add(copied);
    copy_streams(source, target, begun, &mut progress).await?;

    tracing::info!(messages, "verifying the copy");
    let mut progress = Progress::new("verifying the copy", messages);
    let summary = verify(source, target, &mut progress).await?;
    source.refuse_servers().await?;
    target.refuse_servers().await?;
    Ok(summary)
}

/// How far an unfinished copy is: its last stream. None if it has nothing yet.
async fn begun_copy(source: &Side, target: &Side) -> anyhow::Result<Option<CopiedStream>> {
    let mut last: Option<CopiedStream> = None;
    loop {
        let after = last.as_ref().map(|stream| &stream.name);
        let (copied, _) = target.streams(after).await?;
        let (mut original, _) = source.streams(after).await?;
        original.truncate(copied.len());
        if let Some(CopiedStream { name, .. }) = first_difference(&original, &copied) {
            bail!(
                "the target is a copy of another store, or the source has changed since (stream \
                 {name}); {COPY_AGAIN}"
            );
        }
        match copied.into_iter().next_back() {
            Some(stream) => last = Some(stream),
            None => return Ok(last),
        }
    }
}

/// Copies what the target lacks: the rest of its last stream, and the streams after it.
async fn copy_streams(
    source: &mut Side,
    target: &mut Side,
    begun: Option<CopiedStream>,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    let mut after = None;
    if let Some(stream) = begun {
        let newest = target.newest(&stream).await?;
        copy_stream(source, target, &stream, newest, &mut batch, progress).await?;
        after = Some(stream.name);
    }
    loop {
        let (streams, _) = source.streams(after.as_ref()).await?;
        let Some(last) = streams.last() else { break };
        after = Some(last.name.clone());
        for stream in streams {
            copy_stream(source, target, &stream, (0, 0), &mut batch, progress).await?;
        }
    }
    batch.write(target).await
}

/// Copies a stream from its messages and keys after these sequences on.
async fn copy_stream(
    source: &mut Side,
    target: &mut Side,
    stream: &CopiedStream,
    (mut after_message, mut after_key): (u64, u64),
    batch: &mut Batch,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    batch.add(stream, Vec::new(), Vec::new());
    loop {
        let messages = source.messages(stream, after_message).await?;
        let Some(last) = messages.last() else { break };
        after_message = last.id.seq;
        progress.add(messages.len() as u64);
        batch.add(stream, messages, Vec::new());
        batch.write_if_full(target).await?;
    }
    loop {
        let keys = source.keys(stream, after_key).await?;
        let Some(key) = keys.last() else { break };
        after_key = key.last.seq;
        batch.add(stream, Vec::new(), keys);
        batch.write_if_full(target).await?;
    }
    batch.write_if_full(target).await
}

/// What the next transaction stores: parts of streams, each of another one.
#[derive(Default)]
struct Batch(Vec<StreamPart>);

impl Batch {
    fn add(&mut self, stream: &CopiedStream, messages: Vec<Message>, keys: Vec<CopiedKey>) {
        match self.0.last_mut().filter(|part| part.stream.name == stream.name) {
            Some(part) => {
                part.messages.extend(messages);
                part.keys.extend(keys);
            }
            None => self.0.push(StreamPart { stream: stream.clone(), messages, keys }),
        }
    }

    async fn write_if_full(&mut self, target: &mut Side) -> anyhow::Result<()> {
        let (mut rows, mut bytes) = (0, 0);
        for part in &self.0 {
            let counts = part.counts();
            rows += counts.messages + counts.keys;
            bytes += counts.bytes;
        }
        let is_full = rows >= PAGE.messages as u64
            || bytes >= PAGE.bytes as u64
            || self.0.len() >= STREAMS_PER_BATCH;
        if is_full { self.write(target).await } else { Ok(()) }
    }

    async fn write(&mut self, target: &mut Side) -> anyhow::Result<()> {
        target.write(&self.0).await.context("the target cannot be written")?;
        self.0.clear();
        Ok(())
    }
}

/// Compares every row of the two sides, and the counts in the target with its rows.
///
/// # Errors
/// When they differ: the error says where.
async fn verify(
    source: &mut Side,
    target: &mut Side,
    progress: &mut Progress,
) -> anyhow::Result<CopySummary> {
    let mut summary = CopySummary::default();
    let mut after: Option<StreamName> = None;
    loop {
        let (original, _) = source.streams(after.as_ref()).await?;
        let (copied, stored) = target.streams(after.as_ref()).await?;
        if let Some(CopiedStream { name, .. }) = first_difference(&original, &copied) {
            bail!("the stream {name} differs; {COPY_AGAIN}");
        }
        let Some(last) = copied.last() else { return Ok(summary) };
        after = Some(last.name.clone());
        for (stream, stored) in copied.iter().zip(stored) {
            let compared = verify_stream(source, target, stream, progress).await?;
            ensure!(
                compared == stored,
                "the counts of the stream {} are wrong; {COPY_AGAIN}",
                stream.name
            );
            summary.streams += 1;
            summary.counts.messages += compared.messages;
            summary.counts.bytes += compared.bytes;
            summary.counts.keys += compared.keys;
        }
    }
}

/// Compares the messages and keys of a stream, and counts them.
async fn verify_stream(
    source: &mut Side,
    target: &mut Side,
    stream: &CopiedStream,
    progress: &mut Progress,
) -> anyhow::Result<StreamCounts> {
    let mut counts = StreamCounts::default();
    let mut after = 0;
    loop {
        let original = source.messages(stream, after).await?;
        let copied = target.messages(stream, after).await?;
        if let Some(Message { id, .. }) = first_difference(&original, &copied) {
            bail!("the message {id} of the stream {} differs; {COPY_AGAIN}", stream.name);
        }
        let Some(last) = copied.last() else { break };
        after = last.id.seq;
        counts.messages += copied.len() as u64;
        counts.bytes += copied.iter().map(|message| message.data.len() as u64).sum::<u64>();
        progress.add(copied.len() as u64);
    }
    after = 0;
    loop {
        let original = source.keys(stream, after).await?;
        let copied = target.keys(stream, after).await?;
        if let Some(CopiedKey { last, .. }) = first_difference(&original, &copied) {
            bail!(
                "the idempotency key of the message {last} of the stream {} differs; {COPY_AGAIN}",
                stream.name
            );
        }
        let Some(key) = copied.last() else { return Ok(counts) };
        after = key.last.seq;
        counts.keys += copied.len() as u64;
    }
}

/// The first element that is not the same in both.
fn first_difference<'a, T: PartialEq>(original: &'a [T], copied: &'a [T]) -> Option<&'a T> {
    let same = original.iter().zip(copied).take_while(|(original, copied)| original == copied);
    let same = same.count();
    original.get(same).or(copied.get(same))
}

/// A store that is read or written.
enum Side {
    File(SqliteCopy),
    Database(PostgresCopy),
}

impl Side {
    async fn open_source(store: Store) -> anyhow::Result<Self> {
        Ok(match store {
            Store::Memory => bail!("a store in memory is used by its server only"),
            Store::File(path) => Self::File(SqliteCopy::open_source(path)?),
            Store::Postgres(options) => Self::Database(PostgresCopy::open_source(*options).await?),
        })
    }

    async fn open_target(store: Store) -> anyhow::Result<Self> {
        Ok(match store {
            Store::Memory => bail!("a store in memory is used by its server only"),
            Store::File(path) => Self::File(SqliteCopy::open_target(path)?),
            Store::Postgres(options) => Self::Database(PostgresCopy::open_target(*options).await?),
        })
    }

    async fn counters(&self) -> anyhow::Result<StoreCounters> {
        match self {
            Self::File(file) => Ok(file.counters()?),
            Self::Database(database) => database.counters().await,
        }
    }

    async fn messages_total(&self) -> anyhow::Result<u64> {
        match self {
            Self::File(file) => Ok(file.messages_total()?),
            Self::Database(database) => database.messages_total().await,
        }
    }

    /// The next streams in the order of their names, and what the side says that it has of them.
    async fn streams(
        &self,
        after: Option<&StreamName>,
    ) -> anyhow::Result<(Vec<CopiedStream>, Vec<StreamCounts>)> {
        let streams = match self {
            Self::File(file) => file.streams(after)?,
            Self::Database(database) => database.streams(after).await?,
        };
        Ok(streams.into_iter().unzip())
    }

    async fn messages(
        &mut self,
        stream: &CopiedStream,
        after: u64,
    ) -> anyhow::Result<Vec<Message>> {
        match self {
            Self::File(file) => file.messages(stream, after),
            Self::Database(database) => database.messages(stream, after).await,
        }
    }

    async fn keys(&self, stream: &CopiedStream, after: u64) -> anyhow::Result<Vec<CopiedKey>> {
        match self {
            Self::File(file) => file.keys(stream, after),
            Self::Database(database) => database.keys(stream, after).await,
        }
    }

    async fn newest(&self, stream: &CopiedStream) -> anyhow::Result<(u64, u64)> {
        match self {
            Self::File(file) => file.newest(stream),
            Self::Database(database) => database.newest(stream).await,
        }
    }

    async fn write(&mut self, parts: &[StreamPart]) -> anyhow::Result<()> {
        match self {
            Self::File(file) => file.write(parts),
            Self::Database(database) => database.write(parts).await,
        }
    }

    async fn refuse_servers(&self) -> anyhow::Result<()> {
        match self {
            // It is locked.
            Self::File(_) => Ok(()),
            Self::Database(database) => database.refuse_servers().await,
        }
    }

    async fn finish(self, counters: StoreCounters) -> anyhow::Result<()> {
        match self {
            Self::File(file) => file.finish(counters),
            Self::Database(database) => database.finish(counters).await,
        }
    }
}
