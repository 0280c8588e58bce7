//! The newest messages of a watched stream, encoded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[cfg(test)]
use super::planted::{HubBug, is_planted};
use super::{block::Block, budget::TailBudget};
use crate::{
    message::{END_EVENT, EventId, NEW_MESSAGE},
    server::log::{Bound, Change, Generation, Position},
};

/// What is in memory of a stream.
#[derive(Debug, Default)]
pub(super) enum Tail {
    /// The stream is not followed: what there is is in the log.
    #[default]
    Unknown,
    /// There is no such stream.
    Absent {
        /// The generation that was deleted, if that was told.
        deleted: Option<Generation>,
        size: Bound,
    },
    /// The newest messages.
    Known(Frames),
}

/// Frames of a stream, in blocks as they were appended.
#[derive(Debug)]
pub(super) struct Frames {
    generation: Generation,
    /// The sequence before the first message here; 0 if that is the first of the generation. What
    /// precedes it is in the log alone.
    after: u64,
    /// The sequence of the last message, here or before.
    last: u64,
    blocks: VecDeque<Block>,
    bytes: usize,
    messages: usize,
    /// How much is kept at the most.
    size: Bound,
    /// Whether the last frame is the end.
    ended: bool,
}

/// A change, encoded.
#[derive(Debug)]
pub(super) enum TailUpdate {
    Gone(Generation),
    Frames { generation: Generation, after: u64, blocks: Vec<Block>, ended: bool },
}

impl TailUpdate {
    pub(super) fn of(change: Change, budget: &TailBudget) -> Self {
        match change {
            Change::Deleted { generation } => Self::Gone(generation),
            Change::Appended { generation, after, messages } => {
                let blocks = Block::all_of(&messages, NEW_MESSAGE, budget);
                Self::Frames { generation, after, blocks, ended: false }
            }
            Change::Ended { generation, after, end } => {
                let blocks = Block::all_of(&[end], END_EVENT, budget);
                Self::Frames { generation, after, blocks, ended: true }
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
    Frames { bytes: Bytes, messages: usize, generation: Generation, seq: u64, ended: bool },
    /// What only the log has, or what it has to be read for.
    Log,
    /// The stream is not followed: the log has to be read.
    Unknown,
    /// The generation of the position is over.
    Deleted,
}

impl Tail {
    /// The tail of a stream that is followed from here on.
    pub(super) fn starting_at(start: Position, size: Bound) -> Self {
        match start.generation {
            None => Self::Absent { deleted: None, size },
            Some(generation) => Self::Known(Frames::new(generation, start.seq, size)),
        }
    }

    /// Takes in what happened. Appends only what follows the last message, and begins anew with what
    /// does not, so that watchers before it read the log. False where it cannot be told what
    /// happened: then the stream has to be followed anew.
    pub(super) fn apply(&mut self, update: TailUpdate) -> bool {
        let (size, of) = match self {
            Self::Unknown => return false,
            Self::Absent { size, .. } => (*size, None),
            Self::Known(frames) => (frames.size, Some(frames.generation)),
        };
        let (generation, after, blocks, ended) = match update {
            // Of a generation that is over already, or of one that was never told of.
            TailUpdate::Gone(gone) if of.is_some_and(|generation| generation != gone) => {
                return false;
            }
            TailUpdate::Gone(gone) => {
                *self = Self::Absent { deleted: Some(gone), size };
                return true;
            }
            TailUpdate::Frames { generation, after, blocks, ended } => {
                (generation, after, blocks, ended)
            }
        };
        match self {
            Self::Known(frames) if frames.generation == generation => {
                if blocks.last().is_none_or(|block| block.last() <= frames.last) {
                    // It was there already when the follow began.
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

    /// Lets the oldest block go; tells whether there was one. What was in it is in the log alone.
    pub(super) fn evict_oldest(&mut self) -> bool {
        match self {
            Self::Known(frames) => frames.evict_oldest(),
            Self::Unknown | Self::Absent { .. } => false,
        }
    }

    /// When something was appended that is still here, as a number that rises over all tails.
    pub(super) fn last_appended(&self) -> u64 {
        match self {
            Self::Known(frames) => frames.blocks.back().map_or(0, |block| block.counted.number),
            Self::Unknown | Self::Absent { .. } => 0,
        }
    }

    /// What follows `position`: frames for about `max` bytes, one at least.
    ///
    /// A reader may be ahead, with what it read in the log but is not told of yet here: then
    /// nothing follows.
    pub(super) fn next(&self, position: Position, max: usize) -> Next {
        match (self, position.generation) {
            (Self::Unknown, _) => Next::Unknown,
            (Self::Absent { .. }, None) => Next::Nothing,
            (Self::Absent { deleted, .. }, of) if *deleted == of => Next::Deleted,
            (Self::Known(frames), Some(generation)) if generation == frames.generation => {
                frames.next(position.seq, max)
            }
            (Self::Known(frames), None) => frames.next(0, max),
            // One of the two is of an earlier generation. The log knows which.
            (Self::Absent { .. } | Self::Known(_), Some(_)) => Next::Log,
        }
    }

    /// The position of a message that is here, and whether it is the end.
    pub(super) fn find(&self, id: EventId) -> Option<(Position, bool)> {
        let Self::Known(frames) = self else { return None };
        let block = frames.blocks.get(frames.block_after(id.seq.checked_sub(1)?))?;
        let found = block.index.binary_search_by_key(&id.seq, |(id, _)| id.seq).ok()?;
        let position = Position { generation: Some(frames.generation), seq: id.seq };
        (block.index[found].0 == id).then(|| (position, frames.is_end(id.seq)))
    }

    /// Whether this is a tail of that generation.
    pub(super) fn is_of(&self, of: Generation) -> bool {
        matches!(self, Self::Known(frames) if frames.generation == of)
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
            self.last = block.last();
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
        self.after = oldest.last();
        true
    }

    /// The place of the first block that has something after a sequence.
    fn block_after(&self, seq: u64) -> usize {
        self.blocks.partition_point(|block| block.last() <= seq)
    }

    fn is_end(&self, seq: u64) -> bool {
        self.ended && self.blocks.back().is_some_and(|block| block.last() == seq)
    }

    fn next(&self, seq: u64, max: usize) -> Next {
        if seq < self.after {
            return Next::Log;
        }
        let first = self.block_after(seq);
        let Some(block) = self.blocks.get(first) else { return Next::Nothing };
        if block.is_withheld() {
            return Next::Log;
        }
        let (mut bytes, mut messages, mut last) = block.after(seq, max);
        // A reader that keeps up gets the block itself; one that is behind gets many in one piece.
        let mut rest = self.blocks.range(first + 1..).take_while(|block| block.bytes.len() < max);
        if last == block.last()
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
                last = block.last();
            }
            bytes = many.freeze();
        }
        let ended = self.is_end(last);
        Next::Frames { bytes, messages, generation: self.generation, seq: last, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    const SIZE: Bound = Bound { messages: 3, bytes: usize::MAX };
    const FIRST: Generation = Generation::new(1);
    const SECOND: Generation = Generation::new(2);

    fn at(generation: Generation, seq: u64) -> Position {
        Position { generation: Some(generation), seq }
    }

    fn appended(generation: Generation, after: u64, seqs: impl Iterator<Item = u64>) -> TailUpdate {
        let message = |seq| Message { id: EventId { millis: 1, seq }, data: seq.to_string() };
        let messages = seqs.map(message).collect();
        let budget = TailBudget::new(usize::MAX);
        TailUpdate::of(Change::Appended { generation, after, messages }, &budget)
    }

    /// The sequences that follow a position, or what else does.
    fn following(tail: &Tail, mut position: Position) -> Result<Vec<u64>, Next> {
        let mut seqs = Vec::new();
        loop {
            match tail.next(position, 1) {
                Next::Nothing => return Ok(seqs),
                Next::Frames { generation, seq, .. } => {
                    seqs.push(seq);
                    position = at(generation, seq);
                }
                next => return Err(next),
            }
        }
    }

    #[test]
    fn what_joins_is_appended_and_the_oldest_go() {
        let mut tail = Tail::starting_at(at(FIRST, 5), SIZE);
        assert_eq!(following(&tail, at(FIRST, 5)), Ok(vec![]));
        assert_eq!(following(&tail, at(FIRST, 4)), Err(Next::Log));
        assert!(tail.apply(appended(FIRST, 5, 6..8)));
        assert!(tail.apply(appended(FIRST, 7, [9, 11].into_iter())));
        assert_eq!(following(&tail, at(FIRST, 5)), Err(Next::Log), "four are one too many");
        assert_eq!(following(&tail, at(FIRST, 7)), Ok(vec![9, 11]));
        assert_eq!(following(&tail, at(FIRST, 12)), Ok(vec![]), "it is ahead");
        assert_eq!(tail.find(EventId { millis: 1, seq: 9 }), Some((at(FIRST, 9), false)));
        assert_eq!(tail.find(EventId { millis: 2, seq: 9 }), None);
        assert_eq!(tail.find(EventId { millis: 1, seq: 7 }), None);
    }

    #[test]
    fn what_does_not_join_begins_anew() {
        let mut tail = Tail::starting_at(at(FIRST, 5), SIZE);
        assert!(tail.apply(appended(FIRST, 5, 6..8)));
        assert!(tail.apply(appended(FIRST, 4, 5..8)), "what is there already is left out");
        assert_eq!(following(&tail, at(FIRST, 5)), Ok(vec![6, 7]));
        assert!(tail.apply(appended(FIRST, 8, 9..10)));
        assert_eq!(following(&tail, at(FIRST, 7)), Err(Next::Log), "8 is in the log alone");
        assert_eq!(following(&tail, at(FIRST, 8)), Ok(vec![9]));
        assert!(tail.apply(appended(FIRST, 8, 9..12)), "and what overlaps is taken as it is");
        assert_eq!(following(&tail, at(FIRST, 9)), Ok(vec![10, 11]));
    }

    #[test]
    fn a_generation_that_is_over_is_told_from_one_that_is_not_known() {
        let mut tail = Tail::starting_at(Position::NOWHERE, SIZE);
        assert_eq!(following(&tail, Position::NOWHERE), Ok(vec![]));
        assert_eq!(following(&tail, at(FIRST, 1)), Err(Next::Log));
        assert!(tail.apply(appended(FIRST, 0, 1..3)));
        assert_eq!(following(&tail, Position::NOWHERE), Ok(vec![1, 2]));
        assert!(!tail.apply(TailUpdate::Gone(SECOND)), "of which it was not told");
        assert!(tail.apply(TailUpdate::Gone(FIRST)));
        assert_eq!(following(&tail, at(FIRST, 2)), Err(Next::Deleted));
        assert_eq!(following(&tail, at(SECOND, 2)), Err(Next::Log));
        assert!(tail.apply(appended(SECOND, 7, 8..9)));
        assert_eq!(
            following(&tail, Position::NOWHERE),
            Err(Next::Log),
            "it did not see its beginning"
        );
        assert_eq!(following(&tail, at(FIRST, 2)), Err(Next::Log));
        assert_eq!(following(&tail, at(SECOND, 7)), Ok(vec![8]));
        tail = Tail::Unknown;
        assert!(!tail.apply(appended(SECOND, 8, 9..10)));
        assert_eq!(following(&tail, at(SECOND, 8)), Err(Next::Unknown));
    }
}
