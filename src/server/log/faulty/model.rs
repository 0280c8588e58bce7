//! What a log is, without time, threads or disks: the truth that the tests compare with.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::{
    message::Message,
    server::log::{
        AppendError, Appended, Bound, Change, EventId, Generation, IdempotencyKey, MessagePage,
        MessageText, Place, Position, Range, ReadError, RetentionLimits, StreamInfo, StreamName,
    },
};

/// All streams, with all that ever was in them.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) limits: RetentionLimits,
    /// Whether sequences go on across generations, or begin anew.
    pub(super) rising: bool,
    streams: BTreeMap<StreamName, History>,
    generations: i64,
}

/// What became of a name.
#[derive(Debug)]
struct History {
    generations: Vec<Past>,
    /// What a read could see, and since when.
    views: Vec<(Instant, Option<View>)>,
    /// The last id that was given.
    last: EventId,
}

/// A generation: nothing is ever taken from it.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) generation: Generation,
    /// The messages, and the end.
    pub(crate) messages: Vec<Message>,
    /// How many of them are not kept any more.
    pub(crate) trimmed: usize,
    pub(crate) ended: bool,
    pub(crate) deleted: bool,
    keys: HashMap<String, (Vec<MessageText>, EventId)>,
}

/// What a read sees of a stream: a part of a generation.
#[derive(Clone, Copy, Debug)]
struct View {
    generation: usize,
    messages: usize,
    trimmed: usize,
    ended: bool,
}

/// Which copy of the log is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Copy {
    /// The newest.
    Current,
    /// One that is as the log was then.
    AsOf(Instant),
}

impl Model {
    pub(super) fn new(limits: RetentionLimits, rising: bool) -> Self {
        Self { limits, rising, streams: BTreeMap::new(), generations: 0 }
    }

    /// Every generation of a stream, the current one last.
    pub(super) fn past(&self, stream: &StreamName) -> &[Past] {
        self.streams.get(stream).map_or(&[], |history| &history.generations)
    }

    pub(super) fn position(&self, stream: &StreamName) -> Position {
        let current = self.past(stream).last().filter(|past| !past.deleted);
        current.map_or(Position::NOWHERE, |past| Position {
            generation: Some(past.generation),
            seq: past.messages.last().map_or(0, |last| last.id.seq),
        })
    }

    /// Appends as a whole; `skip` sequences are left out before each message.
    pub(super) fn append(
        &mut self,
        stream: &StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
        millis: u64,
        skip: u64,
    ) -> Result<(Appended, Option<Change>), AppendError> {
        let open = self.streams.values().filter(|history| history.is_open()).count();
        let history = self.streams.entry(stream.clone()).or_insert_with(History::new);
        if !history.is_open() {
            if open as u64 >= self.limits.streams {
                return Err(AppendError::TooManyStreams);
            }
            self.generations += 1;
            history.begin(Generation(self.generations), self.rising);
        }
        let Some(past) = history.generations.last_mut() else { return Err(AppendError::NoStream) };
        if let Some(key) = key
            && let Some((first, last)) = past.keys.get(&key.0)
        {
            let appended = Appended { last: *last, replayed: true };
            return if *first == batch {
                Ok((appended, None))
            } else {
                Err(AppendError::KeyReused)
            };
        }
        if past.ended {
            return Err(AppendError::Ended);
        }
        let after = past.messages.last().map_or(0, |last| last.id.seq);
        if let Some(key) = key {
            past.keys.insert(key.0.clone(), (batch.clone(), EventId::BEGINNING));
        }
        let mut fresh = Vec::new();
        for data in batch {
            let id = history.last.next(millis, skip);
            history.last = id;
            fresh.push(Message { id, data: data.into_text() });
        }
        past.messages.extend(fresh.iter().cloned());
        if let Some((_, last)) = key.and_then(|key| past.keys.get_mut(&key.0)) {
            *last = history.last;
        }
        let keep = usize::try_from(self.limits.messages).unwrap_or(usize::MAX);
        past.trimmed = past.trimmed.max(past.messages.len().saturating_sub(keep));
        let appended = Appended { last: history.last, replayed: false };
        let change = Change::Appended { generation: past.generation, after, messages: fresh };
        history.changed();
        Ok((appended, Some(change)))
    }

    pub(super) fn end(
        &mut self,
        stream: &StreamName,
        text: MessageText,
        millis: u64,
    ) -> Result<(EventId, Change), AppendError> {
        let history = self.streams.get_mut(stream).filter(|history| history.is_open());
        let history = history.ok_or(AppendError::NoStream)?;
        let Some(past) = history.generations.last_mut() else { return Err(AppendError::NoStream) };
        if past.ended {
            return Err(AppendError::Ended);
        }
        let after = past.messages.last().map_or(0, |last| last.id.seq);
        history.last = history.last.next(millis, 0);
        let end = Message { id: history.last, data: text.into_text() };
        past.messages.push(end.clone());
        past.ended = true;
        let change = Change::Ended { generation: past.generation, after, end };
        history.changed();
        Ok((history.last, change))
    }

    pub(super) fn delete(&mut self, stream: &StreamName) -> Result<Change, AppendError> {
        let history = self.streams.get_mut(stream).filter(|history| history.is_open());
        let history = history.ok_or(AppendError::NoStream)?;
        let Some(past) = history.generations.last_mut() else { return Err(AppendError::NoStream) };
        past.deleted = true;
        let change = Change::Deleted { generation: past.generation };
        history.changed();
        Ok(change)
    }

    pub(super) fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
        copy: Copy,
    ) -> Result<MessagePage, ReadError> {
        let history = self.streams.get(stream).ok_or(ReadError::NoStream)?;
        let view = history.view(copy).ok_or(ReadError::NoStream)?;
        let past = &history.generations[view.generation];
        let all = &past.messages[..view.messages];
        let kept = &all[view.trimmed.min(all.len())..];
        let (end, kept) = match kept.split_last() {
            Some((end, kept)) if view.ended => (Some(end.clone()), kept),
            _ => (None, kept),
        };
        let head = all.last().map_or(EventId::BEGINNING, |last| last.id);
        let (Range::After(place) | Range::Before(place)) = range;
        // How many messages of the generation are up to the place.
        let from = match place {
            Place::Earliest => view.trimmed,
            Place::Latest => all.len() - usize::from(view.ended),
            Place::Id(id) => {
                let found = all.iter().position(|message| message.id == id);
                let found = found.ok_or(ReadError::UnknownPlace)? + 1;
                // The last one that was trimmed is as good as one that is there.
                if found < view.trimmed { Err(ReadError::UnknownPlace) } else { Ok(found) }?
            }
            Place::Position(Position { generation: Some(generation), .. })
                if generation != past.generation =>
            {
                return Err(ReadError::UnknownPlace);
            }
            Place::Position(Position { seq, .. }) => {
                let from = all.partition_point(|message| message.id.seq <= seq);
                if from < view.trimmed { Err(ReadError::Trimmed) } else { Ok(from) }?
            }
        };
        let from_kept = (from - view.trimmed).min(kept.len());
        let (messages, more) = match range {
            Range::After(_) => taken(kept[from_kept..].iter(), bound),
            Range::Before(place) => {
                // What is at the place is not before it, but at the newest end.
                let at = usize::from(
                    matches!(place, Place::Id(id) if Some(id) != end.as_ref().map(|end| end.id)),
                );
                let before = &kept[..from_kept.saturating_sub(at)];
                let (mut messages, more) = taken(before.iter().rev(), bound);
                messages.reverse();
                (messages, more)
            }
        };
        let asked = match place {
            Place::Position(position) => position.seq,
            _ => 0,
        };
        let seq = match messages.last() {
            Some(last) if more => last.id.seq,
            _ => head.seq.max(asked),
        };
        let position = Position { generation: Some(past.generation), seq };
        Ok(MessagePage { messages, more, position, head, end })
    }

    pub(super) fn streams(&self, max: usize) -> Vec<StreamInfo> {
        let listed = self.streams.iter().filter_map(|(name, history)| {
            let past = history.generations.last().filter(|past| !past.deleted)?;
            let messages = past.messages.len() - past.trimmed - usize::from(past.ended);
            Some(StreamInfo {
                name: name.clone(),
                messages: messages as u64,
                ended: past.ended,
                last: past.messages.last().cloned(),
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

impl History {
    fn new() -> Self {
        Self { generations: Vec::new(), views: Vec::new(), last: EventId::BEGINNING }
    }

    fn is_open(&self) -> bool {
        self.generations.last().is_some_and(|past| !past.deleted)
    }

    fn begin(&mut self, generation: Generation, rising: bool) {
        if !rising {
            self.last = EventId { seq: 0, millis: self.last.millis + 1 };
        }
        self.generations.push(Past {
            generation,
            messages: Vec::new(),
            trimmed: 0,
            ended: false,
            deleted: false,
            keys: HashMap::new(),
        });
    }

    /// Notes what a read sees from now on.
    fn changed(&mut self) {
        let view = self.generations.last().filter(|past| !past.deleted).map(|past| View {
            generation: self.generations.len() - 1,
            messages: past.messages.len(),
            trimmed: past.trimmed,
            ended: past.ended,
        });
        self.views.push((Instant::now(), view));
    }

    fn view(&self, copy: Copy) -> Option<View> {
        let seen = match copy {
            Copy::Current => self.views.len(),
            Copy::AsOf(then) => self.views.partition_point(|(since, _)| *since <= then),
        };
        self.views[..seen].last().and_then(|(_, view)| *view)
    }
}

impl EventId {
    /// The next id that is given.
    fn next(self, millis: u64, skip: u64) -> Self {
        Self { millis: self.millis.max(millis), seq: self.seq + 1 + skip }
    }
}

fn taken<'of>(messages: impl Iterator<Item = &'of Message>, bound: Bound) -> (Vec<Message>, bool) {
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
