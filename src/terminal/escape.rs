//! Messages on a terminal: colours and styles stay, everything else that a terminal would obey goes.
//!
//! A message comes from somebody else. Its escape sequences could move the cursor over what was printed
//! before, set the title, fill the clipboard, or make the terminal answer as if the user had typed
//! (OSC, DCS, CSI other than SGR, C1 controls). SGR (`ESC [ … m`) only changes how text looks, and is
//! what logs are coloured with.

use tidings::escapes::split_sequence;

/// The text of a message for a terminal: with SGR sequences, line breaks and tabs, without other control
/// characters and sequences. A style ends with the message.
pub(super) fn for_terminal(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    let mut is_styled = false;
    while !rest.is_empty() {
        let (before, sequence, after) = split_sequence(rest);
        shown.extend(before.chars().filter(|&c| matches!(c, '\n' | '\t') || is_harmless(c)));
        if is_style(sequence) {
            shown.push_str(sequence);
            is_styled = true;
        }
        rest = after;
    }
    if is_styled {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// A text on one line, without any control character.
pub(super) fn single_line(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { ' ' }).collect()
}

/// Whether a sequence is SGR (Select Graphic Rendition; ECMA-48, section 8.3.117).
fn is_style(sequence: &str) -> bool {
    let parameters = sequence.strip_prefix("\x1b[").and_then(|rest| rest.strip_suffix('m'));
    parameters.is_some_and(|text| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b';' | b':')))
}

/// Whether a character only shows itself. Control characters do not (C0, DEL and C1), nor those that change
/// the order of the text around them, with which a text can look like another one (bidirectional formatting,
/// Unicode Standard Annex #9).
fn is_harmless(c: char) -> bool {
    !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_styles_reach_the_terminal() {
        for (text, shown) in [
            ("plain ✅\nsecond\tline", "plain ✅\nsecond\tline"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
            ("\x1b[1;38;2;1;2;3mbold", "\x1b[1;38;2;1;2;3mbold\x1b[0m"),
            ("\x1b[4:3mcurly", "\x1b[4:3mcurly\x1b[0m"),
            ("up\x1b[2Aup", "upup"),
            ("\x1b[2J\x1b[Hclear", "clear"),
            ("\x1b]0;title\x07x\x1b]52;c;Zm9v\x1b\\y", "xy"),
            ("\x1bP$q\"p\x1b\\dcs", "dcs"),
            ("\x1b[?25lhidden\x1b[>4;1mkeys", "hiddenkeys"),
            ("\u{9b}31mc1", "31mc1"),
            ("bell\x07 back\x08\x7f nul\0 cr\rover", "bell back nul crover"),
            ("\x1bcreset", "reset"),
            ("\x1b]0;no end", "0;no end"),
            ("a\x1bPno end\nnext\x1b[31mred", "ano end\nnext\x1b[31mred\x1b[0m"),
            ("\x1b\x1b]x\x07]0;shown", "]0;shown"),
            ("user\u{202e}gpj.exe\u{2066}", "usergpj.exe"),
            ("ends in \x1b[3", "ends in "),
        ] {
            assert_eq!(for_terminal(text), shown, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_other_control_character_is_left(text in "[\\x1b\\[\\]m0-9;:?A-C\\x07\\\\\u{9b}é\n ]{0,40}|.*") {
            let shown = for_terminal(&text);
            for (at, c) in shown.char_indices().filter(|(_, c)| c.is_control()) {
                let rest = &shown[at..];
                let is_style = rest.strip_prefix("\x1b[").is_some_and(|rest| {
                    rest.trim_start_matches(|c: char| c.is_ascii_digit() || ";:".contains(c)).starts_with('m')
                });
                prop_assert!(is_style || "\n\t".contains(c), "{shown:?}");
            }
        }
    }
}
