//! Text that others wrote, as one line: a title, or a field of a webhook.

/// The text as one line of at most `max` characters, the last of which is `…` if it was cut. Line breaks
/// and other white space become single spaces; control characters, terminal escape sequences (ECMA-48)
/// and characters that reorder text (Unicode, bidirectional formatting) are left out.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let (mut length, mut space) = (0, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            _ if c.is_whitespace() => space = !line.is_empty(),
            _ if c.is_control() || is_reordering(c) => {}
            _ => {
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

/// Skips the rest of an escape sequence.
fn skip_escape(chars: &mut impl Iterator<Item = char>) {
    match chars.next() {
        Some('[') => skip_control_sequence(chars),
        // A string, such as the title of a terminal or the address of a link, ends with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut escaped = false;
            for c in chars {
                if c == '\u{7}' || c == '\u{9c}' || escaped && c == '\\' {
                    return;
                }
                escaped = c == '\u{1b}';
            }
        }
        // Designates a character set, which one more character names.
        Some('(' | ')' | '*' | '+') => drop(chars.next()),
        _ => {}
    }
}

/// Skips the parameters of a control sequence, and its last character.
fn skip_control_sequence(chars: &mut impl Iterator<Item = char>) {
    chars.find(|c| ('@'..='~').contains(c));
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
            ("\u{9b}31mred", "red"),
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
