//! Lines that share an idempotency key: up to 1,024, stored by the server as a whole or not at all.

use bytes::Bytes;

/// The most lines that one idempotency key covers.
pub(super) const MAX_BATCH_LINES: u64 = 1024;
/// The most bytes of lines in a batch, unless it is a single line. Invalid UTF-8 can become three times
/// as long, and a key covers 1 MiB.
pub(super) const MAX_BATCH_BYTES: usize = 256 * 1024;
/// Some lines, each with a line end; at most a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) count: u64,
    pub(super) bytes: Vec<u8>,
}

impl Lines {
    /// Whether `other` can be added to one batch.
    pub(super) fn can_take(&self, count: u64, bytes: usize) -> bool {
        self.count == 0
            || (self.count + count <= MAX_BATCH_LINES
                && self.bytes.len() + bytes <= MAX_BATCH_BYTES)
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes.extend_from_slice(&other.bytes);
    }
}

/// Lines that are sent together, and stored together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The idempotency key.
    pub(super) key: String,
    pub(super) count: u64,
    pub(super) body: Bytes,
}

/// A random idempotency key.
pub(super) fn random_key() -> String {
    format!("{:032x}", fastrand::u128(..))
}
