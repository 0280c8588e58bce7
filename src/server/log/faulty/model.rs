//! The reference model of a log, without threads or disks: tests compare with it.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::{
    message::Message,
    server::log::{
        AppendError, Appended, Bound, Change, EventId, Generation, IdempotencyKey, MessagePage,
        MessageText, Position, Range, ReadCursor, ReadError, RetentionLimits, StreamInfo,
        StreamName,
    },
};

/// All streams, with every message that was ever appended.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) limits: RetentionLimits,
    /// Whether sequences continue across generations, or start again at 1.
    pub(super) sequences_continue: bool,
    streams: BTreeMap<StreamName, ModelStream>,
    generations: i64,
}

/// All generations of a stream name.
#[derive(Debug)]
struct ModelStream {
    generations: Vec<ModelGeneration>,
    /// What a read sees, each from its time on.
    snapshots: Vec<(Instant, Option<StreamSnapshot>)>,
    /// The last id that was assigned.
    last: EventId,
}

/// A generation of a stream. Nothing is ever removed from it: trimming only raises `trimmed`.
#[derive(Clone, Debug)]
pub(crate) struct ModelGeneration {
    pub(crate) generation: Generation,
    /// The messages, and the end as the last one.
    pub(crate) messages: Vec<Message>,
    /// How many of the messages are trimmed, from the oldest on.
    pub(crate) trimmed: usize,
    pub(crate) ended: bool,
    pub(crate) deleted: bool,
    keys: HashMap<String, (Vec<MessageText>, EventId)>,
}

/// What a read sees of a stream: the first messages of a generation.
#[derive(Clone, Copy, Debug)]
struct StreamSnapshot {
    generation: usize,
    messages: usize,
    trimmed: usize,
    ended: bool,
}

/// Which version of the log a read sees.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadVersion {
    /// The newest.
    Current,
    /// The log as it was at this time.
    AsOf(Instant),
}

impl Model {
    pub(super) fn new(limits: RetentionLimits, sequences_continue: bool) -> Self {
        Self { limits, sequences_continue, streams: BTreeMap::new(), generations: 0 }
    }

    /// Every generation of a stream, the current one last.
    pub(super) fn generations(&self, stream: &StreamName) -> &[ModelGeneration] {
        self.streams.get(stream).map_or(&[], |model_stream| &model_stream.generations)
    }

    pub(super) fn position(&self, stream: &StreamName) -> Position {
        let current = self.generations(stream).last().filter(|current| !current.deleted);
        current.map_or(Position::NO_STREAM, |current| Position {
            generation: Some(current.generation),
            seq: current.messages.last().map_or(0, |last| last.id.seq),
        })
    }

    /// Appends the batch as a whole; skips `skip` sequences before each message.
    pub(super) fn append(
        &mut self,
        stream: &StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
        millis: u64,
        skip: u64,
    ) -> Result<(Appended, Option<Change>), AppendError> {
        let open = self.streams.values().filter(|model_stream| model_stream.exists()).count();
        let model_stream = self.streams.entry(stream.clone()).or_insert_with(ModelStream::new);
        if !model_stream.exists() {
            if open as u64 >= self.limits.streams {
                return Err(AppendError::TooManyStreams);
            }
            self.generations += 1;
            model_stream.begin_generation(Generation(self.generations), self.sequences_continue);
        }
        let Some(current) = model_stream.generations.last_mut() else {
            return Err(AppendError::NoStream);
        };
        if let Some(key) = key
            && let Some((first, last)) = current.keys.get(&key.0)
        {
            let appended = Appended { last: *last, replayed: true };
            return if *first == batch {
                Ok((appended, None))
            } else {
                Err(AppendError::KeyReused)
            };
        }
        if current.ended {
            return Err(AppendError::Ended);
        }
        let after = current.messages.last().map_or(0, |last| last.id.seq);
        if let Some(key) = key {
            current.keys.insert(key.0.clone(), (batch.clone(), EventId::BEGINNING));
        }
        let mut fresh = Vec::new();
        for data in batch {
            let id = model_stream.last.next(millis, skip);
            model_stream.last = id;
            fresh.push(Message { id, data: data.into_text() });
        }
        current.messages.extend(fresh.iter().cloned());
        if let Some((_, last)) = key.and_then(|key| current.keys.get_mut(&key.0)) {
            *last = model_stream.last;
        }
        let keep = usize::try_from(self.limits.messages).unwrap_or(usize::MAX);
        current.trimmed = current.trimmed.max(current.messages.len().saturating_sub(keep));
        let appended = Appended { last: model_stream.last, replayed: false };
        let change = Change::Appended { generation: current.generation, after, messages: fresh };
        model_stream.record_snapshot();
        Ok((appended, Some(change)))
    }

    pub(super) fn end(
        &mut self,
        stream: &StreamName,
        text: MessageText,
        millis: u64,
    ) -> Result<(EventId, Change), AppendError> {
        let model_stream =
            self.streams.get_mut(stream).filter(|model_stream| model_stream.exists());
        let model_stream = model_stream.ok_or(AppendError::NoStream)?;
        let Some(current) = model_stream.generations.last_mut() else {
            return Err(AppendError::NoStream);
        };
        if current.ended {
            return Err(AppendError::Ended);
        }
        let after = current.messages.last().map_or(0, |last| last.id.seq);
        model_stream.last = model_stream.last.next(millis, 0);
        let end = Message { id: model_stream.last, data: text.into_text() };
        current.messages.push(end.clone());
        current.ended = true;
        let change = Change::Ended { generation: current.generation, after, end };
        model_stream.record_snapshot();
        Ok((model_stream.last, change))
    }

    pub(super) fn delete(&mut self, stream: &StreamName) -> Result<Change, AppendError> {
        let model_stream =
            self.streams.get_mut(stream).filter(|model_stream| model_stream.exists());
        let model_stream = model_stream.ok_or(AppendError::NoStream)?;
        let Some(current) = model_stream.generations.last_mut() else {
            return Err(AppendError::NoStream);
        };
        current.deleted = true;
        let change = Change::Deleted { generation: current.generation };
        model_stream.record_snapshot();
        Ok(change)
    }

    pub(super) fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
        version: ReadVersion,
    ) -> Result<MessagePage, ReadError> {
        let model_stream = self.streams.get(stream).ok_or(ReadError::NoStream)?;
        let snapshot = model_stream.snapshot(version).ok_or(ReadError::NoStream)?;
        let viewed = &model_stream.generations[snapshot.generation];
        let all = &viewed.messages[..snapshot.messages];
        let retained = &all[snapshot.trimmed.min(all.len())..];
        let (end, retained) = match retained.split_last() {
            Some((end, retained)) if snapshot.ended => (Some(end.clone()), retained),
            _ => (None, retained),
        };
        let head = all.last().map_or(EventId::BEGINNING, |last| last.id);
        let (Range::After(cursor) | Range::Before(cursor)) = range;
        // Number of messages of the generation up to the cursor.
        let from = match cursor {
            ReadCursor::Earliest => snapshot.trimmed,
            ReadCursor::Latest => all.len() - usize::from(snapshot.ended),
            ReadCursor::Id(id) => {
                let found = all.iter().position(|message| message.id == id);
                let found = found.ok_or(ReadError::UnknownCursor)? + 1;
                // The newest trimmed message is a valid cursor.
                if found < snapshot.trimmed { Err(ReadError::UnknownCursor) } else { Ok(found) }?
            }
            ReadCursor::Position(Position { generation: Some(generation), .. })
                if generation != viewed.generation =>
            {
                return Err(ReadError::UnknownCursor);
            }
            ReadCursor::Position(Position { seq, .. }) => {
                let from = all.partition_point(|message| message.id.seq <= seq);
                if from < snapshot.trimmed { Err(ReadError::Trimmed) } else { Ok(from) }?
            }
        };
        let from_kept = (from - snapshot.trimmed).min(retained.len());
        let (messages, more) = match range {
            Range::After(_) => take_bounded(retained[from_kept..].iter(), bound),
            Range::Before(cursor) => {
                // The message at the cursor is excluded. With `Latest`, or the id of the end, none is.
                let excluded = usize::from(
                    matches!(cursor, ReadCursor::Id(id) if Some(id) != end.as_ref().map(|end| end.id)),
                );
                let before = &retained[..from_kept.saturating_sub(excluded)];
                let (mut messages, more) = take_bounded(before.iter().rev(), bound);
                messages.reverse();
                (messages, more)
            }
        };
        let cursor_seq = match cursor {
            ReadCursor::Position(position) => position.seq,
            _ => 0,
        };
        let seq = match messages.last() {
            Some(last) if more => last.id.seq,
            _ => head.seq.max(cursor_seq),
        };
        let position = Position { generation: Some(viewed.generation), seq };
        Ok(MessagePage { messages, more, position, head, end })
    }

    pub(super) fn streams(&self, max: usize) -> Vec<StreamInfo> {
        let listed = self.streams.iter().filter_map(|(name, model_stream)| {
            let current = model_stream.generations.last().filter(|current| !current.deleted)?;
            let messages = current.messages.len() - current.trimmed - usize::from(current.ended);
            Some(StreamInfo {
                name: name.clone(),
                messages: messages as u64,
                ended: current.ended,
                last: current.messages.last().cloned(),
            })
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by_key(|listed| {
            std::cmp::Reverse(listed.last.as_ref().map(|last| last.id.millis))
        });
        listed.truncate(max);
        listed
    }
}

impl ModelStream {
    fn new() -> Self {
        Self { generations: Vec::new(), snapshots: Vec::new(), last: EventId::BEGINNING }
    }

    fn exists(&self) -> bool {
        self.generations.last().is_some_and(|current| !current.deleted)
    }

    fn begin_generation(&mut self, generation: Generation, sequences_continue: bool) {
        if !sequences_continue {
            self.last = EventId { seq: 0, millis: self.last.millis + 1 };
        }
        self.generations.push(ModelGeneration {
            generation,
            messages: Vec::new(),
            trimmed: 0,
            ended: false,
            deleted: false,
            keys: HashMap::new(),
        });
    }

    /// Records what a read sees from now on.
    fn record_snapshot(&mut self) {
        let snapshot = self.generations.last().filter(|current| !current.deleted).map(|current| {
            StreamSnapshot {
                generation: self.generations.len() - 1,
                messages: current.messages.len(),
                trimmed: current.trimmed,
                ended: current.ended,
            }
        });
        self.snapshots.push((Instant::now(), snapshot));
    }

    fn snapshot(&self, version: ReadVersion) -> Option<StreamSnapshot> {
        let visible = match version {
            ReadVersion::Current => self.snapshots.len(),
            ReadVersion::AsOf(then) => self.snapshots.partition_point(|(since, _)| *since <= then),
        };
        self.snapshots[..visible].last().and_then(|(_, snapshot)| *snapshot)
    }
}

impl EventId {
    /// The id to assign next.
    fn next(self, millis: u64, skip: u64) -> Self {
        Self { millis: self.millis.max(millis), seq: self.seq + 1 + skip }
    }
}

fn take_bounded<'model>(
    messages: impl Iterator<Item = &'model Message>,
    bound: Bound,
) -> (Vec<Message>, bool) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for message in messages {
        if taken.len() >= bound.messages.max(1) || bytes >= bound.bytes.max(1) {
            return (taken, true);
        }
        bytes += message.data.len();
        taken.push(message.clone());
    }
    (taken, false)
}
