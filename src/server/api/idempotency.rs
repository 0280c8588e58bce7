//! The `Idempotency-Key` header.

use axum::http::{HeaderMap, HeaderName};

use crate::{
    problem,
    server::{error::Problem, log::IdempotencyKey},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in characters (design, section 2).
const MAX_KEY_LENGTH: usize = 255;

/// The idempotency key of a request, if it has one.
///
/// # Errors
/// When there are several, or the key is empty, too long or not printable ASCII.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let printable = |bytes: &[u8]| bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    match key.to_str() {
        Ok(text)
            if keys.next().is_none()
                && (1..=MAX_KEY_LENGTH).contains(&text.len())
                && printable(text.as_bytes()) =>
        {
            Ok(Some(IdempotencyKey(text.to_owned())))
        }
        _ => Err(malformed_key("Send one Idempotency-Key of 1 to 255 printable ASCII characters.")),
    }
}

fn malformed_key(detail: &str) -> Problem {
    Problem::new(problem::MALFORMED_KEY, detail)
}
