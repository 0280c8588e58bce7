//! Messages on a terminal: colours and styles stay, everything else that a terminal would obey goes.
//!
//! A message comes from somebody else. Its escape sequences could move the cursor over what was printed
//! before, set the title, fill the clipboard, or make the terminal answer as if the user had typed
//! (OSC, DCS, CSI other than SGR, C1 controls). SGR (`ESC [ … m`) only changes how text looks, and is
//! what logs are coloured with.

use std::fmt::Write as _;

use anstyle_parse::{Params, Parser, Perform};

/// The text of a message for a terminal: with SGR sequences, line breaks and tabs, without other control
/// characters and sequences. A style ends with the message.
pub(super) fn for_terminal(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let mut filter = Filter::default();
    let mut parser = Parser::<anstyle_parse::Utf8Parser>::new();
    for byte in text.bytes() {
        parser.advance(&mut filter, byte);
    }
    if filter.is_styled {
        filter.text.push_str("\x1b[0m");
    }
    filter.text
}

/// A text on one line, without any control character.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Default)]
struct Filter {
    text: String,
    is_styled: bool,
}

impl Perform for Filter {
    fn print(&mut self, c: char) {
        // C1 controls (U+0080 to U+009F) and DEL are among them.
        if !c.is_control() {
            self.text.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\t') {
            self.text.push(char::from(byte));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        self.is_styled = true;
        self.text.push_str("\x1b[");
        for (index, param) in params.iter().enumerate() {
            if index > 0 {
                self.text.push(';');
            }
            for (index, subparam) in param.iter().enumerate() {
                let separator = if index > 0 { ":" } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(self.text, "{separator}{subparam}");
            }
        }
        self.text.push('m');
    }
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
