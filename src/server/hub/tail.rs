//! The tail of a watched stream: its newest messages, encoded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[cfg(test)]
use super::planted::{HubBug, is_planted};
use super::{block::Block, budget::TailBudget};
use crate::{
    message::{END_EVENT, EventId, NEW_MESSAGE},
    server::log::{Bound, Change, Generation, Position},
};

/// The part of a stream that is in memory.
#[derive(Debug, Default)]
pub(super) enum Tail {
    /// The stream is not followed: watchers must read the log.
    #[default]
    NotFollowed,
    /// There is no such stream.
    Absent {
        /// The generation that was deleted, if the follow has delivered that.
        deleted: Option<Generation>,
        size: Bound,
    },
    /// The newest messages.
    Known(Frames),
}

/// Frames of a stream, in blocks in order of the appends.
#[derive(Debug)]
pub(super) struct Frames {
    generation: Generation,
    /// The sequence before the first message here; 0 if that is the first of the generation. Earlier
    /// messages are in the log only.
    after: u64,
    /// The sequence of the last message, even if it is no longer here.
    last: u64,
    blocks: VecDeque<Block>,
    bytes: usize,
    messages: usize,
    /// Maximum size.
    size: Bound,
    /// Whether the last frame is the end.
    ended: bool,
}

/// A change, encoded.
#[derive(Debug)]
pub(super) enum TailUpdate {
    Deleted(Generation),
    Frames { generation: Generation, after: u64, blocks: Vec<Block>, ended: bool },
}

impl TailUpdate {
    pub(super) fn of(change: Change, budget: &TailBudget) -> Self {
        match change {
            Change::Deleted { generation } => Self::Deleted(generation),
            Change::Appended { generation, after, messages } => {
                let blocks = Block::encode(&messages, NEW_MESSAGE, budget);
                Self::Frames { generation, after, blocks, ended: false }
            }
            Change::Ended { generation, after, end } => {
                let blocks = Block::encode(&[end], END_EVENT, budget);
                Self::Frames { generation, after, blocks, ended: true }
            }
        }
    }
}

/// The result of reading the tail after a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TailRead {
    /// Nothing yet.
    UpToDate,
    /// Frames, their number of messages, the sequence of the last one, and whether it is the end.
    Frames { bytes: Bytes, messages: usize, generation: Generation, seq: u64, ended: bool },
    /// The log must be read: the position is before the tail, or of another generation.
    ReadLog,
    /// The stream is not followed: the log must be read.
    NotFollowed,
    /// The generation of the position was deleted.
    Deleted,
}

impl Tail {
    /// An empty tail of a stream that is followed from this position on.
    pub(super) fn starting_at(start: Position, size: Bound) -> Self {
        match start.generation {
            None => Self::Absent { deleted: None, size },
            Some(generation) => Self::Known(Frames::new(generation, start.seq, size)),
        }
    }

    /// Applies a change. Frames that do not follow the last message replace the tail, so that watchers
    /// at earlier positions read the log. False if the change contradicts the tail: then the stream
    /// must be followed again.
    pub(super) fn apply(&mut self, update: TailUpdate) -> bool {
        let (size, current) = match self {
            Self::NotFollowed => return false,
            Self::Absent { size, .. } => (*size, None),
            Self::Known(frames) => (frames.size, Some(frames.generation)),
        };
        let (generation, after, blocks, ended) = match update {
            // Of an earlier generation, or of one of which no append was delivered.
            TailUpdate::Deleted(deleted)
                if current.is_some_and(|generation| generation != deleted) =>
            {
                return false;
            }
            TailUpdate::Deleted(deleted) => {
                *self = Self::Absent { deleted: Some(deleted), size };
                return true;
            }
            TailUpdate::Frames { generation, after, blocks, ended } => {
                (generation, after, blocks, ended)
            }
        };
        match self {
            Self::Known(frames) if frames.generation == generation => {
                if blocks.last().is_none_or(|block| block.last_seq() <= frames.last) {
                    // It was stored before the follow began.
                    return true;
                }
                let follows = after == frames.last;
                #[cfg(test)]
                let follows = follows || is_planted(HubBug::NoGapCheck);
                if !follows {
                    *frames = Frames::new(generation, after, size);
                }
                frames.push(blocks, ended);
            }
            _ => {
                let mut frames = Frames::new(generation, after, size);
                frames.push(blocks, ended);
                *self = Self::Known(frames);
            }
        }
        true
    }

    /// Evicts the oldest block; returns whether there was one. Its messages are in the log only.
    pub(super) fn evict_oldest(&mut self) -> bool {
        match self {
            Self::Known(frames) => frames.evict_oldest(),
            Self::NotFollowed | Self::Absent { .. } => false,
        }
    }

    /// The number of the newest block here, which orders all tails by time; 0 if there is none.
    pub(super) fn last_appended(&self) -> u64 {
        match self {
            Self::Known(frames) => {
                frames.blocks.back().map_or(0, |block| block.counted.block_number)
            }
            Self::NotFollowed | Self::Absent { .. } => 0,
        }
    }

    /// The frames after `position`: about `max` bytes of them, at least one frame.
    ///
    /// A reader that has read the log may be ahead of the tail: then nothing follows.
    pub(super) fn read_after(&self, position: Position, max: usize) -> TailRead {
        match (self, position.generation) {
            (Self::NotFollowed, _) => TailRead::NotFollowed,
            (Self::Absent { .. }, None) => TailRead::UpToDate,
            (Self::Absent { deleted, .. }, generation) if *deleted == generation => {
                TailRead::Deleted
            }
            (Self::Known(frames), Some(generation)) if generation == frames.generation => {
                frames.read_after(position.seq, max)
            }
            (Self::Known(frames), None) => frames.read_after(0, max),
            // One of the two is of an earlier generation: only the log shows which.
            (Self::Absent { .. } | Self::Known(_), Some(_)) => TailRead::ReadLog,
        }
    }

    /// The position of the message with this id, if it is here, and whether it is the end.
    pub(super) fn find(&self, id: EventId) -> Option<(Position, bool)> {
        let Self::Known(frames) = self else { return None };
        let block = frames.blocks.get(frames.block_after(id.seq.checked_sub(1)?))?;
        let found = block.index.binary_search_by_key(&id.seq, |(id, _)| id.seq).ok()?;
        let position = Position { generation: Some(frames.generation), seq: id.seq };
        (block.index[found].0 == id).then(|| (position, frames.is_end(id.seq)))
    }

    /// Whether the stream is followed, and there is none.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether the tail has frames of this generation.
    pub(super) fn has_generation(&self, generation: Generation) -> bool {
        matches!(self, Self::Known(frames) if frames.generation == generation)
    }
}

impl Frames {
    fn new(generation: Generation, after: u64, size: Bound) -> Self {
        Self {
            generation,
            after,
            last: after,
            blocks: VecDeque::new(),
            bytes: 0,
            messages: 0,
            size,
            ended: false,
        }
    }

    fn push(&mut self, blocks: Vec<Block>, ended: bool) {
        self.ended = ended;
        for block in blocks {
            self.bytes += block.counted.bytes;
            self.messages += block.index.len();
            self.last = block.last_seq();
            self.blocks.push_back(block);
        }
        let Bound { messages, bytes } = self.size;
        while self.blocks.len() > 1 && (self.bytes > bytes || self.messages > messages) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let Some(oldest) = self.blocks.pop_front() else { return false };
        self.bytes -= oldest.counted.bytes;
        self.messages -= oldest.index.len();
        self.after = oldest.last_seq();
        true
    }

    /// The index of the first block with a message after this sequence.
    fn block_after(&self, seq: u64) -> usize {
        self.blocks.partition_point(|block| block.last_seq() <= seq)
    }

    fn is_end(&self, seq: u64) -> bool {
        self.ended && self.blocks.back().is_some_and(|block| block.last_seq() == seq)
    }

    fn read_after(&self, seq: u64, max: usize) -> TailRead {
        if seq < self.after {
            return TailRead::ReadLog;
        }
        let first = self.block_after(seq);
        let Some(block) = self.blocks.get(first) else { return TailRead::UpToDate };
        if block.is_withheld() {
            return TailRead::ReadLog;
        }
        let (mut bytes, mut messages, mut last) = block.frames_after(seq, max);
        // A reader that keeps up gets the block itself; one that is behind gets several in one buffer.
        let mut rest = self.blocks.range(first + 1..).take_while(|block| block.bytes.len() < max);
        if last == block.last_seq()
            && let Some(second) = rest.next()
            && bytes.len() + second.bytes.len() <= max
        {
            let mut many = BytesMut::with_capacity(max);
            many.extend_from_slice(&bytes);
            for block in std::iter::once(second).chain(rest) {
                if many.len() + block.bytes.len() > max {
                    break;
                }
                many.extend_from_slice(&block.bytes);
                messages += block.index.len();
                last = block.last_seq();
            }
            bytes = many.freeze();
        }
        let ended = self.is_end(last);
        TailRead::Frames { bytes, messages, generation: self.generation, seq: last, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    const SIZE: Bound = Bound { messages: 3, bytes: usize::MAX };
    const GENERATION_1: Generation = Generation::new(1);
    const GENERATION_2: Generation = Generation::new(2);

    fn at(generation: Generation, seq: u64) -> Position {
        Position { generation: Some(generation), seq }
    }

    fn appended(generation: Generation, after: u64, seqs: impl Iterator<Item = u64>) -> TailUpdate {
        let message = |seq| Message { id: EventId { millis: 1, seq }, data: seq.to_string() };
        let messages = seqs.map(message).collect();
        let budget = TailBudget::new(usize::MAX);
        TailUpdate::of(Change::Appended { generation, after, messages }, &budget)
    }

    /// The sequences that follow a position, or another result of the tail.
    fn following(tail: &Tail, mut position: Position) -> Result<Vec<u64>, TailRead> {
        let mut seqs = Vec::new();
        loop {
            match tail.read_after(position, 1) {
                TailRead::UpToDate => return Ok(seqs),
                TailRead::Frames { generation, seq, .. } => {
                    seqs.push(seq);
                    position = at(generation, seq);
                }
                next => return Err(next),
            }
        }
    }

    #[test]
    fn consecutive_changes_are_appended_and_the_oldest_evicted() {
        let mut tail = Tail::starting_at(at(GENERATION_1, 5), SIZE);
        assert_eq!(following(&tail, at(GENERATION_1, 5)), Ok(vec![]));
        assert_eq!(following(&tail, at(GENERATION_1, 4)), Err(TailRead::ReadLog));
        assert!(tail.apply(appended(GENERATION_1, 5, 6..8)));
        assert!(tail.apply(appended(GENERATION_1, 7, [9, 11].into_iter())));
        assert_eq!(
            following(&tail, at(GENERATION_1, 5)),
            Err(TailRead::ReadLog),
            "four are one too many"
        );
        assert_eq!(following(&tail, at(GENERATION_1, 7)), Ok(vec![9, 11]));
        assert_eq!(following(&tail, at(GENERATION_1, 12)), Ok(vec![]), "the reader is ahead");
        assert_eq!(tail.find(EventId { millis: 1, seq: 9 }), Some((at(GENERATION_1, 9), false)));
        assert_eq!(tail.find(EventId { millis: 2, seq: 9 }), None);
        assert_eq!(tail.find(EventId { millis: 1, seq: 7 }), None);
    }

    #[test]
    fn a_change_after_a_gap_replaces_the_tail() {
        let mut tail = Tail::starting_at(at(GENERATION_1, 5), SIZE);
        assert!(tail.apply(appended(GENERATION_1, 5, 6..8)));
        assert!(tail.apply(appended(GENERATION_1, 4, 5..8)), "an old change is ignored");
        assert_eq!(following(&tail, at(GENERATION_1, 5)), Ok(vec![6, 7]));
        assert!(tail.apply(appended(GENERATION_1, 8, 9..10)));
        assert_eq!(
            following(&tail, at(GENERATION_1, 7)),
            Err(TailRead::ReadLog),
            "8 is in the log only"
        );
        assert_eq!(following(&tail, at(GENERATION_1, 8)), Ok(vec![9]));
        assert!(
            tail.apply(appended(GENERATION_1, 8, 9..12)),
            "an overlapping change replaces the tail"
        );
        assert_eq!(following(&tail, at(GENERATION_1, 9)), Ok(vec![10, 11]));
    }

    #[test]
    fn a_deleted_generation_is_distinguished_from_an_unknown_one() {
        let mut tail = Tail::starting_at(Position::NO_STREAM, SIZE);
        assert_eq!(following(&tail, Position::NO_STREAM), Ok(vec![]));
        assert_eq!(following(&tail, at(GENERATION_1, 1)), Err(TailRead::ReadLog));
        assert!(tail.apply(appended(GENERATION_1, 0, 1..3)));
        assert_eq!(following(&tail, Position::NO_STREAM), Ok(vec![1, 2]));
        assert!(!tail.apply(TailUpdate::Deleted(GENERATION_2)), "an unknown generation");
        assert!(tail.apply(TailUpdate::Deleted(GENERATION_1)));
        assert_eq!(following(&tail, at(GENERATION_1, 2)), Err(TailRead::Deleted));
        assert_eq!(following(&tail, at(GENERATION_2, 2)), Err(TailRead::ReadLog));
        assert!(tail.apply(appended(GENERATION_2, 7, 8..9)));
        assert_eq!(
            following(&tail, Position::NO_STREAM),
            Err(TailRead::ReadLog),
            "its beginning was not delivered"
        );
        assert_eq!(following(&tail, at(GENERATION_1, 2)), Err(TailRead::ReadLog));
        assert_eq!(following(&tail, at(GENERATION_2, 7)), Ok(vec![8]));
        tail = Tail::NotFollowed;
        assert!(!tail.apply(appended(GENERATION_2, 8, 9..10)));
        assert_eq!(following(&tail, at(GENERATION_2, 8)), Err(TailRead::NotFollowed));
    }
}
