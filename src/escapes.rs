//! ANSI escape sequences (ECMA-48, sections 5.3 to 5.6): where they are in a text.
//!
//! What they mean is not known here. The page shows some of them (`app::ansi`), a filter ignores them.

/// The first byte of each sequence.
const ESCAPE: u8 = 0x1b;
/// The end of a string such as the title of a window, beside `ESC \`.
const BELL: u8 = 7;

/// A text without its escape sequences.
#[must_use]
pub fn strip(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (before, _, after) = split_sequence(rest);
        visible.push_str(before);
        rest = after;
    }
    visible
}

/// Splits a text at its first escape sequence: what precedes it, the sequence, and what follows. Without
/// one the last two are empty.
#[must_use]
pub fn split_sequence(text: &str) -> (&str, &str, &str) {
    let (before, rest) = split(text, text.bytes().take_while(|&b| b != ESCAPE).count());
    // It is ASCII, and so does not end within a character.
    let (sequence, after) = split(rest, sequence_length(rest.as_bytes()));
    (before, sequence, after)
}

fn split(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// The length of the escape sequence at the beginning of a text, in bytes. A sequence that breaks off is as
/// long as what there is of it; a string without an end, which may be all of the text, is not one: only its
/// first character is dropped.
fn sequence_length(text: &[u8]) -> usize {
    let mut last = b'/';
    let mut length = 1;
    match text.get(1) {
        // Strings: OSC (titles, links, progress), DCS, SOS, PM and APC.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = 1 + text.iter().skip(1).take_while(|&&b| b >= b' ').count();
            return match text.get(end..) {
                Some([BELL, ..]) => end + 1,
                Some([ESCAPE, b'\\', ..]) => end + 2,
                _ => 2,
            };
        }
        // Control sequences have parameters, others only intermediate characters.
        Some(b'[') => (last, length) = (b'?', 2),
        _ => {}
    }
    while let Some(b) = text.get(length)
        && matches!(b, b' '..=b'~')
    {
        length += 1;
        if *b > last {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequences_are_dropped() {
        for (text, expected) in [
            ("\x1b[2K\x1b[1Gdone\x1b[?25h", "done"),
            ("\x1b[>4;1m\x1b[?1m\x1b[1 qa", "a"),
            ("\x1b]0;title\x07a\x1b]8;;http://e.example\x1b\\link\x1b]8;;\x1b\\", "alink"),
            ("\x1bPdata\x1b\\a\x1b_b\x1b\\\x1b^c\x1b\\\x1bXd\x1b\\", "a"),
            ("\x1b(B\x1b)0\x1b7\x1b8\x1bca\x1b=\x1bM\x1b#8", "a"),
            ("\x1b%/Ga", "a"),
            // What breaks off is dropped as far as it goes, and nothing that is not part of it.
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("a\x1b[38;5;…", "a…"),
            ("a\x1b[1\nb", "a\nb"),
            ("\x1b]0;no end", "0;no end"),
            ("\x1b]0;no end\nnext\x07", "0;no end\nnext\x07"),
            ("\x1b]0;a\x1b[1mb", "0;ab"),
            ("\x1b\x1b[1ma\x1béb", "aéb"),
            ("50 %\r100 %", "50 %\r100 %"),
        ] {
            assert_eq!(strip(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_around_sequences_stays(
            pieces in prop::collection::vec("[^\\x00-\\x1f]{0,8}", 1..6),
            sequence in "\u{1b}(\\[[0-9;:?<=>!-/]{0,8}[@-~]|\\][^\\x00-\\x1f]{0,8}(\u{7}|\u{1b}\\\\)|[ -/]{0,2}[0-OQ-WYZ\\\\`-~])",
        ) {
            prop_assert_eq!(strip(&pieces.join(&sequence)), pieces.concat());
        }
    }
}
