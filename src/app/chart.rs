//! Numbers are drawn: a small line chart of what the newest messages say.
//!
//! Numbers are read and written as thousandths, whole: the code that reads and writes floats would
//! weigh ten kilobytes in the wasm.

use leptos::prelude::*;

use super::{content::content, text};
use crate::feed::Feed;

/// How many numbers are drawn.
const POINTS: usize = 60;
/// A chart that is not full yet leaves this much room, so that the first few points do not jump.
const ROOM: usize = 20;
/// The size of the drawing; the view box leaves 6 around it for the line's width.
const WIDTH: usize = 600;
const HEIGHT: usize = 96;
/// What a unit of a number is counted in.
const UNIT: i64 = 1000;

/// The numbers of the newest messages, oldest first, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(Vec<i64>);

impl Series {
    /// The first number of each of the newest rows, where there is one.
    pub fn of(feed: &Feed) -> Self {
        let newest = feed.rows().rev().filter_map(|row| row.content.message()).take(POINTS);
        let mut numbers: Vec<_> = newest.filter_map(|message| number(&message.data)).collect();
        numbers.reverse();
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
        let columns = self.0.len().max(ROOM) - 1;
        let (lowest, highest) = (self.lowest(), self.highest());
        let point = |(column, &number): (usize, &i64)| {
            let x = column * WIDTH / columns;
            let y = HEIGHT - share_of_height(number.abs_diff(lowest), highest.abs_diff(lowest));
            format!("{x},{y}")
        };
        self.0.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
    }

    /// The newest point, twice: a line of no length is drawn as a round dot.
    fn newest_point(&self) -> String {
        let points = self.points();
        let last = points.rsplit(' ').next().unwrap_or_default();
        format!("{last} {last}")
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

/// The first number in a text, in thousandths; digits beyond the third decimal are dropped. A
/// hyphen is a minus only where a word begins, so that `ci-7` holds a 7.
fn number(text: &str) -> Option<i64> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let (before, rest) = text.split_at(start);
    let (whole, rest) = digits(rest);
    let fraction = rest.strip_prefix('.').map_or("", |rest| digits(rest).0);
    let mut thousandths = whole.parse::<i64>().ok()?.checked_mul(UNIT)?;
    for (digit, weight) in fraction.bytes().zip([100, 10, 1]) {
        thousandths = thousandths.checked_add(i64::from(digit - b'0') * weight)?;
    }
    let negative = before
        .strip_suffix('-')
        .is_some_and(|before| before.is_empty() || before.ends_with(char::is_whitespace));
    Some(if negative { -thousandths } else { thousandths })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn decimal(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "−" } else { "" };
    let (whole, fraction) = (thousandths.abs() / UNIT, thousandths.abs() % UNIT);
    let text = format!("{sign}{whole}.{fraction:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The chart, where the newest messages hold numbers.
#[component]
pub fn Chart(
    /// What the page knows.
    feed: RwSignal<Feed>,
) -> impl IntoView {
    let series = Memo::new(move |_| Series::of(&feed.read()));
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
    use super::*;

    #[test]
    fn the_first_number_of_a_text() {
        for (text, expected) in [
            ("Counter value 7", Some(7_000)),
            ("built in 42.25 s", Some(42_250)),
            ("-3.5", Some(-3_500)),
            ("at -3", Some(-3_000)),
            ("ci-7", Some(7_000)),
            ("1.23456", Some(1_234)),
            ("v1.", Some(1_000)),
            ("no number", None),
            ("", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
            ("٣", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
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
