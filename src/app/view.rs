//! How a page sets its messages: as the lines of a log, in a monospaced face and as wide as the window,
//! or as text.
//!
//! The page decides by the newest messages: they are a log when more than half of them look like one
//! (`is_log_line`), and text again when fewer than a quarter do. The reader may choose otherwise: an
//! attribute of the document overrides what the page decides. The choice is remembered for each stream in
//! the browser (`page.js`); without JavaScript it is in the address (`?view=log`, `?view=text`).

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use leptos::prelude::*;

use super::json::may_be_json;

/// The number of newest messages that are considered.
const MAX_MESSAGES: usize = 60;
/// The number of bytes of a message that are considered.
const MAX_BYTES: usize = 256;

/// How messages are set, where the reader has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As lines of a log.
    Log,
    /// As text.
    Text,
}

/// The text is not a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseViewError;

impl FromStr for View {
    type Err = ParseViewError;

    fn from_str(text: &str) -> Result<Self, ParseViewError> {
        match text {
            "log" => Ok(Self::Log),
            "text" => Ok(Self::Text),
            _ => Err(ParseViewError),
        }
    }
}

impl View {
    /// The view as in addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Text => "text",
        }
    }
}

/// The links to the two views of the page at an address, which may have a query. The style sheet shows the
/// one to the other view.
pub(super) fn view_links(address: &str) -> impl IntoView + use<> {
    let [log, text] = [View::Log, View::Text].map(|view| with_view(address, view));
    view! {
        <span class="views">
            <a href=log data-view="log">"Show as a log"</a>
            <a href=text data-view="text">"Show as text"</a>
        </span>
    }
}

/// The address of a page in a view.
fn with_view(address: &str, view: View) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("view="));
    let view = format!("view={}", view.as_str());
    let pairs: Vec<_> = others.chain([view.as_str()]).collect();
    format!("{path}?{}", pairs.join("&"))
}

/// Whether the newest messages are a log, with a memory, so that a page of both does not alternate.
#[derive(Debug, Default)]
pub(super) struct LogDetector(AtomicBool);

impl LogDetector {
    /// Whether these messages, the newest first, are a log.
    pub(super) fn is_log<'message>(&self, messages: impl Iterator<Item = &'message str>) -> bool {
        let (mut lines, mut count) = (0, 0);
        for message in messages.take(MAX_MESSAGES) {
            count += 1;
            lines += usize::from(is_log_line(message));
        }
        let is_log = if self.0.load(Relaxed) { lines * 4 >= count } else { lines * 2 > count };
        self.0.store(is_log, Relaxed);
        is_log
    }
}

/// Whether a message looks like a line of a log: it has an escape sequence or columns (a tab, or spaces
/// in a row that do not follow a sentence), it is JSON, or it begins with a time or a level.
fn is_log_line(text: &str) -> bool {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..MAX_BYTES).unwrap_or(bytes);
    let mut before = b' ';
    let mut spaces = 0;
    for &b in bytes {
        match b {
            0x1b | b'\t' => return true,
            b' ' if spaces > 0 && !matches!(before, b'.' | b'!' | b'?') => return true,
            b' ' => spaces += 1,
            _ => (before, spaces) = (b, 0),
        }
    }
    may_be_json(text) || begins_with_time_or_level(bytes)
}

/// Whether a text begins with a time, as in `2026-11-26T12:00` and `[12:00:01]`, or with a level, as in
/// `INFO`, `[warn]` and `error:`.
fn begins_with_time_or_level(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"[").unwrap_or(text);
    let start = text.get(..16).unwrap_or(text);
    if let [b'0'..=b'9', ..] = start {
        return start
            .windows(4)
            .any(|four| matches!(four, [b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9']));
    }
    let [first, second, third, fourth, rest @ ..] = start else { return false };
    let word = [first, second, third, fourth].map(u8::to_ascii_lowercase);
    matches!(&word, b"trac" | b"debu" | b"info" | b"noti" | b"warn" | b"erro" | b"fata")
        && (second.is_ascii_uppercase()
            || rest.iter().take(4).any(|b| matches!(b, b':' | b']' | b'[')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log_are_recognized() {
        for line in [
            "\x1b[32mok\x1b[0m",
            "a\tb",
            "   Compiling tidings v0.1.0",
            "PID  COMMAND",
            "2026-11-26T12:00:01Z listening",
            "2026-11-26 12:00:01 listening",
            "[12:00:01] listening",
            "12:00:01.123 listening",
            "INFO listening",
            "[warn] disk",
            "WARNING:root:disk",
            "error[E0308]: mismatched types",
            "warning: unused variable",
            r#"{"level":"info"}"#,
            "[1]",
        ] {
            assert!(is_log_line(line), "{line}");
        }
        for text in [
            "",
            "Deployed 5 services",
            "A sentence.  Another one!  And a third.",
            "At 12:00 we begin",
            "5 services were deployed at 12:00",
            "Error in the search: we are looking into it",
            "Information follows",
            "Counter value 1",
            "42",
        ] {
            assert!(!is_log_line(text), "{text}");
        }
    }

    #[test]
    fn the_view_does_not_alternate() {
        let log = LogDetector::default();
        let is_log = |texts: &[&str]| log.is_log(texts.iter().copied());
        assert!(!is_log(&[]));
        assert!(!is_log(&["a", "INFO b"]), "half");
        assert!(is_log(&["INFO b", "a", "INFO b"]));
        assert!(is_log(&["a", "INFO b"]));
        assert!(is_log(&["a", "a", "a", "INFO b"]), "a quarter");
        assert!(!is_log(&["a", "a", "a", "a", "INFO b"]));
        assert!(!is_log(&["a", "INFO b"]));
    }

    #[test]
    fn the_view_is_a_part_of_the_address() {
        for (address, expected) in [
            ("/streams/a", "/streams/a?view=log"),
            ("/streams/a?view=text", "/streams/a?view=log"),
            ("/streams/a?view=text&at=1-2", "/streams/a?at=1-2&view=log"),
        ] {
            assert_eq!(with_view(address, View::Log), expected);
        }
    }
}
