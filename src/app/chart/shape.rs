//! Parsing numbers in texts: a text becomes a template without its numbers, and a list of the numbers.
//!
//! To keep the wasm small, characters are matched instead of searched for in strings, and most vectors
//! are filled in loops: iterator chains add two kilobytes.

/// Longer texts, in bytes, are not parsed, because all shapes are computed again in every frame.
const MAX_TEXT_BYTES: usize = 256;
/// The placeholder for a number in a template. A digit, because a template keeps no digit of its text:
/// no message can forge it.
const NUMBER: char = '1';
/// The placeholder for digits that are not a number.
const OTHER_DIGITS: char = '0';
/// The no-break spaces that may separate groups of digits are all normalized to this one.
const NO_BREAK_SPACE: char = '\u{a0}';

/// The template of a text, and its numbers.
#[derive(Default)]
pub(super) struct Shape {
    /// The text with [`NUMBER`] in place of each number; units are kept, signs are not. Other digits are
    /// replaced too, so that lines which differ only in their time have the same template.
    template: Vec<char>,
    /// The numbers in thousandths, one per [`NUMBER`] in the template.
    pub(super) numbers: Vec<i64>,
}

/// The shape of a text; empty for a text of more than [`MAX_TEXT_BYTES`].
pub(super) fn shape(text: &str) -> Shape {
    let mut shape = Shape::default();
    if text.len() > MAX_TEXT_BYTES {
        return shape;
    }
    let mut normalized = Vec::new();
    for c in text.chars() {
        normalized.push(normalize(c));
    }
    let mut text = &normalized[..];
    // Like `trim`, without the Unicode tables of white space.
    while let ['\0'..=' ', rest @ ..] | [rest @ .., '\0'..=' '] = text {
        text = rest;
    }
    // Whether the run is inside a URL such as `https://example.com/?page=2`.
    let mut in_url = false;
    for run in text.chunk_by(|&previous, &next| in_same_run(previous, next)) {
        in_url &= !run.iter().any(|c| matches!(c, ' ' | '\n' | '"'));
        in_url |= run.windows(2).any(|pair| pair == ['/', '/']);
        match parse_number(run) {
            Some(number) if !in_url => shape.push_number(run, &number),
            _ => shape.push_other(run),
        }
    }
    shape
}

/// Replaces a character by the one that means the same in a number: thin spaces and the minus sign.
fn normalize(c: char) -> char {
    match c {
        '\u{202f}' => NO_BREAK_SPACE,
        '\u{2212}' => '-',
        _ => c,
    }
}

/// Whether two adjacent characters belong to the same run. A run may be one number or one word, such as
/// `12:00:01`, `ci-7` or `-$1,234.5`, or the text between two of these.
fn in_same_run(previous: char, next: char) -> bool {
    // Searching for the character in a string would add more to the wasm than the rest of this module.
    let in_word = |c| {
        matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '#' | '\'' | '+'..='/' | ':' | '_')
            || is_currency(c)
    };
    if previous == NO_BREAK_SPACE || next == NO_BREAK_SPACE {
        previous.is_ascii_digit() || next.is_ascii_digit()
    } else {
        in_word(previous) == in_word(next)
    }
}

fn is_currency(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥')
}

/// Whether a character may come directly before or after a number.
fn is_punctuation(c: char) -> bool {
    matches!(c, '.' | ',' | ':' | '\'' | NO_BREAK_SPACE)
}

/// Whether a character may come between the digits of a number.
fn is_separator(c: char) -> bool {
    matches!(c, '.' | ',' | '_' | '\'' | NO_BREAK_SPACE)
}

impl Shape {
    pub(super) fn has_same_template(&self, other: &Self) -> bool {
        self.template == other.template
    }

    fn push_number(&mut self, run: &[char], number: &Number) {
        for &c in &run[..number.start] {
            if !matches!(c, '-' | '+') {
                self.template.push(c);
            }
        }
        self.template.push(NUMBER);
        for &c in &run[number.end..] {
            self.template.push(c);
        }
        self.numbers.push(number.thousandths);
    }

    fn push_other(&mut self, run: &[char]) {
        for &c in run {
            if !c.is_ascii_digit() {
                self.template.push(c);
            } else if self.template.last() != Some(&OTHER_DIGITS) {
                self.template.push(OTHER_DIGITS);
            }
        }
    }

    /// Whether the text is plain data: a quantity such as `21.5 °C`, `key=5` or `{"key":5}`.
    pub(super) fn is_data(&self) -> bool {
        let json = matches!(self.template[..], ['{', .., '}']);
        let is_value = |at| match self.template[..at] {
            [.., '"', ':'] | [.., '"', ':', ' '] => json,
            [.., key, '='] => key.is_ascii_alphanumeric() || key == '_' || !key.is_ascii(),
            _ => false,
        };
        self.is_quantity()
            || (0..self.template.len()).any(|at| self.template[at] == NUMBER && is_value(at))
    }

    /// Whether the text is one number, optionally with a currency or a short unit.
    fn is_quantity(&self) -> bool {
        let unit = match &self.template[..] {
            [NUMBER, unit @ ..] => unit,
            [currency, NUMBER, unit @ ..] if is_currency(*currency) => unit,
            _ => return false,
        };
        // A space and up to four letters.
        unit.len() <= 5 && !unit.iter().any(char::is_ascii_digit)
    }
}

/// A number in a run.
struct Number {
    thousandths: i64,
    /// The index of its first digit, after the sign and the currency.
    start: usize,
    /// The index after its last digit, where the unit or other characters follow.
    end: usize,
}

/// Parses a run as a number, as in `21.5`, `temp:-3,`, `1,234.5` or `2.5E-2kB`. `None` if it is a time,
/// a version, a name or similar, or too large.
fn parse_number(run: &[char]) -> Option<Number> {
    let first_digit = run.iter().position(char::is_ascii_digit)?;
    let label = run[..first_digit].iter().rposition(|&c| is_punctuation(c) && c != '.');
    let signed = &run[label.map_or(0, |at| at + 1)..];
    let (negative, rest) = match signed {
        ['-', rest @ ..] => (true, rest),
        ['+', rest @ ..] | rest => (false, rest),
    };
    let rest = match rest {
        [currency, rest @ ..] if is_currency(*currency) => rest,
        _ => rest,
    };
    let start = run.len() - rest.len();
    let length = rest.iter().take_while(|&&c| c.is_ascii_digit() || is_separator(c)).count();
    let last_digit = rest[..length].iter().rposition(char::is_ascii_digit)?;
    let (mantissa, rest) = rest.split_at(last_digit + 1);
    let (exponent, rest) = exponent(rest);
    if !begins_with_unit(rest) {
        return None;
    }
    let thousandths = thousandths(mantissa, exponent)?;
    Some(Number {
        thousandths: if negative { -thousandths } else { thousandths },
        start,
        end: run.len() - rest.len(),
    })
}

/// Whether a text is a unit, such as `ms` or `MB/s`, or empty, before punctuation.
fn begins_with_unit(text: &[char]) -> bool {
    let in_unit = |c: char| c.is_ascii_alphabetic() || c == '/' || is_currency(c);
    let (unit, rest) = text.split_at(text.iter().take_while(|&&c| in_unit(c)).count());
    unit.iter().filter(|&&c| c != '/').count() <= 4 && rest.iter().all(|&c| is_punctuation(c))
}

/// Parses the exponent at the beginning of a text, 0 without one; returns it and the rest.
fn exponent(text: &[char]) -> (i64, &[char]) {
    let (sign, mut rest) = match text {
        ['e' | 'E', '-', rest @ ..] => (-1, rest),
        ['e' | 'E', '+', rest @ ..] | ['e' | 'E', rest @ ..] => (1, rest),
        _ => return (0, text),
    };
    if !rest.first().is_some_and(char::is_ascii_digit) {
        return (0, text);
    }
    let mut exponent = 0;
    while let [digit @ '0'..='9', after @ ..] = rest {
        // Clamped: no number that fits is as large as 1e99, or as small as 1e-99 and not 0.
        exponent = (exponent * 10 + digit_value(*digit)).min(99);
        rest = after;
    }
    (sign * exponent, rest)
}

fn digit_value(digit: char) -> i64 {
    i64::from(u32::from(digit) - u32::from('0'))
}

/// The value of digits in thousandths. They may be grouped and have decimals; those after the third
/// are dropped. `None` if it is malformed or too large.
///
/// A single comma separates groups if they have three digits, as in `1,234`, and decimals otherwise. A
/// single point always separates decimals.
fn thousandths(mantissa: &[char], exponent: i64) -> Option<i64> {
    let point = mantissa.iter().rposition(|c| matches!(c, '.' | ','));
    let point = point.filter(|&at| mantissa[at] == '.' || !is_grouped(mantissa, ','));
    let (whole, fraction) = mantissa.split_at(point.unwrap_or(mantissa.len()));
    if let Some(separator) = whole.iter().find(|c| !c.is_ascii_digit())
        && (fraction.first() == Some(separator) || !is_grouped(whole, *separator))
    {
        return None;
    }
    if !fraction.iter().skip(1).all(char::is_ascii_digit) {
        return None;
    }
    let mut places = 3 + exponent;
    for c in whole {
        places += i64::from(c.is_ascii_digit());
    }
    let mut digits = mantissa.iter().filter(|c| c.is_ascii_digit());
    let mut thousandths = 0_i64;
    for _ in 0..places {
        let digit = digits.next().map_or(0, |&digit| digit_value(digit));
        thousandths = thousandths.checked_mul(10)?.checked_add(digit)?;
    }
    Some(thousandths)
}

/// Whether a text is an integer with digits in groups of three, such as `1,234,567`.
fn is_grouped(text: &[char], separator: char) -> bool {
    let is_expected = |(from_end, &c): (usize, &char)| {
        if from_end % 4 == 3 { c == separator } else { c.is_ascii_digit() }
    };
    matches!(text, ['1'..='9', ..]) && text.iter().rev().enumerate().all(is_expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number_of(run: &str) -> Option<i64> {
        let run: Vec<_> = run.chars().map(normalize).collect();
        parse_number(&run).map(|number| number.thousandths)
    }

    #[test]
    fn numbers_are_recognized() {
        for (run, expected) in [
            ("0", 0),
            ("7", 7_000),
            ("007", 7_000),
            ("42.25", 42_250),
            (".5", 500),
            ("-.5", -500),
            ("-3.5", -3_500),
            ("\u{2212}3.5", -3_500),
            ("+7", 7_000),
            ("1.23456", 1_234),
            ("-0.0009", 0),
            // groups
            ("1,234", 1_234_000),
            ("1,234,567.5", 1_234_567_500),
            ("1.234,56", 1_234_560),
            ("1.234.567,5", 1_234_567_500),
            ("1.234,567", 1_234_567),
            ("1_000", 1_000_000),
            ("1_000_000.25", 1_000_000_250),
            ("1'000", 1_000_000),
            ("1\u{a0}234\u{a0}567,5", 1_234_567_500),
            ("1\u{202f}000", 1_000_000),
            // a decimal comma
            ("1,5", 1_500),
            ("1,50", 1_500),
            ("1,2345", 1_234),
            ("0,125", 125),
            ("1234,567", 1_234_567),
            // a single point is a decimal point
            ("1.234", 1_234),
            // exponents
            ("1e3", 1_000_000),
            ("2.5E-2", 25),
            ("0.05e+1", 500),
            ("5e-10", 0),
            ("0e99", 0),
            // units
            ("5ms", 5_000),
            ("3kB", 3_000),
            ("1e3ms", 1_000_000),
            ("5eV", 5_000),
            ("5e", 5_000),
            ("-2.5MB/s", -2_500),
            ("12/s", 12_000),
            ("3MiB/s", 3_000),
            ("$5", 5_000),
            ("-$1,234.5", -1_234_500),
            ("5€", 5_000),
            // labels and punctuation
            ("temp:21.5", 21_500),
            ("temp:-21.5", -21_500),
            (":.5,", 500),
            ("up,5", 5_000),
            ("a/b:5", 5_000),
            ("'5'.", 5_000),
            // the largest
            ("9223372036854775.807", i64::MAX),
            ("-9223372036854775.807", -i64::MAX),
        ] {
            assert_eq!(number_of(run), Some(expected), "{run:?}");
        }
    }

    #[test]
    fn times_versions_and_names_are_not_numbers() {
        for run in [
            "",
            ".",
            "-",
            "e5",
            "-e5",
            "٣",
            // times, dates and versions
            "12:00",
            "12:00:01",
            "12:00:01.250",
            "12:00:01,250",
            "+02:00",
            "2026-11-26",
            "2026-11-26T12:00:00Z",
            "26.11.2026",
            "26/11/2026",
            "1m30s",
            "v1",
            "v1.2",
            "1.2.3",
            "1.2.3-beta",
            // addresses and names
            "10.0.0.1",
            "192.168.100.200",
            "10.0.0.1:80",
            "ci-7",
            "#42",
            "a1b2c3",
            "x86",
            "cpu0",
            "12services",
            "0x1F",
            // more than one
            "42/100",
            "1,2,3",
            "1,234,56",
            "12,34,567",
            "20.5,101.3",
            "1_2",
            "1'2",
            "12\u{a0}5",
            "1_000'000",
            "0,123,456",
            "1,,2",
            "5-10",
            "5+3",
            "--5",
            "5-",
            // too large
            "9223372036854775.808",
            "9223372036854775807",
            "99999999999999999999",
            "1e16",
            "1e999",
        ] {
            assert_eq!(number_of(run), None, "{run:?}");
        }
    }

    #[test]
    fn texts_have_templates_and_numbers() {
        for (text, template, numbers) in [
            ("", "", &[][..]),
            ("no number", "no number", &[]),
            ("Counter value 7", "Counter value 1", &[7_000]),
            ("built in 42.25 s.", "built in 1 s.", &[42_250]),
            ("took 5ms, or 1,234.5 kB", "took 1ms, or 1 kB", &[5_000, 1_234_500]),
            ("(-3) <+4>", "(1) <1>", &[-3_000, 4_000]),
            ("at 21.5°C, 温度21度", "at 1°C, 温度1度", &[21_500, 21_000]),
            ("42 % of 80%", "1 % of 1%", &[42_000, 80_000]),
            ("temp:21.5", "temp:1", &[21_500]),
            (".5 and\u{a0}5\u{a0}000\u{a0}m", "1 and\u{a0}1\u{a0}m", &[500, 5_000_000]),
            ("$1,234.50", "$1", &[1_234_500]),
            ("€5 or 5 €", "€1 or 1 €", &[5_000, 5_000]),
            ("-$5, \u{2212}€6", "$1, €1", &[-5_000, -6_000]),
            ("a-$5 -#6", "a-$0 -#0", &[]),
            ("12:00:01 queue=5", "0:0:0 queue=1", &[5_000]),
            ("2026-11-26T12:00:00Z v1.2 ok", "0-0-0T0:0:0Z v0.0 ok", &[]),
            ("ci-7 #42 a1b2c3 x86 42/100", "ci-0 #0 a0b0c0 x0 0/0", &[]),
            ("see https://a.b/?page=2&n=3 5", "see https://a.b/?page=0&n=0 1", &[5_000]),
            (
                r#"{"url":"http://a?b=2","temp":21.5,"hum":-40}"#,
                r#"{"url":"http://a?b=0","temp":1,"hum":1}"#,
                &[21_500, -40_000],
            ),
            ("1 99999999999999999999", "1 0", &[1_000]),
            ("٣", "٣", &[]),
        ] {
            let shape = shape(text);
            assert_eq!(String::from_iter(shape.template), template, "{text:?}");
            assert_eq!(shape.numbers, numbers, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_not_parsed() {
        let longest = format!("{:>MAX_TEXT_BYTES$}", 5);
        assert_eq!(shape(&longest).numbers, [5_000]);
        assert_eq!(shape(&format!(" {longest}")).numbers, [] as [i64; 0]);
    }

    proptest! {
        #[test]
        fn a_template_has_a_placeholder_for_each_number(text in "(\\PC|[0-9.,:' eE$/=\u{a0}-]){0,40}") {
            let Shape { template, numbers } = shape(&text);
            prop_assert_eq!(template.iter().filter(|&&c| c == NUMBER).count(), numbers.len());
            prop_assert!(template.iter().all(|c| !('2'..='9').contains(c)));
        }
    }
}
