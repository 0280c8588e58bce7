//! A line decoder that accepts any bytes, truncates long lines, and knows CR, LF and CRLF.
//!
//! It replaces tokio-util's `LinesCodec`, which fails at the first line that is not UTF-8, discards lines
//! that are too long, and does not split at a carriage return.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio_util::codec::Decoder;

/// A line without its line end, truncated to the maximum length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether it was truncated.
    pub(super) truncated: bool,
}

/// Splits bytes into lines at LF, CRLF and CR, and drops empty lines. (CR, because programs that show
/// their progress end each update with it.)
#[derive(Debug)]
pub(super) struct LineDecoder {
    max_bytes: usize,
    /// How many bytes at the start of the buffer hold no line end.
    scanned: usize,
    /// Whether the last line ended with CR, so that a following LF belongs to it.
    after_cr: bool,
    /// Whether the rest of a truncated line is being discarded.
    skipping: bool,
}

impl LineDecoder {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, scanned: 0, after_cr: false, skipping: false }
    }

    /// A complete line, unless it is empty or the rest of a truncated one.
    fn finish(&mut self, line: &[u8]) -> Option<Line> {
        self.scanned = 0;
        let skipped = std::mem::take(&mut self.skipping);
        (!skipped && !line.is_empty()).then(|| self.line(line))
    }

    fn line(&self, line: &[u8]) -> Line {
        let fits = line.len().min(self.max_bytes);
        Line { bytes: line[..fits].to_vec(), truncated: fits < line.len() }
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

    /// Bytes after the last line end are a line too.
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

    /// The lines of a body that arrives in these pieces.
    fn lines(pieces: &[&[u8]], max_bytes: usize) -> Vec<Line> {
        let (mut decoder, mut buffer) = (LineDecoder::new(max_bytes), BytesMut::new());
        let mut found = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(line) = decoder.decode(&mut buffer).expect("no error") {
                found.push(line);
            }
            assert!(buffer.len() <= max_bytes, "no more than one line is buffered");
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
    fn lines_end_with_lf_crlf_or_cr() {
        assert_eq!(texts(&[b"a\nb\r\nc\rd"]), [b"a", b"b", b"c", b"d"]);
        assert_eq!(
            texts(&[b"a\r", b"\nb"]),
            [b"a", b"b"],
            "CRLF split between two reads is one line end"
        );
        assert_eq!(texts(&[b"10%\r20%\r30%\n"]), [b"10%", b"20%", b"30%"]);
        assert_eq!(
            texts(&[b"\n\r\n\r\r", b"\n", b"a", b"", b"b"]),
            [b"ab"],
            "empty lines are dropped"
        );
        assert_eq!(texts(&[]), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn a_long_line_is_truncated_and_its_rest_discarded() {
        let long = Line { bytes: b"01234567".to_vec(), truncated: true };
        let next = Line { bytes: b"next".to_vec(), truncated: false };
        assert_eq!(lines(&[b"0123456789\nnext"], 8), [long.clone(), next.clone()]);
        assert_eq!(lines(&[b"01234567", b"8", b"9abc", b"\r", b"\nnext"], 8), [long.clone(), next]);
        assert_eq!(lines(&[b"0123456789", b"abc"], 8), [long], "at the end of the body");
        let whole = Line { bytes: b"01234567".to_vec(), truncated: false };
        assert_eq!(lines(&[b"01234567\n"], 8), [whole]);
    }

    proptest! {
        /// The lines do not depend on how the body is split into pieces.
        #[test]
        fn lines_do_not_depend_on_chunk_boundaries(
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
