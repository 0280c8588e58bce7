//! Hashes of idempotency keys, and of the batches that were appended with them (truncated SHA-256).

use sha2::{Digest as _, Sha256};

use super::{Generation, IdempotencyKey, MessageText};

/// Bytes of a hash that are kept.
const HASH_BYTES: usize = 16;
pub(crate) type Hash = [u8; HASH_BYTES];

/// Hashes a key of a generation of a stream.
pub(crate) fn hash_key(generation: Generation, key: &IdempotencyKey) -> Hash {
    let mut hash = Sha256::new();
    hash.update(generation.0.to_le_bytes());
    hash.update(&key.0);
    truncated(hash)
}

/// Hashes the messages of a batch.
pub(crate) fn digest(batch: &[MessageText]) -> Hash {
    let mut hash = Sha256::new();
    for data in batch {
        hash.update((data.as_str().len() as u64).to_le_bytes());
        hash.update(data.as_str());
    }
    truncated(hash)
}

fn truncated(hash: Sha256) -> Hash {
    let mut short = Hash::default();
    short.copy_from_slice(&hash.finalize()[..HASH_BYTES]);
    short
}
