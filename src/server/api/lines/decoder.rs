//! A decoder of lines that never fails on what a line holds.
//!
//! Ours and not `LinesCodec` of tokio-util, which ends at the first line that is not UTF-8, throws away
//! lines that are too long, and knows nothing of a carriage return.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio_util::codec::Decoder;

/// A line without its end, as long as it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether it was longer.
    pub(super) cut: bool,
}

/// Cuts what arrives into lines: LF, CRLF and CR end one, and blank ones are left out. (Programs that
/// show progress end their lines with CR, for as long as it takes.)
#[derive(Debug)]
pub(super) struct LineDecoder {
    max_bytes: usize,
    /// How much of the buffer has no end of a line in it.
    scanned: usize,
    /// Whether a CR has ended a line, so that an LF right behind it is its second half.
    after_cr: bool,
    /// Whether a line has been cut, whose rest is thrown away.
    skipping: bool,
}

impl LineDecoder {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, scanned: 0, after_cr: false, skipping: false }
    }

    /// A line that has come to its end, if it is one to keep.
    fn finish(&mut self, line: &[u8]) -> Option<Line> {
        self.scanned = 0;
        let skipped = std::mem::take(&mut self.skipping);
        (!skipped && !line.is_empty()).then(|| self.line(line))
    }

    fn line(&self, line: &[u8]) -> Line {
        let fits = line.len().min(self.max_bytes);
        Line { bytes: line[..fits].to_vec(), cut: fits < line.len() }
    }
}

impl Decoder for LineDecoder {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        loop {
            if self.after_cr && !buffer.is_empty() {
                self.after_cr = false;
                if buffer[0] == b'\n' {
                    buffer.advance(1);
                }
            }
            let end = buffer[self.scanned..].iter().position(|byte| b"\r\n".contains(byte));
            let Some(end) = end else {
                self.scanned = buffer.len();
                if self.skipping {
                    buffer.clear();
                    self.scanned = 0;
                } else if buffer.len() > self.max_bytes {
                    let line = self.line(buffer);
                    buffer.clear();
                    (self.scanned, self.skipping) = (0, true);
                    return Ok(Some(line));
                }
                return Ok(None);
            };
            let line = buffer.split_to(self.scanned + end);
            self.after_cr = buffer.get_u8() == b'\r';
            if let Some(line) = self.finish(&line) {
                return Ok(Some(line));
            }
        }
    }

    /// A last line without an end is one too.
    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        if let Some(line) = self.decode(buffer)? {
            return Ok(Some(line));
        }
        let rest = buffer.split();
        Ok(self.finish(&rest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of what arrives in pieces.
    fn lines(pieces: &[&[u8]], max_bytes: usize) -> Vec<Line> {
        let (mut decoder, mut buffer) = (LineDecoder::new(max_bytes), BytesMut::new());
        let mut found = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(line) = decoder.decode(&mut buffer).expect("no error") {
                found.push(line);
            }
            assert!(buffer.len() <= max_bytes, "no more than a line is held");
        }
        while let Some(line) = decoder.decode_eof(&mut buffer).expect("no error") {
            found.push(line);
        }
        found
    }

    fn texts(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        lines(pieces, 8).into_iter().map(|line| line.bytes).collect()
    }

    #[test]
    fn what_ends_a_line() {
        assert_eq!(texts(&[b"a\nb\r\nc\rd"]), [b"a", b"b", b"c", b"d"]);
        assert_eq!(texts(&[b"a\r", b"\nb"]), [b"a", b"b"], "CRLF between two reads is one end");
        assert_eq!(texts(&[b"10%\r20%\r30%\n"]), [b"10%", b"20%", b"30%"]);
        assert_eq!(texts(&[b"\n\r\n\r\r", b"\n", b"a", b"", b"b"]), [b"ab"], "blank ones are none");
        assert_eq!(texts(&[]), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_once() {
        let long = Line { bytes: b"01234567".to_vec(), cut: true };
        let next = Line { bytes: b"next".to_vec(), cut: false };
        assert_eq!(lines(&[b"0123456789\nnext"], 8), [long.clone(), next.clone()]);
        assert_eq!(lines(&[b"01234567", b"8", b"9abc", b"\r", b"\nnext"], 8), [long.clone(), next]);
        assert_eq!(lines(&[b"0123456789", b"abc"], 8), [long], "up to the end");
        let whole = Line { bytes: b"01234567".to_vec(), cut: false };
        assert_eq!(lines(&[b"01234567\n"], 8), [whole]);
    }

    proptest! {
        /// However an upload is cut into pieces, its lines are the same.
        #[test]
        fn cuts_do_not_matter(
            text in prop::collection::vec(prop::sample::select(b"ab\xff\r\n".to_vec()), 0..60),
            cuts in prop::collection::vec(1..8_usize, 1..20),
        ) {
            let mut pieces = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(lines(&pieces, 5), lines(&[&text], 5));
            let expected: Vec<_> = text
                .split(|byte| b"\r\n".contains(byte))
                .filter(|line| !line.is_empty())
                .map(|line| line[..line.len().min(5)].to_vec())
                .collect();
            let found: Vec<_> = lines(&pieces, 5).into_iter().map(|line| line.bytes).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
