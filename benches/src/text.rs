//! What the messages of a measurement say: their number, from 0, and when they were sent, so that
//! whoever receives one knows what it missed and how long it took.

use std::{io::Write as _, sync::LazyLock, time::Instant};

/// The length of a message, in bytes, unless something else is said.
pub(crate) const LENGTH: usize = 100;

/// Microseconds since the measurements began. One process sends and receives, so that one clock
/// is enough.
pub(crate) fn now() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Appends a message to `buffer`.
pub(crate) fn write(buffer: &mut Vec<u8>, number: u64, sent: u64) {
    write_long(buffer, number, sent, LENGTH);
}

/// Appends a message of so many bytes.
pub(crate) fn write_long(buffer: &mut Vec<u8>, number: u64, sent: u64, length: usize) {
    let end = buffer.len() + length;
    // Nothing can go wrong in memory.
    let _ = write!(buffer, "{number} {sent} ");
    buffer.resize(end, b'x');
}

/// The number of a message and when it was sent; `None` for data that is no message, as a ping's.
pub(crate) fn read(data: &[u8]) -> Option<(u64, u64)> {
    let mut words = data.splitn(3, |&byte| byte == b' ').map(number);
    Some((words.next()??, words.next()??))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
