//! The table of results, in Markdown.

use std::fmt;

use crate::{
    contender::Contender,
    noise::{self, Noise},
};

/// The figures of all runs, in the order in which they were first added.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Failed checks.
    failures: Vec<String>,
}

struct Row {
    measure: String,
    figures: Vec<Figure>,
}

/// The figure of one run.
struct Figure {
    contender: Contender,
    value: f64,
    is_noisy: bool,
}

impl Table {
    /// Adds the figure of one run, which does not depend on what else runs.
    pub(crate) fn add(&mut self, contender: Contender, measure: &str, value: f64) {
        self.add_timed(contender, measure, value, Noise::NONE);
    }

    /// Adds the figure of one run, with what others used during the measurement.
    pub(crate) fn add_timed(
        &mut self,
        contender: Contender,
        measure: &str,
        value: f64,
        noise: Noise,
    ) {
        let is_noisy = noise.is_too_high();
        let remark = if is_noisy {
            format!("  (noisy: others used {:.0} % of the processors)", noise.percent())
        } else {
            String::new()
        };
        eprintln!("{contender:>10}  {:>8}  {measure}{remark}", short(value));
        let known = self.rows.iter().position(|row| row.measure == measure);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { measure: measure.to_owned(), figures: Vec::new() });
            self.rows.len() - 1
        });
        self.rows[index].figures.push(Figure { contender, value, is_noisy });
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

    /// The contenders that have figures.
    fn contenders(&self) -> Vec<Contender> {
        let figures = self.rows.iter().flat_map(|row| &row.figures);
        let has = |contender| move |figure: &Figure| figure.contender == contender;
        Contender::ALL.into_iter().filter(|one| figures.clone().any(has(*one))).collect()
    }
}

/// A Markdown table that is readable as plain text: the median of all runs, and their range. Then
/// what was left out as noisy.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contenders = self.contenders();
        let mut others = contenders.clone();
        // Without ours there are no ratios.
        if others.contains(&Contender::Ours) {
            others.retain(|one| *one != Contender::Ours);
        } else {
            others.clear();
        }
        let names = contenders.iter().map(Contender::to_string);
        let ratios = others.iter().map(|one| format!("ours \u{f7} {one}"));
        let head: Vec<_> = [String::new()].into_iter().chain(names).chain(ratios).collect();
        let rows = self.rows.iter().map(|row| row.cells(&contenders, &others));
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        let widths: Vec<_> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (index, row) in rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if index == 0 {
                write!(f, "| {} |", "-".repeat(widths[0]))?;
                for width in &widths[1..] {
                    write!(f, " {}: |", "-".repeat(width - 1))?;
                }
                writeln!(f)?;
            }
        }
        self.say_what_is_noisy(f)
    }
}

impl Table {
    fn say_what_is_noisy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = || self.rows.iter().flat_map(|row| &row.figures);
        let noisy = figures().filter(|figure| figure.is_noisy).count();
        if noisy == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "\n{noisy} of {} figures are noisy: other processes used more than {:.0} % of the \
             processors' time. They are left out, except where every run was noisy (!).",
            figures().count(),
            100.0 * noise::LIMIT
        )
    }
}

impl Row {
    fn cells(&self, contenders: &[Contender], others: &[Contender]) -> Vec<String> {
        let ours = self.summary(Contender::Ours);
        let ratio = |other: &Contender| match (&ours, self.summary(*other)) {
            (Some(ours), Some(other)) if other.median != 0.0 => {
                format!("{:.2}", ours.median / other.median)
            }
            _ => String::new(),
        };
        let figures = contenders
            .iter()
            .map(|one| self.summary(*one).map_or_else(String::new, |summary| summary.to_string()));
        [self.measure.clone()].into_iter().chain(figures).chain(others.iter().map(ratio)).collect()
    }

    /// The figures of a contender, without the noisy ones if others are left.
    fn summary(&self, contender: Contender) -> Option<Summary> {
        let all = || self.figures.iter().filter(|figure| figure.contender == contender);
        let are_noisy = all().all(|figure| figure.is_noisy);
        let left = all().filter(|figure| are_noisy || !figure.is_noisy);
        let mut sorted: Vec<_> = left.map(|figure| figure.value).collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = sorted[(sorted.len() - 1) / 2];
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        Some(Summary { median: f64::midpoint(lower, upper), least, most, are_noisy })
    }
}

struct Summary {
    median: f64,
    least: f64,
    most: f64,
    /// Whether every run was noisy.
    are_noisy: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, least, most) = (short(self.median), short(self.least), short(self.most));
        f.write_str(&median)?;
        if least != most {
            write!(f, " ({least}\u{2013}{most})")?;
        }
        if self.are_noisy { f.write_str(" !") } else { Ok(()) }
    }
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
            table.add(Contender::Ours, "cost", ours);
            table.add(Contender::Baseline, "cost", baseline);
        }
        let shown = table.to_string();
        assert_eq!(
            shown.lines().last(),
            Some("| cost | 3.00 (2.00\u{2013}4.00) | 11.0 (10.0\u{2013}12.0) |            0.27 |")
        );
    }

    #[test]
    fn leaves_noisy_figures_out_and_says_so() {
        let (quiet, noisy) = (Noise { part: 0.04 }, Noise { part: 0.06 });
        let mut table = Table::default();
        for (value, noise) in [(3.0, quiet), (9.0, noisy), (3.0, quiet)] {
            table.add_timed(Contender::Ours, "cost", value, noise);
        }
        table.add_timed(Contender::Floor, "cost", 2.0, noisy);
        let shown = table.to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[2], "| cost | 3.00 | 2.00 ! |         1.50 |");
        assert!(lines[4].starts_with("2 of 4 figures are noisy"), "{shown}");
    }
}
