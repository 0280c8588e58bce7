//! The chunks of an HTTP/1.1 response (RFC 9112, section 7.1).

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};

/// The chunk that ends a response.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// Appends a chunk; none for no data, because an empty chunk ends the response.
pub(super) fn push(out: &mut BytesMut, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + 20);
    // Writing to a buffer with room cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// A chunk.
pub(super) fn of(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 20);
    push(&mut out, data);
    out.freeze()
}
