//! Row keys of messages: the slot of a stream and an offset, in one 64-bit integer.
//!
//! A table with an integer key packs rows of any size into its pages; with a key of several columns,
//! rows above about 985 bytes would need overflow pages. The slot is the higher part, so that the
//! messages of a stream are adjacent and in order. `SQLite` stores small keys in fewer bytes (seven up to
//! slot 511), so emptied slots are used again, lowest first. This is safe because generations, not
//! slots, identify streams.

/// Bits of a key that hold the offset of a message in its slot: enough for 318 days of 40,000 messages a
/// second in one generation of one stream.
pub(super) const OFFSET_BITS: u32 = 40;
/// The greatest offset; the first message of a stream has the offset 1.
pub(super) const MAX_OFFSET: u64 = (1 << OFFSET_BITS) - 1;
/// The greatest slot. One less than would fit, so that the keys of the next slot are valid integers too.
pub(super) const MAX_SLOT: i64 = (1 << (63 - OFFSET_BITS)) - 2;

/// The range of row keys that belongs to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) i64);

impl Slot {
    /// The slot of a row key.
    pub(super) fn of(key: i64) -> Self {
        Self(key >> OFFSET_BITS)
    }

    /// The row key of the message with this offset. An offset above the maximum becomes the maximum.
    pub(super) fn row_key(self, offset: u64) -> i64 {
        let offset = offset.min(MAX_OFFSET).cast_signed();
        (self.0 << OFFSET_BITS) | offset
    }

    /// Below every key of a message in the slot.
    pub(super) fn start(self) -> i64 {
        self.row_key(0)
    }

    /// The greatest key of the slot.
    pub(super) fn end(self) -> i64 {
        self.row_key(MAX_OFFSET)
    }
}

/// The offset in a row key.
pub(super) fn offset(key: i64) -> u64 {
    key.cast_unsigned() & MAX_OFFSET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_keys_increase() {
        for slot in [0, 1, 511, MAX_SLOT] {
            let slot = Slot(slot);
            assert!(slot.start() < slot.row_key(1) && slot.row_key(1) < slot.end());
            for at in [1, 77, MAX_OFFSET] {
                assert_eq!((Slot::of(slot.row_key(at)), offset(slot.row_key(at))), (slot, at));
            }
            assert_eq!(slot.row_key(u64::MAX), slot.end());
            assert!(slot.end() < Slot(slot.0 + 1).start());
        }
    }
}
