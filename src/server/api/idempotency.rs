//! The `Idempotency-Key` header, and headers that are as good.

use axum::http::{HeaderMap, HeaderName};

use crate::{
    problem,
    server::{error::Problem, log::IdempotencyKey},
};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in characters (design, section 2).
pub(crate) const MAX_KEY_LENGTH: usize = 255;

/// The idempotency key of a request, if it has one.
///
/// # Errors
/// When there are several, or the key is empty, too long or not printable ASCII.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    key_in(headers, IDEMPOTENCY_KEY.as_str())
}

/// The idempotency key in the header of this name.
///
/// # Errors
/// As for [`key`].
pub(super) fn key_in(headers: &HeaderMap, name: &str) -> Result<Option<IdempotencyKey>, Problem> {
    let mut keys = headers.get_all(name).iter();
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
        _ => {
            let detail = format!("Send one {name} of 1 to 255 printable ASCII characters.");
            Err(Problem::new(problem::MALFORMED_KEY, detail))
        }
    }
}
