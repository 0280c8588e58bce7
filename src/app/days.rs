//! The lines of a log: its rows, and a date before the first row of each day.

use super::time;
use crate::feed::Row;

/// A quarter of an hour, in milliseconds. In every time zone, days begin and offsets change only at
/// quarter hours of UTC: messages of the same quarter hour are of the same day.
const QUARTER_HOUR_MS: u64 = 900_000;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A date, in days since the Unix epoch.
    Day(u64),
    /// A row.
    Row(Row),
}

impl Line {
    /// A key that is unique among the lines of a log.
    pub fn key(&self) -> (bool, u64) {
        match self {
            Self::Day(day) => (true, *day),
            Self::Row(row) => (false, row.key),
        }
    }
}

/// The lines of rows, and the last day among them; `day` is the day of the row before them, and is
/// returned if they have none. `local` maps UTC to the time zone that the page shows, in milliseconds
/// since the Unix epoch.
///
/// When the clock is set back at midnight, the same day comes twice: its date is shown once.
pub fn lines(
    rows: impl Iterator<Item = Row>,
    mut day: Option<u64>,
    local: fn(u64) -> u64,
) -> (Vec<Line>, Option<u64>) {
    let mut lines = Vec::with_capacity(rows.size_hint().0 + 1);
    let mut quarter_hour = None;
    for row in rows {
        if let Some(millis) = row.content.message().map(|message| message.id.millis)
            && quarter_hour.replace(millis / QUARTER_HOUR_MS) != Some(millis / QUARTER_HOUR_MS)
        {
            let today = time::day(local(millis));
            if day.is_none_or(|day| today > day) {
                day = Some(today);
                lines.push(Line::Day(today));
            }
        }
        lines.push(Line::Row(row));
    }
    (lines, day)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        feed::RowContent,
        message::{EventId, Message},
    };

    /// 23 November 2026, 00:00 UTC.
    const MIDNIGHT: u64 = 1_795_392_000_000;
    const TODAY: u64 = MIDNIGHT / 86_400_000;

    fn rows(millis: &[u64]) -> impl Iterator<Item = Row> {
        (0..).zip(millis).map(|(key, &millis)| {
            let message = Message { id: EventId { millis, seq: key + 1 }, data: String::new() };
            Row { key, stream: 0, content: RowContent::Message(message.into()) }
        })
    }

    /// The days, and how many rows follow each.
    fn days(lines: &[Line]) -> Vec<(Option<u64>, usize)> {
        let mut days = vec![(None, 0)];
        for line in lines {
            match line {
                Line::Day(day) => days.push((Some(*day), 0)),
                Line::Row(_) => days.last_mut().expect("a day").1 += 1,
            }
        }
        days
    }

    #[test]
    fn a_date_precedes_the_first_row_of_its_day() {
        let times =
            [MIDNIGHT - 2, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + 3 * QUARTER_HOUR_MS];
        let (utc, last) = lines(rows(&times), None, |at| at);
        assert_eq!(days(&utc), [(None, 0), (Some(TODAY - 1), 2), (Some(TODAY), 3)]);
        assert_eq!(last, Some(TODAY));
        let (kolkata, _) = lines(rows(&times), None, |at| at + 22 * QUARTER_HOUR_MS);
        assert_eq!(days(&kolkata), [(None, 0), (Some(TODAY), 5)]);
    }

    #[test]
    fn the_day_of_the_rows_before_is_not_repeated() {
        let times = [MIDNIGHT - 1, MIDNIGHT];
        let (after, _) = lines(rows(&times), Some(TODAY - 1), |at| at);
        assert_eq!(days(&after), [(None, 1), (Some(TODAY), 1)]);
        let (after, last) = lines(rows(&times), Some(TODAY), |at| at);
        assert_eq!((days(&after), last), (vec![(None, 2)], Some(TODAY)), "the clock was set back");
    }

    #[test]
    fn rows_without_a_message_have_no_day() {
        let lost = Row { key: 0, stream: 0, content: RowContent::Lost };
        assert_eq!(
            lines(std::iter::once(lost.clone()), None, |at| at),
            (vec![Line::Row(lost)], None)
        );
    }

    #[test]
    fn no_two_lines_share_a_key() {
        let times: Vec<_> = (0..200).map(|n| MIDNIGHT + n * 24 * QUARTER_HOUR_MS).collect();
        let (lines, _) = lines(rows(&times), None, |at| at);
        let keys: HashSet<_> = lines.iter().map(Line::key).collect();
        assert_eq!((lines.len(), keys.len()), (250, 250));
    }
}
