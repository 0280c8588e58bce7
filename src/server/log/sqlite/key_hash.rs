//! Hashes that stand for idempotency keys, and for what was appended under them.

use sha2::{Digest as _, Sha256};

use crate::server::log::{Generation, IdempotencyKey, MessageText};

/// How many bytes of a hash tell keys, and what was appended under them, from each other.
const HASH: usize = 16;
pub(super) type Hash = [u8; HASH];

/// Stands for a key of a generation of a stream.
pub(super) fn name(generation: Generation, key: &IdempotencyKey) -> Hash {
    let mut hash = Sha256::new();
    hash.update(generation.0.to_le_bytes());
    hash.update(&key.0);
    shortened(hash)
}

/// Tells one batch from another.
pub(super) fn digest(batch: &[MessageText]) -> Hash {
    let mut hash = Sha256::new();
    for data in batch {
        hash.update((data.as_str().len() as u64).to_le_bytes());
        hash.update(data.as_str());
    }
    shortened(hash)
}

fn shortened(hash: Sha256) -> Hash {
    let mut short = Hash::default();
    short.copy_from_slice(&hash.finalize()[..HASH]);
    short
}
