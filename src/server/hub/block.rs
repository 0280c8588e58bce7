//! A block: messages that were appended together, encoded as frames of an event stream (SSE).

use std::mem;

use bytes::Bytes;

use super::budget::{LargeBytes, TailBudget, TailBytes};
use crate::{
    message::{EventId, Message},
    server::sse::{frame, response},
};

/// Maximum size of a block in bytes, unless a single message is larger. A stalled reader holds the whole
/// block that contains its frames.
const MAX_BLOCK_BYTES: usize = response::BATCH_BYTES;

/// Encoded messages that were appended together, or some of them.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    /// Its size in the tail budget, including the index.
    pub(super) counted: TailBytes,
    /// The id of each message, and the offset in `bytes` where its frame ends.
    pub(super) index: Vec<(EventId, usize)>,
}

impl Block {
    /// Encodes messages into blocks.
    pub(super) fn encode(
        messages: &[Message],
        kind: &'static str,
        budget: &TailBudget,
    ) -> Vec<Self> {
        let (mut blocks, mut index) = (Vec::with_capacity(1), Vec::new());
        let lengths = messages.iter().map(|message| frame::max_length(&message.data));
        let mut frames = String::with_capacity(lengths.sum::<usize>().min(MAX_BLOCK_BYTES));
        for Message { id, data } in messages {
            let start = frames.len();
            frames.reserve(frame::max_length(data));
            frame::event(&mut frames, kind, Some(*id), data);
            if start > 0 && frames.len() > MAX_BLOCK_BYTES {
                let next = frames.split_off(start);
                let full = mem::replace(&mut frames, next);
                blocks.push(Self::new(full, mem::take(&mut index), budget));
            }
            index.push((*id, frames.len()));
        }
        if !index.is_empty() {
            blocks.push(Self::new(frames, index, budget));
        }
        blocks
    }

    fn new(mut frames: String, mut index: Vec<(EventId, usize)>, budget: &TailBudget) -> Self {
        frames.shrink_to_fit();
        index.shrink_to_fit();
        let counted = budget.count(frames.len() + size_of_val(&*index));
        let bytes = if frames.len() > MAX_BLOCK_BYTES {
            let counted = budget.count_large(frames.len());
            Bytes::from_owner(LargeFrames { frames, _counted: counted })
        } else {
            Bytes::from(frames)
        };
        Self { bytes, counted, index }
    }

    /// Whether this is a large block that must not be shared with readers, because large blocks take too
    /// much memory: a stalled reader holds it for an unlimited time.
    pub(super) fn is_withheld(&self) -> bool {
        self.bytes.len() > MAX_BLOCK_BYTES && self.counted.budget.has_too_many_large()
    }

    /// The sequence of the last message.
    pub(super) fn last_seq(&self) -> u64 {
        self.index.last().map_or(0, |(id, _)| id.seq)
    }

    /// The frames after a sequence, about `max` bytes of them; their number, and the sequence of the
    /// last one.
    pub(super) fn frames_after(&self, seq: u64, max: usize) -> (Bytes, usize, u64) {
        let from = self.index.partition_point(|(id, _)| id.seq <= seq);
        let start = if from == 0 { 0 } else { self.index[from - 1].1 };
        let fits = self.index[from..].partition_point(|(_, end)| end - start <= max).max(1);
        let (last, end) = self.index[from + fits - 1];
        (self.bytes.slice(start..end), fits, last.seq)
    }
}

/// The frame of a single large message, counted until its last holder drops it.
struct LargeFrames {
    frames: String,
    _counted: LargeBytes,
}

impl AsRef<[u8]> for LargeFrames {
    fn as_ref(&self) -> &[u8] {
        self.frames.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NEW_MESSAGE;

    #[test]
    fn the_size_of_a_block_is_that_of_its_frames_not_of_its_text() {
        let message = |n: usize| Message {
            id: EventId { millis: 1, seq: n as u64 },
            data: "\n".repeat([10, 1_000, 5_000, 100, 100, 100, 2_000, 2_000][n]),
        };
        let messages: Vec<_> = (0..8).map(message).collect();
        let blocks = Block::encode(&messages, NEW_MESSAGE, &TailBudget::new(usize::MAX));
        let lengths: Vec<_> = blocks.iter().map(|block| block.index.len()).collect();
        assert_eq!(lengths, [2, 1, 4, 1]);
        let (mut expected, mut frames) = (String::new(), Vec::new());
        for Message { id, data } in &messages {
            frame::event(&mut expected, NEW_MESSAGE, Some(*id), data);
        }
        for block in &blocks {
            assert!(block.bytes.len() <= MAX_BLOCK_BYTES || block.index.len() == 1);
            assert_eq!(block.index.last().map(|(_, end)| *end), Some(block.bytes.len()));
            frames.extend_from_slice(&block.bytes);
        }
        assert_eq!(frames, expected.as_bytes());
    }
}
