//! The text of a message: its number, from 0, and the time when it was sent, from which a watcher
//! computes missed messages and delay.

use std::{io::Write as _, sync::LazyLock, time::Instant};

/// The default length of a message, in bytes.
pub(crate) const LENGTH: usize = 100;

/// Microseconds since the measurements began. One process sends and receives, so one clock is
/// enough.
pub(crate) fn now() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Appends a message to `buffer`.
pub(crate) fn write(buffer: &mut Vec<u8>, number: u64, sent: u64) {
    write_long(buffer, number, sent, LENGTH);
}

/// Appends a message of `length` bytes.
pub(crate) fn write_long(buffer: &mut Vec<u8>, number: u64, sent: u64, length: usize) {
    let end = buffer.len() + length;
    // Writing to memory cannot fail.
    let _ = write!(buffer, "{number} {sent} ");
    buffer.resize(end, b'x');
}

/// The number of a message and its send time; `None` for other data, such as a ping.
pub(crate) fn read(data: &[u8]) -> Option<(u64, u64)> {
    let mut words = data.splitn(3, |&byte| byte == b' ').map(number);
    Some((words.next()??, words.next()??))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
