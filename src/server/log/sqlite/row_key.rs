//! The integer keys of messages: a stream's slot and an offset in one number.
//!
//! A table with an integer key packs its rows into pages whatever their size, where one whose key is
//! made of several columns gives a row above some 985 bytes overflow pages of its own. The slot is
//! the higher part, so that the messages of a stream are neighbours, in order. `SQLite` writes small
//! keys with fewer bytes (seven up to slot 511), so slots that were emptied are used again, lowest
//! first; that a slot had another stream before does no harm, because what tells streams apart is
//! their generation.

/// How many bits of a key are the offset of a message in its slot. At 40,000 messages a second they
/// last for 318 days in one generation of one stream.
pub(super) const OFFSET_BITS: u32 = 40;
/// The greatest offset; the first message of a stream has the offset 1.
pub(super) const MAX_OFFSET: u64 = (1 << OFFSET_BITS) - 1;
/// The greatest slot: one more has keys too.
pub(super) const MAX_SLOT: i64 = (1 << (63 - OFFSET_BITS)) - 2;

/// Where the messages of one stream are in the table of all messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) i64);

impl Slot {
    /// The slot of a key.
    pub(super) fn of(key: i64) -> Self {
        Self(key >> OFFSET_BITS)
    }

    /// The key of the message with this offset. An offset that no message can have is taken for the
    /// last one.
    pub(super) fn row_key(self, offset: u64) -> i64 {
        let offset = offset.min(MAX_OFFSET).cast_signed();
        (self.0 << OFFSET_BITS) | offset
    }

    /// Below every key of the slot.
    pub(super) fn start(self) -> i64 {
        self.row_key(0)
    }

    /// The last key that the slot can have.
    pub(super) fn end(self) -> i64 {
        self.row_key(MAX_OFFSET)
    }
}

/// The offset that a key holds.
pub(super) fn offset(key: i64) -> u64 {
    key.cast_unsigned() & MAX_OFFSET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_keys_rise() {
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
