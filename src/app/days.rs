//! Rows as the lines of a log: where a new day begins, its date stands between them.

use super::time;
use crate::feed::Row;

/// No clock on earth changes its offset, and no day begins, within a quarter of an hour of UTC:
/// messages that share one share their day.
const QUARTER: u64 = 900_000;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A date, in days since the Unix epoch.
    Day(u64),
    /// A row.
    Row(Row),
}

impl Line {
    /// What no two lines of a log have in common.
    pub fn key(&self) -> (bool, u64) {
        match self {
            Self::Day(day) => (true, *day),
            Self::Row(row) => (false, row.key),
        }
    }
}

/// The lines of rows, the last day among them, or `day`, which went before. `local` makes a moment
/// read as the reader's clock does.
///
/// A clock that is set back at midnight lives through the same day twice: its date is shown once.
pub fn lines(
    rows: impl Iterator<Item = Row>,
    mut day: Option<u64>,
    local: fn(u64) -> u64,
) -> (Vec<Line>, Option<u64>) {
    let mut lines = Vec::with_capacity(rows.size_hint().0 + 1);
    let mut quarter = None;
    for row in rows {
        if let Some(millis) = row.content.message().map(|message| message.id.millis)
            && quarter.replace(millis / QUARTER) != Some(millis / QUARTER)
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
        feed::Content,
        message::{EventId, Message},
    };

    /// 23 November 2026, 00:00 UTC.
    const MIDNIGHT: u64 = 1_795_392_000_000;
    const TODAY: u64 = MIDNIGHT / 86_400_000;

    fn rows(millis: &[u64]) -> impl Iterator<Item = Row> {
        (0..).zip(millis).map(|(key, &millis)| {
            let message = Message { id: EventId { millis, seq: key + 1 }, data: String::new() };
            Row { key, content: Content::Message(message.into()) }
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
    fn a_date_stands_where_its_day_begins() {
        let said = [MIDNIGHT - 2, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + 3 * QUARTER];
        let (utc, last) = lines(rows(&said), None, |at| at);
        assert_eq!(days(&utc), [(None, 0), (Some(TODAY - 1), 2), (Some(TODAY), 3)]);
        assert_eq!(last, Some(TODAY));
        let (kolkata, _) = lines(rows(&said), None, |at| at + 22 * QUARTER);
        assert_eq!(days(&kolkata), [(None, 0), (Some(TODAY), 5)]);
    }

    #[test]
    fn a_day_that_went_before_is_not_said_again() {
        let said = [MIDNIGHT - 1, MIDNIGHT];
        let (after, _) = lines(rows(&said), Some(TODAY - 1), |at| at);
        assert_eq!(days(&after), [(None, 1), (Some(TODAY), 1)]);
        let (after, last) = lines(rows(&said), Some(TODAY), |at| at);
        assert_eq!((days(&after), last), (vec![(None, 2)], Some(TODAY)), "the clock was set back");
    }

    #[test]
    fn what_is_no_message_has_no_day() {
        let lost = Row { key: 0, content: Content::Lost };
        assert_eq!(
            lines(std::iter::once(lost.clone()), None, |at| at),
            (vec![Line::Row(lost)], None)
        );
    }

    #[test]
    fn no_two_lines_share_a_key() {
        let said: Vec<_> = (0..200).map(|n| MIDNIGHT + n * 24 * QUARTER).collect();
        let (lines, _) = lines(rows(&said), None, |at| at);
        let keys: HashSet<_> = lines.iter().map(Line::key).collect();
        assert_eq!((lines.len(), keys.len()), (250, 250));
    }
}
