//! The table of results, in Markdown.

use std::fmt;

/// The server that a figure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Baseline,
}

impl Who {
    pub(crate) const BOTH: [Self; 2] = [Self::Ours, Self::Baseline];
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Baseline => "baseline",
        })
    }
}

/// The figures of all runs, in the order in which they were first added.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Failed checks.
    failures: Vec<String>,
}

struct Row {
    measure: String,
    ours: Vec<f64>,
    baseline: Vec<f64>,
}

impl Table {
    /// Adds the figure of one run.
    pub(crate) fn add(&mut self, who: Who, measure: &str, figure: f64) {
        eprintln!("{who:>10}  {:>8}  {measure}", short(figure));
        let known = self.rows.iter().position(|row| row.measure == measure);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { measure: measure.to_owned(), ours: vec![], baseline: vec![] });
            self.rows.len() - 1
        });
        match who {
            Who::Ours => self.rows[index].ours.push(figure),
            Who::Baseline => self.rows[index].baseline.push(figure),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a failure that makes the figures invalid.
    pub(crate) fn fail(&mut self, failure: String) {
        eprintln!("{failure}");
        self.failures.push(failure);
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

/// A Markdown table that is readable as plain text: the median of all runs, and their range.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["", "ours", "baseline", "ours ÷ baseline"].map(str::to_owned);
        let rows: Vec<_> = [head].into_iter().chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
        for (index, [measure, ours, baseline, ratio]) in rows.iter().enumerate() {
            writeln!(
                f,
                "| {measure:first$} | {ours:>second$} | {baseline:>third$} | {ratio:>fourth$} |"
            )?;
            if index == 0 {
                let line = |width: usize| "-".repeat(width);
                let right = |width: usize| format!("{}:", line(width - 1));
                let (second, third, fourth) = (right(second), right(third), right(fourth));
                writeln!(f, "| {} | {second} | {third} | {fourth} |", line(first))?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> [String; 4] {
        let ratio = match (median(&self.ours), median(&self.baseline)) {
            (Some(ours), Some(baseline)) if baseline > 0.0 => format!("{:.2}", ours / baseline),
            _ => String::new(),
        };
        [self.measure.clone(), summary(&self.ours), summary(&self.baseline), ratio]
    }
}

fn summary(figures: &[f64]) -> String {
    let Some(median) = median(figures) else { return String::new() };
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let max = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (median, least, max) = (short(median), short(least), short(max));
    if least == max { median } else { format!("{median} ({least}\u{2013}{max})") }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// Three digits: a benchmark is not more precise.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_medians_and_their_ratio() {
        let mut table = Table::default();
        for (ours, baseline) in [(4.0, 10.0), (2.0, 11.0), (3.0, 12.0)] {
            table.add(Who::Ours, "cost", ours);
            table.add(Who::Baseline, "cost", baseline);
        }
        let shown = table.to_string();
        assert_eq!(
            shown.lines().last(),
            Some("| cost | 3.00 (2.00\u{2013}4.00) | 11.0 (10.0\u{2013}12.0) |            0.27 |")
        );
    }
}
