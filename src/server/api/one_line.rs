//! Text that others wrote, as one line: a title, or a field of a webhook.

use crate::escapes::split_sequence;

/// The text as one line of at most `max` characters, the last of which is `…` if it was cut. Line breaks
/// and other white space become single spaces; terminal escape sequences (see `escapes`), control characters
/// and characters that reorder text (Unicode, bidirectional formatting) are left out.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let (mut length, mut space) = (0, false);
    let mut rest = text;
    while !rest.is_empty() {
        let (before, _, after) = split_sequence(rest);
        rest = after;
        for c in before.chars() {
            if c.is_whitespace() {
                space = !line.is_empty();
            } else if !c.is_control() && !is_reordering(c) {
                if length + usize::from(space) + 1 > max {
                    line.pop();
                    line.push('…');
                    return line;
                }
                if space {
                    line.push(' ');
                }
                line.push(c);
                length += 1 + usize::from(space);
                space = false;
            }
        }
    }
    line
}

fn is_reordering(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_safe_line() {
        for (text, line) in [
            ("plain", "plain"),
            ("  a\r\n\tb\u{2028}c \n", "a b c"),
            ("nul\0 bell\u{7}\u{85}", "nul bell"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}[1;38;5;9mbold", "red bold"),
            ("\u{9b}31mred", "31mred"),
            ("\u{1b}]0;no end", "0;no end"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://h\u{1b}\\link", "alink"),
            ("\u{1b}(Ba\u{1b}", "a"),
            ("user\u{202e}gpj.exe", "usergpj.exe"),
            ("ends in \u{1b}[31", "ends in"),
            ("ünï ✅", "ünï ✅"),
            ("", ""),
        ] {
            assert_eq!(one_line(text, 80), line, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        for (text, max, line) in [
            ("12345", 5, "12345"),
            ("123456", 5, "1234…"),
            ("1234 5", 5, "123…"),
            ("1234 ", 5, "1234"),
            ("✅✅✅", 2, "✅…"),
        ] {
            assert_eq!(one_line(text, max), line, "{text:?}");
            assert!(one_line(text, max).chars().count() <= max);
        }
    }
}
