//! ANSI escape sequences: colours and styles (SGR) are parsed, all other sequences are dropped.
//!
//! Each message begins in the default style: a page may begin with any message, and would show it in
//! another colour each time if the colours of the messages before it lasted.
//!
//! A carriage return stays a line break, which it is in an event stream: there the page cannot tell the
//! two apart. So a progress bar that was published as one message is shown with all its states.

use crate::escapes::split_sequence;

/// The styles: the codes that set them, and their classes in the style sheet.
const STYLES: [(u32, &str); 6] = [
    (1, " bold"),
    (2, " dim"),
    (3, " italic"),
    (UNDERLINE, " underline"),
    (7, " inverse"),
    (9, " strike"),
];
const UNDERLINE: u32 = 4;
/// The colours: the shifts of their numbers in a [`Style`], and the beginnings of their classes.
const COLOURS: [(u32, &str); 2] = [(FOREGROUND, " f"), (BACKGROUND, " b")];
const FOREGROUND: u32 = 16;
const BACKGROUND: u32 = 24;

/// The most numbers of a sequence; a longer one is ignored. Terminals have similar limits.
const MAX_NUMBERS: usize = 32;
/// Marks a number that belongs to the one before it, as in `4:3`.
const JOINED: u32 = 1 << 16;

/// The colours and styles of a piece of text: a bit for each code of [`STYLES`], and one more than the
/// number of each colour, or 0. A colour is one of the 16 of a terminal, and of the style sheet; 8 and
/// more are bright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style(u32);

/// A text without its escape sequences.
#[derive(Debug, Default)]
pub(super) struct Styled {
    /// The text.
    pub(super) text: String,
    /// From which byte of the text on it has which style.
    pub(super) changes: Vec<(usize, Style)>,
}

/// A text without its escape sequences. (In the wasm this is smaller than a loop of its own.)
pub(super) fn strip(text: &str) -> String {
    parse(text).text
}

/// Splits a text into its visible text and its styles.
pub(super) fn parse(text: &str) -> Styled {
    let mut styled = Styled::default();
    let mut style = Style::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (visible, sequence, after) = split_sequence(rest);
        styled.text.push_str(visible);
        rest = after;
        if let [_, b'[', parameters @ .., b'm'] = sequence.as_bytes() {
            style.apply(parameters);
            styled.changes.push((styled.text.len(), style));
        }
    }
    styled
}

impl Style {
    /// Applies the parameters of an SGR sequence, such as `1;38;5;208`.
    fn apply(&mut self, parameters: &[u8]) {
        let mut numbers = [0; MAX_NUMBERS];
        let mut count = 1;
        for &b in parameters {
            let digit = u32::from(b.wrapping_sub(b'0'));
            let Some(number) = numbers.get_mut(count - 1) else { return };
            match b {
                b'0'..=b'9' => {
                    *number = *number & JOINED | (*number * 10 + digit) & (JOINED - 1);
                }
                b';' | b':' => {
                    count += 1;
                    if b == b':'
                        && let Some(number) = numbers.get_mut(count - 1)
                    {
                        *number = JOINED;
                    }
                }
                // The sequence is of a private kind, and not about styles.
                _ => return,
            }
        }
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        let value = |at: usize| number(at) & (JOINED - 1);
        let mut at = 0;
        while at < count {
            let code = number(at);
            let (tens, unit) = (code / 10, code % 10);
            at += 1;
            match code {
                0 => self.0 = 0,
                4 if number(at) == JOINED => self.0 &= !(1 << UNDERLINE),
                1..=4 | 7 | 9 => self.0 |= 1 << code,
                21 => self.0 |= 1 << UNDERLINE,
                // Neither bold nor dim.
                22 => self.0 &= !0b110,
                23 | 24 | 27 | 29 => self.0 &= !(1 << unit),
                30..=49 | 58 | 90..=107 => {
                    let mut colour = unit + 1;
                    if tens >= 9 {
                        colour += 8;
                    } else if unit == 9 {
                        colour = 0;
                    } else if unit == 8 && value(at) == 5 {
                        colour = from_index(value(at + 1)) + 1;
                        at += 2;
                    } else if unit == 8 {
                        // `2;r;g;b`, `2:r:g:b` or `2:space:r:g:b`.
                        at += 1 + usize::from(number(at) == JOINED + 2 && number(at + 4) >= JOINED);
                        colour = nearest([value(at), value(at + 1), value(at + 2)]) + 1;
                        at += 3;
                    }
                    let shift = if tens == 4 || tens == 10 { BACKGROUND } else { FOREGROUND };
                    // The underline has a colour too, which is not shown.
                    if code != 58 && colour <= 16 {
                        self.0 = self.0 & !(31 << shift) | colour << shift;
                    }
                }
                _ => {}
            }
        }
    }

    /// Appends the classes of the style sheet for this style, each after a space.
    pub(super) fn push_classes(self, html: &mut String) {
        for (code, class) in STYLES {
            if self.0 >> code & 1 != 0 {
                html.push_str(class);
            }
        }
        for (shift, class) in COLOURS {
            if let Some(colour) = (self.0 >> shift & 31).checked_sub(1) {
                html.push_str(class);
                html.push(char::from(b"0123456789abcdef"[colour as usize % 16]));
            }
        }
    }
}

/// The nearest colour to one of the 256: the 16, a cube of 6 × 6 × 6, and 24 shades of grey.
fn from_index(index: u32) -> u32 {
    if index < 16 {
        return index;
    }
    let cube = index - 16;
    let level = |digit: u32| if digit == 0 { 0 } else { 55 + 40 * digit };
    if index < 232 {
        nearest([level(cube / 36), level(cube / 6 % 6), level(cube % 6)])
    } else {
        nearest([(index - 232) * 10 + 8; 3])
    }
}

/// The nearest colour to a true one: by hue where it has one, since the palette has few, and readable
/// ones.
fn nearest([r, g, b]: [u32; 3]) -> u32 {
    let (highest, lowest) = (r.max(g).max(b), r.min(g).min(b));
    if (highest - lowest) * 4 <= highest.max(32) {
        // Black, dark grey, light grey and white.
        return match highest {
            0..=63 => 0,
            64..=143 => 8,
            144..=223 => 7,
            _ => 15,
        };
    }
    let bit = |level, bit| if level * 2 > highest + lowest { bit } else { 0 };
    bit(r, 1) | bit(g, 2) | bit(b, 4) | bit(highest, if highest > 204 { 8 } else { 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::escapes;

    /// The text, with the classes of each piece in front of it.
    fn styled(text: &str) -> String {
        let Styled { text, changes } = parse(text);
        let mut result = String::new();
        let mut at = 0;
        for (from, style) in changes {
            result.push_str(&text[at..from]);
            result.push('<');
            style.push_classes(&mut result);
            result.push('>');
            at = from;
        }
        result + &text[at..]
    }

    #[test]
    fn styles_and_colours_are_parsed() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m plain", "< f1>red<> plain"),
            ("\x1b[1;3;4;9;91mall\x1b[m.", "< bold italic underline strike f9>all<>."),
            ("\x1b[1m\x1b[2ma\x1b[22mb", "< bold>< bold dim>a<>b"),
            ("\x1b[3;4;7;9ma\x1b[23;24;27;29mb", "< italic underline inverse strike>a<>b"),
            ("\x1b[41;97mFAIL\x1b[49m \x1b[39m", "< ff b1>FAIL< ff> <>"),
            ("\x1b[107;30ma", "< f0 bf>a"),
            ("\x1b[21ma\x1b[4:0mb\x1b[4:3mc\x1b[4md", "< underline>a<>b< underline>c< underline>d"),
            // blinking, hidden, a font, a frame
            ("\x1b[5;8;10;51ma", "<>a"),
            ("\x1b[;1ma", "< bold>a"),
            ("\x1b[1;ma", "<>a"),
        ] {
            assert_eq!(styled(text), expected, "{text:?}");
        }
    }

    #[test]
    fn many_colours_become_those_of_the_palette() {
        for (parameters, expected) in [
            ("38;5;9", " f9"),
            ("38;5;208;1", " bold fb"),
            ("38;5;196", " f9"),
            ("38;5;22", " f2"),
            ("38;5;232", " f0"),
            ("38;5;240", " f8"),
            ("38;5;255", " ff"),
            ("48;5;17", " b4"),
            ("38;5", " f0"),
            ("38;5;300", " ff"),
            ("38;2;255;0;0", " f9"),
            ("38;2;139;0;0;4", " underline f1"),
            ("38;2;0;128;128", " f6"),
            ("38;2;200;200;200", " f7"),
            ("48;2;1;2;3", " b0"),
            ("38:5:9;1", " bold f9"),
            ("38:2:255:0:0;1", " bold f9"),
            ("38:2::255:0:0;1", " bold f9"),
            ("38:2:1:255:0:0;1", " bold f9"),
            // the colour of the underline
            ("58;5;9;1", " bold"),
            ("58;2;255;0;0;1", " bold"),
        ] {
            let mut classes = String::new();
            let mut style = Style::default();
            style.apply(parameters.as_bytes());
            style.push_classes(&mut classes);
            assert_eq!(classes, expected, "{parameters}");
        }
    }

    /// A regular expression for texts with parts of escape sequences.
    const TEXTS: &str = "(\u{1b}|\u{1b}\\[|[\\[\\]P;:?0-9mKé<&\"h \u{7}\\\\\n]|\\PC){0,40}";

    proptest! {
        /// Bytes are dropped, and never changed or added; what is left has no ESC.
        #[test]
        fn the_visible_text_is_the_text_without_its_sequences(text in TEXTS) {
            let Styled { text: visible, changes } = parse(&text);
            prop_assert!(!visible.contains('\x1b'));
            let mut rest = text.chars();
            prop_assert!(visible.chars().all(|c| rest.any(|other| other == c)));
            prop_assert!(changes.is_sorted_by_key(|(at, _)| *at));
            prop_assert!(changes.iter().all(|(at, _)| visible.is_char_boundary(*at)));
            prop_assert_eq!(escapes::strip(&text), visible.as_str());
            prop_assert_eq!(strip(&visible), visible);
        }
    }
}
