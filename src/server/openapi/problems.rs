//! The problems that operations share, and the headers that come with them.

use crate::problem::{self, Kind};

/// Of every operation.
pub(super) const ALWAYS: [Kind; 3] =
    [problem::UNKNOWN_HOST, problem::TOO_MANY_REQUESTS, problem::INTERNAL];

/// Of a request that needs a token, or a better one.
pub(super) const RIGHTS: [Kind; 5] = [
    problem::TOKEN_MISSING,
    problem::TOKEN_INVALID,
    problem::TOKEN_EXPIRED,
    problem::TOKEN_UNFIT,
    problem::NOT_PERMITTED,
];

/// Of a request whose token is not good, where none is needed.
pub(super) const BAD_TOKEN: [Kind; 3] =
    [problem::TOKEN_INVALID, problem::TOKEN_EXPIRED, problem::TOKEN_UNFIT];

/// Of a request with a body.
pub(super) const BODY: [Kind; 7] = [
    problem::INCOMPLETE_BODY,
    problem::MALFORMED_ENCODING,
    problem::REQUEST_TIMEOUT,
    problem::MESSAGE_TOO_LARGE,
    problem::UNSUPPORTED_ENCODING,
    problem::MEMORY_EXHAUSTED,
    problem::DRAINING,
];

/// Of a request that changes a stream.
pub(super) const WRITE: [Kind; 6] = [
    problem::MALFORMED_NAME,
    problem::CROSS_SITE,
    problem::TOO_MANY_MESSAGES,
    problem::OUTCOME_UNKNOWN,
    problem::STORE_UNAVAILABLE,
    problem::DRAINING,
];

/// Of a message that is appended.
pub(super) const APPEND: [Kind; 3] =
    [problem::STREAM_ENDED, problem::TOO_MANY_STREAMS, problem::MESSAGE_TOO_LARGE];

/// Of an idempotency key.
pub(super) const KEY: [Kind; 2] = [problem::MALFORMED_KEY, problem::KEY_REUSED];

/// Of a page, or a page of history.
pub(super) const READ: [Kind; 3] =
    [problem::TOO_MANY_READS, problem::MEMORY_EXHAUSTED, problem::STORE_UNAVAILABLE];

/// Of an event stream.
pub(super) const EVENTS: [Kind; 4] = [
    problem::MALFORMED_CURSOR,
    problem::MALFORMED_QUERY,
    problem::TOO_MANY_WATCHERS,
    problem::SERVER_FULL,
];

/// The names of the headers that a refusal with one of these problems may have.
pub(super) fn headers(kinds: &[Kind]) -> Vec<&'static str> {
    let is_one_of = |some: &[Kind]| kinds.iter().any(|kind| some.contains(kind));
    let mut headers = Vec::new();
    if kinds.iter().any(|kind| [429, 503].contains(&kind.status))
        || is_one_of(&[problem::OUTCOME_UNKNOWN])
    {
        headers.push("Retry-After");
    }
    if is_one_of(&RIGHTS) || is_one_of(&[problem::SIGNATURE_MISSING]) {
        headers.push("WWW-Authenticate");
    }
    if is_one_of(&[problem::UNSUPPORTED_ENCODING]) {
        headers.push("Accept-Encoding");
    }
    headers
}
