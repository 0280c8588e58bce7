//! The newest messages of a watched stream, encoded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::{
    frame,
    log::{Change, Life, Position},
};
use crate::message::{END_EVENT, EventId, Message, NEW_MESSAGE};

/// The most bytes of frames a tail keeps, but for one block that is larger: what was stored
/// together.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// The most messages a tail keeps.
const MOST_MESSAGES: usize = 16 * 1024;

/// What is in memory of a stream.
#[derive(Debug)]
pub(super) enum Tail {
    /// Nothing happened since somebody began to watch.
    Unknown,
    /// The stream in this life was deleted.
    Gone(Life),
    /// The newest messages.
    Known(Frames),
}

/// Frames of a stream, in blocks as they were appended.
#[derive(Debug)]
pub(super) struct Frames {
    life: Life,
    /// The sequence before the first message here. What precedes it is in the log alone.
    after: u64,
    blocks: VecDeque<Block>,
    bytes: usize,
    messages: usize,
    /// Whether the last frame is the end.
    ended: bool,
}

/// What was appended together.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Bytes,
    /// The id of each message, and where in the bytes its frame ends.
    index: Vec<(EventId, usize)>,
}

/// A change, encoded.
#[derive(Debug)]
pub(super) enum News {
    Gone(Life),
    Frames { life: Life, after: u64, block: Block, ended: bool },
}

impl News {
    pub(super) fn of(change: Change) -> Self {
        match change {
            Change::Deleted { life, .. } => Self::Gone(life),
            Change::Appended { life, after, messages, .. } => {
                Self::Frames { life, after, block: Block::of(&messages, NEW_MESSAGE), ended: false }
            }
            Change::Ended { life, after, end, .. } => {
                Self::Frames { life, after, block: Block::of(&[end], END_EVENT), ended: true }
            }
        }
    }
}

/// What follows a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing yet.
    Nothing,
    /// These frames, so many, up to this sequence; whether they are the last ones for ever.
    Frames { bytes: Bytes, messages: usize, life: Life, seq: u64, ended: bool },
    /// What only the log has.
    Log,
    /// The life of the position is over.
    Deleted,
}

impl Tail {
    /// Takes in what happened.
    pub(super) fn take(&mut self, news: News) {
        let (life, after, block, ended) = match news {
            News::Gone(life) => {
                *self = Self::Gone(life);
                return;
            }
            News::Frames { life, after, block, ended } => (life, after, block, ended),
        };
        match self {
            Self::Known(frames) if frames.life == life => frames.push(block, ended),
            _ => {
                let mut frames = Frames {
                    life,
                    after,
                    blocks: VecDeque::new(),
                    bytes: 0,
                    messages: 0,
                    ended: false,
                };
                frames.push(block, ended);
                *self = Self::Known(frames);
            }
        }
    }

    /// What follows `position`: frames for about `most` bytes, one at least.
    ///
    /// A reader may be ahead, with what it read in the log but is not told of yet here: then
    /// nothing follows.
    pub(super) fn next(&self, position: Position, most: usize) -> Next {
        match (self, position.life) {
            (Self::Unknown, _) | (Self::Gone(_), None) => Next::Nothing,
            (Self::Gone(gone), Some(life)) => {
                if life > *gone {
                    Next::Nothing
                } else {
                    Next::Deleted
                }
            }
            (Self::Known(frames), Some(life)) if life > frames.life => Next::Nothing,
            (Self::Known(frames), Some(life)) if life < frames.life => Next::Deleted,
            (Self::Known(frames), _) => frames.next(position.seq, most),
        }
    }

    /// The position of a message that is here, and whether it is the end.
    pub(super) fn find(&self, id: EventId) -> Option<(Position, bool)> {
        let Self::Known(frames) = self else { return None };
        let block = frames.blocks.get(frames.block_after(id.seq.checked_sub(1)?))?;
        let found = block.index.binary_search_by_key(&id.seq, |(id, _)| id.seq).ok()?;
        let position = Position { life: Some(frames.life), seq: id.seq };
        (block.index[found].0 == id).then(|| (position, frames.is_end(id.seq)))
    }
}

impl Block {
    fn of(messages: &[Message], kind: &'static str) -> Self {
        let text: usize = messages.iter().map(|message| message.data.len() + 80).sum();
        let mut bytes = String::with_capacity(text);
        let mut index = Vec::with_capacity(messages.len());
        for Message { id, data } in messages {
            frame::event(&mut bytes, kind, Some(*id), data);
            index.push((*id, bytes.len()));
        }
        Self { bytes: Bytes::from(bytes), index }
    }

    fn last(&self) -> u64 {
        self.index.last().map_or(0, |(id, _)| id.seq)
    }

    /// The frames after a sequence, for about `most` bytes, how many they are, and the sequence of
    /// the last one.
    fn after(&self, seq: u64, most: usize) -> (Bytes, usize, u64) {
        let from = self.index.partition_point(|(id, _)| id.seq <= seq);
        let start = if from == 0 { 0 } else { self.index[from - 1].1 };
        let fits = self.index[from..].partition_point(|(_, end)| end - start <= most).max(1);
        let (last, end) = self.index[from + fits - 1];
        (self.bytes.slice(start..end), fits, last.seq)
    }
}

impl Frames {
    fn push(&mut self, block: Block, ended: bool) {
        self.bytes += block.bytes.len();
        self.messages += block.index.len();
        self.ended = ended;
        self.blocks.push_back(block);
        while self.blocks.len() > 1 && (self.bytes > MOST_BYTES || self.messages > MOST_MESSAGES) {
            if let Some(oldest) = self.blocks.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.messages -= oldest.index.len();
                self.after = oldest.last();
            }
        }
    }

    /// The place of the first block that has something after a sequence.
    fn block_after(&self, seq: u64) -> usize {
        self.blocks.partition_point(|block| block.last() <= seq)
    }

    fn is_end(&self, seq: u64) -> bool {
        self.ended && self.blocks.back().is_some_and(|block| block.last() == seq)
    }

    fn next(&self, seq: u64, most: usize) -> Next {
        if seq < self.after {
            return Next::Log;
        }
        let first = self.block_after(seq);
        let Some(block) = self.blocks.get(first) else { return Next::Nothing };
        let (mut bytes, mut messages, mut last) = block.after(seq, most);
        // A reader that keeps up gets the block itself; one that is behind gets many in one piece.
        let mut rest = self.blocks.range(first + 1..).take_while(|block| block.bytes.len() < most);
        if last == block.last()
            && let Some(second) = rest.next()
            && bytes.len() + second.bytes.len() <= most
        {
            let mut many = BytesMut::with_capacity(most);
            many.extend_from_slice(&bytes);
            for block in std::iter::once(second).chain(rest) {
                if many.len() + block.bytes.len() > most {
                    break;
                }
                many.extend_from_slice(&block.bytes);
                messages += block.index.len();
                last = block.last();
            }
            bytes = many.freeze();
        }
        let ended = self.is_end(last);
        Next::Frames { bytes, messages, life: self.life, seq: last, ended }
    }
}
