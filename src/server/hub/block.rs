//! Messages that were appended together, encoded as the frames of an event stream.

use bytes::Bytes;

use super::{
    super::{events, frame},
    budget::{TailBudget, TailBytes},
};
use crate::message::{EventId, Message};

/// How large a block becomes at the most, unless a single message is larger. A reader that stalls holds
/// the whole block that its frames are in.
const MAX_BLOCK_BYTES: usize = events::BATCH;
/// What a frame has beside the text, about, in bytes.
const FRAME_OVERHEAD: usize = 80;

/// What was appended together, or a part of it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    /// What it takes, its index included.
    pub(super) counted: TailBytes,
    /// The id of each message, and where in the bytes its frame ends.
    pub(super) index: Vec<(EventId, usize)>,
}

impl Block {
    /// Blocks of these messages.
    pub(super) fn all_of(
        mut messages: &[Message],
        kind: &'static str,
        budget: &TailBudget,
    ) -> Vec<Self> {
        let mut blocks = Vec::with_capacity(1);
        while !messages.is_empty() {
            let (mut count, mut length) = (0, 0);
            for message in messages {
                length += message.data.len() + FRAME_OVERHEAD;
                if count > 0 && length > MAX_BLOCK_BYTES {
                    break;
                }
                count += 1;
            }
            let (some, rest) = messages.split_at(count);
            blocks.push(Self::of(some, kind, budget));
            messages = rest;
        }
        blocks
    }

    fn of(messages: &[Message], kind: &'static str, budget: &TailBudget) -> Self {
        let lengths = messages.iter().map(|message| message.data.len() + FRAME_OVERHEAD);
        let mut bytes = String::with_capacity(lengths.sum());
        let mut index = Vec::with_capacity(messages.len());
        for Message { id, data } in messages {
            frame::event(&mut bytes, kind, Some(*id), data);
            index.push((*id, bytes.len()));
        }
        // A text of many lines has more beside it than was thought.
        bytes.shrink_to_fit();
        let counted = budget.count(bytes.len() + size_of_val(&*index));
        Self { bytes: Bytes::from(bytes), counted, index }
    }

    pub(super) fn last(&self) -> u64 {
        self.index.last().map_or(0, |(id, _)| id.seq)
    }

    /// The frames after a sequence, for about `max` bytes, how many they are, and the sequence of
    /// the last one.
    pub(super) fn after(&self, seq: u64, max: usize) -> (Bytes, usize, u64) {
        let from = self.index.partition_point(|(id, _)| id.seq <= seq);
        let start = if from == 0 { 0 } else { self.index[from - 1].1 };
        let fits = self.index[from..].partition_point(|(_, end)| end - start <= max).max(1);
        let (last, end) = self.index[from + fits - 1];
        (self.bytes.slice(start..end), fits, last.seq)
    }
}
