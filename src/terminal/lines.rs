//! Splits an input into lines, by the rules of `?lines`: LF, CRLF and CR end a line, and blank lines are
//! left out. What is too long or not UTF-8 is left to the server, which knows its limits.

use super::{MAX_MESSAGE_BYTES, batch::Lines};

/// The server cuts what is longer than its limit: one byte more is enough for it to know.
const MAX_LINE: usize = MAX_MESSAGE_BYTES + 1;

/// Splits bytes into lines as they come.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Whether the last line ended with CR, so that a following LF belongs to it.
    after_cr: bool,
    complete: Lines,
}

impl LineSplitter {
    /// Takes more of the input; `take` gets the lines that are complete.
    pub(super) fn feed(&mut self, mut input: &[u8], take: &mut impl FnMut(Lines)) {
        while let Some(first) = input.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                input = &input[1..];
                continue;
            }
            let Some(end) = input.iter().position(|byte| b"\r\n".contains(byte)) else {
                self.extend(input);
                break;
            };
            self.extend(&input[..end]);
            self.after_cr = input[end] == b'\r';
            input = &input[end + 1..];
            self.end_line(take);
        }
        self.flush(take);
    }

    /// The input has ended: what follows the last line end is a line too.
    pub(super) fn finish(&mut self, take: &mut impl FnMut(Lines)) {
        self.end_line(take);
        self.flush(take);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.partial.len().min(MAX_LINE);
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, take: &mut impl FnMut(Lines)) {
        if self.partial.is_empty() {
            return;
        }
        if !self.complete.can_take(1, self.partial.len() + 1) {
            self.flush(take);
        }
        self.complete.count += 1;
        self.complete.bytes.append(&mut self.partial);
        self.complete.bytes.push(b'\n');
    }

    fn flush(&mut self, take: &mut impl FnMut(Lines)) {
        if self.complete.count > 0 {
            take(std::mem::take(&mut self.complete));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::terminal::batch::MAX_BATCH_BYTES;

    fn split(pieces: &[&[u8]]) -> Vec<Lines> {
        let (mut splitter, mut found) = (LineSplitter::default(), Vec::new());
        for piece in pieces {
            splitter.feed(piece, &mut |lines| found.push(lines));
        }
        splitter.finish(&mut |lines| found.push(lines));
        found
    }

    fn texts(pieces: &[&[u8]]) -> String {
        let found: Vec<u8> = split(pieces).into_iter().flat_map(|lines| lines.bytes).collect();
        String::from_utf8(found).expect("UTF-8")
    }

    #[test]
    fn lines_end_as_the_server_ends_them() {
        assert_eq!(texts(&[b"a\nb\r\nc\rd"]), "a\nb\nc\nd\n");
        assert_eq!(texts(&[b"a\r", b"\nb"]), "a\nb\n");
        assert_eq!(texts(&[b"\n\r\n\r\r", b"\n", b"a", b"", b"b"]), "ab\n");
        assert_eq!(texts(&[]), "");
    }

    #[test]
    fn batches_are_within_what_a_key_covers() {
        let many = "x\n".repeat(3000);
        let counts: Vec<_> = split(&[many.as_bytes()]).iter().map(|lines| lines.count).collect();
        assert_eq!(counts, [1024, 1024, 952]);
        let long = format!("{}\n{}\nshort\n", "y".repeat(MAX_BATCH_BYTES - 1), "z".repeat(500_000));
        let counts: Vec<_> = split(&[long.as_bytes()]).iter().map(|lines| lines.count).collect();
        assert_eq!(counts, [1, 1, 1]);
        let endless = vec![b'e'; MAX_LINE + 10];
        let found = split(&[&endless, b"more\nnext\n"]);
        assert_eq!(found[0].bytes.len(), MAX_LINE + 1);
        assert_eq!(found[1].bytes, b"next\n");
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_input_comes(
            text in prop::collection::vec(prop::sample::select(b"ab\xff\r\n".to_vec()), 0..60),
            size in 1..8_usize,
        ) {
            let pieces: Vec<_> = text.chunks(size).collect();
            let found: Vec<u8> = split(&pieces).into_iter().flat_map(|lines| lines.bytes).collect();
            let lines = text.split(|byte| b"\r\n".contains(byte)).filter(|line| !line.is_empty());
            let expected: Vec<u8> = lines.flat_map(|line| [line, b"\n"].concat()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
