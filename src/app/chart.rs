//! A sparkline of the number that the newest messages share.
//!
//! Texts are compared by their shape, the text without its numbers: "built in 42 s" and "built in
//! 43 s" have the same shape, and 42 and 43 are points of the line. Times, versions, addresses and
//! similar texts have digits but are not numbers: they are never drawn.
//!
//! Numbers are parsed and formatted as integers, in thousandths: code that parses and formats floats
//! would add ten kilobytes to the wasm.

mod shape;

use std::sync::Arc;

use leptos::{prelude::*, reactive::graph::untrack, tachys::renderer::types::Element};

use self::shape::shape;
use super::{
    ansi,
    content::{Derived, Follow, Following},
};
use crate::feed::Feed;

/// The number of newest messages that are considered, and so the maximum number of points.
const MAX_POINTS: usize = 60;
/// The minimum number of columns, so that the first few points keep their place when others follow.
const MIN_COLUMNS: usize = 20;
/// The size of the chart in SVG units; the view box has a margin of 6 around it for the line's width.
const WIDTH: usize = 600;
const HEIGHT: usize = 96;
/// The thousandths in 1.
const ONE: i64 = 1000;

/// The numbers of the newest messages, oldest first, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(Vec<i64>);

impl Series {
    /// The first number that differs between the newest messages of one shape.
    ///
    /// The shape is that of the newest message which has numbers and whose shape more than half of the
    /// newest messages share, so that the chart does not alternate between two shapes. A number in a
    /// sentence is drawn once a second message has the same shape; one message is enough if its text is
    /// plain data, or with `single_is_enough`. None of several streams: a line through the numbers of all
    /// would mean nothing.
    pub fn from_feed(feed: &Feed, single_is_enough: bool) -> Self {
        if feed.is_merged() {
            return Self::default();
        }
        let mut shapes = Vec::new();
        for message in feed.rows().rev().filter_map(|row| row.content.message()).take(MAX_POINTS) {
            shapes.push(shape(&ansi::strip(&message.data)));
        }
        let same_shape =
            |shape| shapes.iter().rev().filter(move |other| other.has_same_template(shape));
        let drawn = shapes.iter().find(|shape| {
            let count = same_shape(shape).count();
            !shape.numbers.is_empty()
                && count * 2 > shapes.len()
                && (count > 1 || single_is_enough || shape.is_data())
        });
        let Some(drawn) = drawn else { return Self::default() };
        let differs = |&index: &usize| {
            same_shape(drawn).any(|shape| shape.numbers[index] != drawn.numbers[index])
        };
        let index = (0..drawn.numbers.len()).find(differs).unwrap_or_default();
        let mut numbers = Vec::new();
        for shape in same_shape(drawn) {
            numbers.push(shape.numbers[index]);
        }
        Self(numbers)
    }

    fn lowest(&self) -> i64 {
        self.0.iter().copied().min().unwrap_or_default()
    }

    fn highest(&self) -> i64 {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// The `points` of an SVG polyline: `x,y x,y`, y downwards.
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
        let columns = self.0.len().max(MIN_COLUMNS) - 1;
        let (lowest, highest) = (self.lowest(), self.highest());
        let x = column * WIDTH / columns;
        let y = HEIGHT - scale_to_height(self.0[column].abs_diff(lowest), highest.abs_diff(lowest));
        format!("{x},{y}")
    }

    /// The newest point, twice: a line of length 0 is drawn as a round dot.
    fn newest_point(&self) -> String {
        let Some(last) = self.0.len().checked_sub(1) else { return String::new() };
        let point = self.point(last);
        format!("{point} {point}")
    }

    fn description(&self) -> String {
        let (lowest, highest) = (decimal(self.lowest()), decimal(self.highest()));
        format!("Chart of the newest numbers, from {lowest} to {highest}; now {}", self.newest())
    }

    fn newest(&self) -> String {
        self.0.last().map(|&number| decimal(number)).unwrap_or_default()
    }

    fn range(&self) -> String {
        format!("{} to {}", decimal(self.lowest()), decimal(self.highest()))
    }

    /// What changes in the figure with the numbers: an element, one of its attributes, or else its
    /// content, and the text there, which needs no escaping.
    fn parts(&self) -> [(&'static str, Option<&'static str>, String); 5] {
        [
            ("strong", None, self.newest()),
            ("span", None, self.range()),
            ("svg", Some("aria-label"), self.description()),
            (".line", Some("points"), self.points()),
            (".dot", Some("points"), self.newest_point()),
        ]
    }

    /// The figure as HTML; empty without a number.
    fn figure(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let [newest, range, description, points, newest_point] = self.parts().map(|part| part.2);
        format!(
            r#"<figure class="chart"><figcaption><strong>{newest}</strong><span>{range}</span></figcaption><svg role="img" aria-label="{description}" viewBox="-6 -6 612 108" preserveAspectRatio="none"><polyline class="line" points="{points}"/><polyline class="dot" points="{newest_point}"/></svg></figure>"#
        )
    }
}

fn scale_to_height(value: u64, range: u64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 96"
    )]
    let height = (value as f64 / range.max(1) as f64 * HEIGHT as f64) as usize;
    height
}

fn decimal(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "−" } else { "" };
    let (whole, fraction) = (thousandths.abs() / ONE, thousandths.abs() % ONE);
    let text = format!("{sign}{whole}.{fraction:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The figure, as the content of an element.
#[derive(Clone)]
struct Figure(Derived<Series>);

impl Follow for Figure {
    fn push_html(&self, html: &mut String) {
        *html += &untrack(|| (self.0)()).figure();
    }

    /// Changes the parts of a figure that is there: screen readers may be at it.
    fn follow(self, frame: &Element, from_server: bool) -> RenderEffect<()> {
        let frame = frame.clone();
        let mut shown = if from_server { untrack(|| (self.0)()) } else { Series::default() };
        RenderEffect::new(move |_| {
            let series = (self.0)();
            if series == shown {
                return;
            }
            if series.0.is_empty() || shown.0.is_empty() {
                frame.set_inner_html(&series.figure());
            } else {
                for (selector, attribute, text) in series.parts() {
                    let Ok(Some(part)) = frame.query_selector(selector) else { continue };
                    match attribute {
                        Some(name) => drop(part.set_attribute(name, &text)),
                        None => part.set_text_content(Some(&text)),
                    }
                }
            }
            shown = series;
        })
    }
}

/// The chart. Empty, and hidden by the style sheet, while the newest messages do not share a number.
#[component]
pub fn Chart(
    /// The messages of the page.
    feed: RwSignal<Feed>,
    /// Whether one message is enough to draw a chart, whatever its text.
    single_is_enough: bool,
) -> impl IntoView {
    let figure = Figure(Arc::new(move || Series::from_feed(&feed.read(), single_is_enough)));
    view! { <div class="chart-frame" inner_html=Following(figure)></div> }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::Event,
        message::{EventId, Message},
    };

    const NONE: [i64; 0] = [];

    fn series(texts: &[&str]) -> Vec<i64> {
        series_with(texts, false)
    }

    fn series_with(texts: &[&str], single_is_enough: bool) -> Vec<i64> {
        let mut feed = Feed::default();
        for (seq, &text) in (1..).zip(texts) {
            let id = EventId { millis: 1_763_891_234_567, seq };
            feed.apply(Event::Message(Message { id, data: text.to_owned() }));
        }
        Series::from_feed(&feed, single_is_enough).0
    }

    #[test]
    fn one_message_is_drawn_if_it_is_data() {
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
        assert_eq!(series_with(&["Deployed 5 services"], true), [5_000]);
        assert_eq!(series_with(&["Counter value 1"], true), [1_000]);
        assert_eq!(series_with(&["v1.2"], true), NONE);
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
    fn a_shape_is_drawn_if_more_than_half_of_the_messages_have_it() {
        assert_eq!(series(&["t 1", "hello", "t 2"]), [1_000, 2_000]);
        assert_eq!(series(&["t 1", "hello", "t 2", "bye"]), NONE);
        assert_eq!(series(&["t 1", "u 1", "t 2", "u 2"]), NONE);
        assert_eq!(series(&["41", "42", "Deployed 5 services"]), [41_000, 42_000]);
        let many = [&["t 1", "t 2"][..], &["hello"; MAX_POINTS - 2]].concat();
        assert_eq!(series(&many), NONE);
        assert_eq!(series(&[&many[..], &["t 3"; MAX_POINTS]].concat()), [3_000; MAX_POINTS]);
    }

    #[test]
    fn the_first_number_that_differs_is_drawn() {
        assert_eq!(series(&["5 of 10", "6 of 10"]), [5_000, 6_000]);
        assert_eq!(series(&["node 1 has 5", "node 1 has 6"]), [5_000, 6_000]);
        assert_eq!(series(&["node 1 has 5", "node 1 has 5"]), [1_000, 1_000]);
        let json = [r#"{"temp":21.5,"hum":40}"#, r#"{"temp":21.75,"hum":41}"#];
        assert_eq!(series(&json), [21_500, 21_750]);
    }

    #[test]
    fn thousandths_are_written_as_decimals() {
        for (thousandths, text) in
            [(0, "0"), (7_000, "7"), (42_250, "42.25"), (-500, "−0.5"), (100_000, "100")]
        {
            assert_eq!(decimal(thousandths), text);
        }
    }

    #[test]
    fn points_fill_the_height_and_stay_within_it() {
        assert_eq!(Series(vec![5]).points(), "0,96");
        assert_eq!(Series(vec![5, 5]).points(), "0,96 31,96");
        assert_eq!(Series(vec![-10, 0, 10]).points(), "0,96 31,48 63,0");
        let extremes = Series(vec![i64::MIN + 1, i64::MAX]);
        assert_eq!(extremes.points(), "0,96 31,0");
    }
}
