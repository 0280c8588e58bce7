//! Lines that share an idempotency key: up to 1,024, stored by the server as a whole or not at all.

use std::io;

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

/// A random idempotency key, from the randomness of the system: the server takes a message with a key that
/// another one had for a repetition.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn random_key() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
