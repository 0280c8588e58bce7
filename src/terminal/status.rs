//! Notes on standard error, and a line of progress where it is a terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use terminal_size::{Width, terminal_size_of};
use tokio::time::sleep;

use super::escape::single_line;

/// The shortest time between two drawings of the progress.
const REDRAW_PAUSE: Duration = Duration::from_millis(200);
/// Returns to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Notes for the user on standard error. A failure to write there is ignored.
#[derive(Debug)]
pub(super) struct Status {
    shows_progress: bool,
    state: Mutex<DisplayState>,
}

#[derive(Debug, Default)]
struct DisplayState {
    /// Whether the progress is on the screen.
    is_drawn: bool,
    drawn_at: Option<Instant>,
    /// Since when the server cannot be reached, or does not accept.
    outage: Option<Instant>,
}

impl Status {
    /// Progress is shown if the command has any (`has_progress`) and standard error is a terminal.
    pub(super) fn new(has_progress: bool) -> Self {
        let shows_progress = has_progress && io::stderr().is_terminal();
        Self { shows_progress, state: Mutex::default() }
    }

    /// Prints a line that stays.
    pub(super) fn note(&self, text: &str) {
        let mut state = self.lock();
        clear(&mut state);
        // In one write, so that the lines of several processes are not mixed.
        let _ = io::stderr().write_all(format!("tidings: {}\n", single_line(text)).as_bytes());
    }

    /// Replaces the line of progress, not more often than the eye follows.
    pub(super) fn progress(&self, text: impl FnOnce() -> String) {
        let mut state = self.lock();
        let is_due = state.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW_PAUSE);
        if self.shows_progress && is_due {
            self.draw(&mut state, &text());
        }
    }

    /// Removes the line of progress, before something else is printed on the terminal.
    pub(super) fn clear(&self) {
        clear(&mut self.lock());
    }

    /// Waits before another attempt, and tells why: on a terminal each second, otherwise once until
    /// [`recovered`](Self::recovered) is called.
    pub(super) async fn wait(&self, why: &str, pause: Duration) {
        let is_new = self.lock().outage.replace(Instant::now()).is_none();
        if is_new && !self.shows_progress {
            self.note(&format!("{why}; trying again"));
        }
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.shows_progress {
                let seconds = left.as_secs_f64().ceil();
                self.draw(&mut self.lock(), &format!("{why}; trying again in {seconds} s"));
            }
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// The server accepts again.
    pub(super) fn recovered(&self) {
        let mut state = self.lock();
        if state.outage.take().is_some() {
            drop(state);
            self.note("the server answers again");
        }
    }

    #[expect(clippy::unused_self, reason = "the lock of `state` belongs to it")]
    fn draw(&self, state: &mut DisplayState, text: &str) {
        (state.is_drawn, state.drawn_at) = (true, Some(Instant::now()));
        let width = terminal_size_of(io::stderr()).map_or(80, |(Width(width), _)| width);
        let line = cut(&format!("tidings: {}", single_line(text)), width.into());
        let _ = io::stderr().write_all(format!("{CLEAR_LINE}{line}").as_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, DisplayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a text as fits on one line: a line that the terminal has wrapped cannot be replaced.
fn cut(text: &str, width: usize) -> String {
    // A character takes at most two columns.
    let columns = |c: char| if c.is_ascii() { 1 } else { 2 };
    // Not the last column: some terminals wrap as soon as it is filled.
    if text.chars().map(columns).sum::<usize>() < width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(2);
    let fits = |c: &char| room.checked_sub(columns(*c)).inspect(|left| room = *left).is_some();
    text.chars().take_while(fits).chain(['…']).collect()
}

fn clear(state: &mut DisplayState) {
    if std::mem::take(&mut state.is_drawn) {
        let _ = write!(io::stderr(), "{CLEAR_LINE}");
    }
}

/// A number with commas: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long something took, for people: `0.4 s`, `12 s`, `3 min 2 s`, `2 h 5 min`.
pub(super) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_fits() {
        assert_eq!(cut("short", 6), "short");
        assert_eq!(cut("too long", 8), "too lo…");
        assert_eq!(cut("wide ✅", 8), "wide ✅");
        assert_eq!(cut("wide ✅ ✅", 10), "wide ✅ …");
        assert_eq!(cut("x", 0), "…");
    }

    #[test]
    fn numbers_and_durations_are_readable() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        for (millis, text) in [
            (0, "0.0 s"),
            (440, "0.4 s"),
            (12_900, "12 s"),
            (182_000, "3 min 2 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
    }
}
