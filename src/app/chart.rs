//! Chart: a sparkline of the number that the newest messages share.
//!
//! Texts are compared by their shape, the text without its numbers: "built in 42 s" and "built in
//! 43 s" are alike, and 42 and 43 make a line. Times, versions, addresses and the like have digits
//! and are no numbers: they are never drawn.
//!
//! Numbers are read and written as thousandths, whole: the code that reads and writes floats would
//! weigh ten kilobytes in the wasm. For its weight, too, characters are matched, not searched for in
//! texts, and most vectors are filled in loops: as chains of iterators they weigh two kilobytes more.

use leptos::prelude::*;

use super::{content::content, text};
use crate::feed::Feed;

/// How many messages are looked at, and so how many numbers are drawn at most.
const POINTS: usize = 60;
/// The bytes of the longest text whose numbers are read: shapes are made anew in every frame.
const LONGEST: usize = 256;
/// A chart that is not full yet leaves this much room, so that the first few points do not jump.
const ROOM: usize = 20;
/// The size of the drawing; the view box leaves 6 around it for the line's width.
const WIDTH: usize = 600;
const HEIGHT: usize = 96;
/// What a unit of a number is counted in.
const UNIT: i64 = 1000;
/// The placeholder for a number in a template. It is a digit because no digit of the text itself is
/// left there: no message can forge it.
const NUMBER: char = '1';
/// The placeholder for digits that are not a number.
const OTHER_DIGITS: char = '0';
/// The spaces that may stand between the digits of one number are all read as this one.
const NO_BREAK_SPACE: char = '\u{a0}';

/// The numbers of the newest messages, oldest first, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(Vec<i64>);

impl Series {
    /// The numbers that differ between the newest messages of one shape.
    ///
    /// The shape is that of the newest message which has numbers and is like at least half of the
    /// newest messages. A number in a sentence is no series yet: a second message of the same shape
    /// has to say so, unless the text is plain data or `alone` says that one message is enough.
    pub fn of(feed: &Feed, alone: bool) -> Self {
        let mut shapes = Vec::new();
        for message in feed.rows().rev().filter_map(|row| row.content.message()).take(POINTS) {
            shapes.push(shape(&message.data));
        }
        let alike = |shape| shapes.iter().rev().filter(move |other| other.is_like(shape));
        let drawn = shapes.iter().find(|shape| {
            let count = alike(shape).count();
            !shape.numbers.is_empty()
                && count * 2 >= shapes.len()
                && (count > 1 || alone || shape.is_data())
        });
        let Some(drawn) = drawn else { return Self::default() };
        let differs =
            |&at: &usize| alike(drawn).any(|shape| shape.numbers[at] != drawn.numbers[at]);
        let at = (0..drawn.numbers.len()).find(differs).unwrap_or_default();
        let mut numbers = Vec::new();
        for shape in alike(drawn) {
            numbers.push(shape.numbers[at]);
        }
        Self(numbers)
    }

    fn lowest(&self) -> i64 {
        self.0.iter().copied().min().unwrap_or_default()
    }

    fn highest(&self) -> i64 {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// The points as SVG wants them, `x,y x,y`, y downwards.
    fn points(&self) -> String {
        let mut points = String::new();
        for column in 0..self.0.len() {
            if column > 0 {
                points.push(' ');
            }
            points.push_str(&self.point(column));
        }
        points
    }

    fn point(&self, column: usize) -> String {
        let columns = self.0.len().max(ROOM) - 1;
        let (lowest, highest) = (self.lowest(), self.highest());
        let x = column * WIDTH / columns;
        let y = HEIGHT - share_of_height(self.0[column].abs_diff(lowest), highest.abs_diff(lowest));
        format!("{x},{y}")
    }

    /// The newest point, twice: a line of no length is drawn as a round dot.
    fn newest_point(&self) -> String {
        let Some(last) = self.0.len().checked_sub(1) else { return String::new() };
        let point = self.point(last);
        format!("{point} {point}")
    }

    fn newest(&self) -> String {
        self.0.last().map(|&number| decimal(number)).unwrap_or_default()
    }

    fn description(&self) -> String {
        let (lowest, highest) = (decimal(self.lowest()), decimal(self.highest()));
        format!("Chart of the newest numbers, from {lowest} to {highest}; now {}", self.newest())
    }
}

fn share_of_height(part: u64, whole: u64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a pixel of a hundred, from 0 on"
    )]
    let share = (part as f64 / whole.max(1) as f64 * HEIGHT as f64) as usize;
    share
}

/// A text and its numbers, each by itself.
#[derive(Default)]
struct Shape {
    /// The text, with [`NUMBER`] in the place of each number; units are kept, signs are not. Other
    /// digits are gone too, so that lines which differ only in their time have the same template.
    template: Vec<char>,
    /// As many as the template has places for, in thousandths.
    numbers: Vec<i64>,
}

/// The shape of a text; that of a long text is empty.
fn shape(text: &str) -> Shape {
    let mut shape = Shape::default();
    if text.len() > LONGEST {
        return shape;
    }
    let mut plain_text = Vec::new();
    for c in text.chars() {
        plain_text.push(plain(c));
    }
    let mut text = &plain_text[..];
    // As `trim` does, without the tables of all white space there is.
    while let ['\0'..=' ', rest @ ..] | [rest @ .., '\0'..=' '] = text {
        text = rest;
    }
    // Whether this is the inside of an address such as `https://example.com/?page=2`.
    let mut address = false;
    for run in text.chunk_by(|&one, &next| belong_together(one, next)) {
        address &= !run.iter().any(|c| matches!(c, ' ' | '\n' | '"'));
        address |= run.windows(2).any(|two| two == ['/', '/']);
        match number(run) {
            Some(number) if !address => shape.push(run, &number),
            _ => shape.push_other(run),
        }
    }
    shape
}

/// A character, or the one that means the same in a number.
fn plain(c: char) -> char {
    match c {
        '\u{202f}' => NO_BREAK_SPACE,
        '\u{2212}' => '-',
        _ => c,
    }
}

/// Whether two neighbours belong to one run. A run is what may be one number or one word, such as
/// `12:00:01`, `ci-7` or `-$1,234.5`, or it is what stands between two of these.
fn belong_together(one: char, next: char) -> bool {
    // A search in a text of all of them would weigh more than everything else here.
    let in_word = |c| {
        matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '#' | '\'' | '+'..='/' | ':' | '_')
            || is_currency(c)
    };
    if one == NO_BREAK_SPACE || next == NO_BREAK_SPACE {
        one.is_ascii_digit() || next.is_ascii_digit()
    } else {
        in_word(one) == in_word(next)
    }
}

fn is_currency(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥')
}

/// Whether a character may stand around a number.
fn is_punctuation(c: char) -> bool {
    matches!(c, '.' | ',' | ':' | '\'' | NO_BREAK_SPACE)
}

/// Whether a character may stand between the digits of a number.
fn is_separator(c: char) -> bool {
    matches!(c, '.' | ',' | '_' | '\'' | NO_BREAK_SPACE)
}

impl Shape {
    fn is_like(&self, other: &Self) -> bool {
        self.template == other.template
    }

    fn push(&mut self, run: &[char], number: &Number) {
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

    /// Whether the text is data by itself: a quantity such as `21.5 °C`, `key=5` or `{"key":5}`.
    fn is_data(&self) -> bool {
        let json = matches!(self.template[..], ['{', .., '}']);
        let is_value = |at| match self.template[..at] {
            [.., '"', ':'] | [.., '"', ':', ' '] => json,
            [.., key, '='] => key.is_ascii_alphanumeric() || key == '_' || !key.is_ascii(),
            _ => false,
        };
        self.is_quantity()
            || (0..self.template.len()).any(|at| self.template[at] == NUMBER && is_value(at))
    }

    /// Whether the text is one number, with a currency or a short unit or without.
    fn is_quantity(&self) -> bool {
        let unit = match &self.template[..] {
            [NUMBER, unit @ ..] => unit,
            [currency, NUMBER, unit @ ..] if is_currency(*currency) => unit,
            _ => return false,
        };
        // A space and four letters.
        unit.len() <= 5 && !unit.iter().any(char::is_ascii_digit)
    }
}

/// A number in a run.
struct Number {
    thousandths: i64,
    /// Where its digits begin, after the sign and the currency.
    start: usize,
    /// Where its digits end, and the unit or what else follows begins.
    end: usize,
}

/// The number that a run is, as in `21.5`, `temp:-3,`, `1,234.5` or `2.5E-2kB`; or `None`, where it
/// is a time, a version, a name or the like, or too large.
fn number(run: &[char]) -> Option<Number> {
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

/// Whether a text is a unit, such as `ms` or `MB/s`, or nothing, before punctuation.
fn begins_with_unit(text: &[char]) -> bool {
    let in_unit = |c: char| c.is_ascii_alphabetic() || c == '/' || is_currency(c);
    let (unit, rest) = text.split_at(text.iter().take_while(|&&c| in_unit(c)).count());
    unit.iter().filter(|&&c| c != '/').count() <= 4 && rest.iter().all(|&c| is_punctuation(c))
}

/// The exponent at the beginning of a text, 0 without one, and what follows it.
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
        // No number here is as large as 1e99, or as small as 1e-99 and not 0.
        exponent = (exponent * 10 + value(*digit)).min(99);
        rest = after;
    }
    (sign * exponent, rest)
}

fn value(digit: char) -> i64 {
    i64::from(u32::from(digit) - u32::from('0'))
}

/// The value of digits that may be grouped and may have decimals; digits beyond the third decimal
/// are dropped.
///
/// One comma may group, or begin the decimals: it groups where three digits follow, as in `1,234`.
/// One point always begins the decimals.
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
        let digit = digits.next().map_or(0, |&digit| value(digit));
        thousandths = thousandths.checked_mul(10)?.checked_add(digit)?;
    }
    Some(thousandths)
}

/// Whether a text is a whole number whose digits stand in groups of three, such as `1,234,567`.
fn is_grouped(text: &[char], separator: char) -> bool {
    let fits = |(from_end, &c): (usize, &char)| {
        if from_end % 4 == 3 { c == separator } else { c.is_ascii_digit() }
    };
    matches!(text, ['1'..='9', ..]) && text.iter().rev().enumerate().all(fits)
}

fn decimal(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "−" } else { "" };
    let (whole, fraction) = (thousandths.abs() / UNIT, thousandths.abs() % UNIT);
    let text = format!("{sign}{whole}.{fraction:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The chart, where the newest messages share a number.
#[component]
pub fn Chart(
    /// What the page knows.
    feed: RwSignal<Feed>,
    /// Whether one message is enough to draw.
    alone: bool,
) -> impl IntoView {
    let series = Memo::new(move |_| Series::of(&feed.read(), alone));
    let empty = Signal::derive(move || series.read().0.is_empty());
    let range = content(move || {
        let series = series.read();
        format!("{} to {}", decimal(series.lowest()), decimal(series.highest()))
    });

    view! {
        <figure class="chart" hidden=empty>
            <figcaption>
                <strong inner_html=content(move || series.read().newest())></strong>
                <span inner_html=range></span>
            </figcaption>
            <svg
                role="img"
                aria-label=text(move || series.read().description())
                viewBox="-6 -6 612 108"
                preserveAspectRatio="none"
            >
                <polyline class="line" points=text(move || series.read().points()) />
                <polyline class="dot" points=text(move || series.read().newest_point()) />
            </svg>
        </figure>
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        feed::Event,
        message::{EventId, Message},
    };

    const NONE: [i64; 0] = [];

    fn series(texts: &[&str]) -> Vec<i64> {
        drawn(texts, false)
    }

    fn drawn(texts: &[&str], alone: bool) -> Vec<i64> {
        let mut feed = Feed::default();
        for (seq, &text) in (1..).zip(texts) {
            let id = EventId { millis: 1_763_891_234_567, seq };
            feed.apply(Event::Message(Message { id, data: text.to_owned() }));
        }
        Series::of(&feed, alone).0
    }

    fn number_of(run: &str) -> Option<i64> {
        let run: Vec<_> = run.chars().map(plain).collect();
        number(&run).map(|number| number.thousandths)
    }

    #[test]
    fn what_is_a_number() {
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
            // a comma that begins the decimals
            ("1,5", 1_500),
            ("1,50", 1_500),
            ("1,2345", 1_234),
            ("0,125", 125),
            ("1234,567", 1_234_567),
            // a point always does
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
    fn what_is_not_a_number() {
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
    fn shapes() {
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
    fn a_long_text_has_no_numbers() {
        let longest = format!("{:>LONGEST$}", 5);
        assert_eq!(shape(&longest).numbers, [5_000]);
        assert_eq!(shape(&format!(" {longest}")).numbers, NONE);
    }

    #[test]
    fn one_message_is_drawn_where_it_is_data() {
        for (text, expected) in [
            ("42", 42_000),
            (" -3.5\n", -3_500),
            ("42 %", 42_000),
            ("42%", 42_000),
            ("$1,234.50", 1_234_500),
            ("-$5", -5_000),
            ("5 €", 5_000),
            ("21.5 °C", 21_500),
            ("3 MB/s", 3_000),
            (r#"{"temp":21.5,"hum":40}"#, 21_500),
            (r#"{ "name": "x", "temp": 21.5 }"#, 21_500),
            ("12:00:01 queue=5", 5_000),
            ("cpu0=5%", 5_000),
        ] {
            assert_eq!(series(&[text]), [expected], "{text:?}");
        }
        for text in [
            "",
            "Deployed 5 services",
            "built in 42 s",
            "5 services",
            "42 100",
            "12:00:01",
            "v1.2",
            "a >= 5, b ==5",
            "https://example.com/?page=2",
            r#"{"said":"took: 5 s"}"#,
            r#""temp": 5"#,
        ] {
            assert_eq!(series(&[text]), NONE, "{text:?}");
        }
        assert_eq!(drawn(&["Deployed 5 services"], true), [5_000]);
        assert_eq!(drawn(&["Counter value 1"], true), [1_000]);
        assert_eq!(drawn(&["v1.2"], true), NONE);
    }

    #[test]
    fn messages_of_one_shape_are_drawn() {
        let counter: Vec<_> = (1..=20).map(|n| format!("Counter value {n}")).collect();
        let counter: Vec<_> = counter.iter().map(String::as_str).collect();
        assert_eq!(series(&counter), (1..=20).map(|n| n * 1_000).collect::<Vec<_>>());
        assert_eq!(series(&["built in 42 s", "built in 43 s"]), [42_000, 43_000]);
        assert_eq!(series(&["-1", "+1", "1,000"]), [-1_000, 1_000, 1_000_000]);
        assert_eq!(series(&["12:00:01 queue=5", "12:00:02 queue=6"]), [5_000, 6_000]);
        assert_eq!(series(&["ci-7 took 5ms", "ci-12 took 6ms"]), [5_000, 6_000]);
    }

    #[test]
    fn a_log_is_not_drawn() {
        let log = [
            "2026-11-26 12:00:00 listening on port 3000",
            "2026-11-26 12:00:01 connected to 10.0.0.1",
            "2026-11-26 12:00:02 loaded 5 plugins in 12 ms",
            "2026-11-26 12:00:03 worker 7 is ready",
            "2026-11-26 12:00:04 ready",
        ];
        for length in 0..=log.len() {
            assert_eq!(series(&log[..length]), NONE);
        }
    }

    #[test]
    fn at_least_half_of_the_messages_have_the_shape() {
        assert_eq!(series(&["t 1", "hello", "t 2", "bye"]), [1_000, 2_000]);
        assert_eq!(series(&["t 1", "hello", "t 2", "bye", "so long"]), NONE);
        assert_eq!(series(&["t 1", "u 1", "t 2", "u 2"]), [1_000, 2_000], "the newest");
        assert_eq!(series(&["42", "Deployed 5 services"]), [42_000], "the one with evidence");
        let many = [&["t 1", "t 2"][..], &["hello"; POINTS - 2]].concat();
        assert_eq!(series(&many), NONE);
        assert_eq!(series(&[&many[..], &["t 3"; POINTS]].concat()), [3_000; POINTS]);
    }

    #[test]
    fn the_first_number_that_differs_is_drawn() {
        assert_eq!(series(&["5 of 10", "6 of 10"]), [5_000, 6_000]);
        assert_eq!(series(&["node 1 has 5", "node 1 has 6"]), [5_000, 6_000]);
        assert_eq!(series(&["node 1 has 5", "node 1 has 5"]), [1_000, 1_000]);
        let json = [r#"{"temp":21.5,"hum":40}"#, r#"{"temp":21.75,"hum":41}"#];
        assert_eq!(series(&json), [21_500, 21_750]);
    }

    proptest! {
        #[test]
        fn a_template_has_a_place_for_each_number(text in "(\\PC|[0-9.,:' eE$/=\u{a0}-]){0,40}") {
            let Shape { template, numbers } = shape(&text);
            prop_assert_eq!(template.iter().filter(|&&c| c == NUMBER).count(), numbers.len());
            prop_assert!(template.iter().all(|c| !('2'..='9').contains(c)));
        }
    }

    #[test]
    fn decimals() {
        for (thousandths, text) in
            [(0, "0"), (7_000, "7"), (42_250, "42.25"), (-500, "−0.5"), (100_000, "100")]
        {
            assert_eq!(decimal(thousandths), text);
        }
    }

    #[test]
    fn points_fill_the_height_and_stay_in_it() {
        assert_eq!(Series(vec![5]).points(), "0,96");
        assert_eq!(Series(vec![5, 5]).points(), "0,96 31,96");
        assert_eq!(Series(vec![-10, 0, 10]).points(), "0,96 31,48 63,0");
        let extremes = Series(vec![i64::MIN + 1, i64::MAX]);
        assert_eq!(extremes.points(), "0,96 31,0");
    }
}
