//! Random texts made of parts that could break a line-based format.

const PARTS: [&str; 20] = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}abc\u{202c}",
    " ",
    ":",
    "data: x",
    "id: 1-1\n\n",
    "event: end_event\n",
    "\"\\/\u{8}\u{c}\u{1b}",
    "</script><!--",
    "\u{1f642}\u{10ffff}",
    "\u{ffff}\u{fffd}",
    "hello",
];

/// A random text that is not empty.
pub(crate) fn random_text(rng: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.usize(1..12) {
        match rng.usize(0..PARTS.len() + 4) {
            part if part < PARTS.len() => text.push_str(PARTS[part]),
            _ => text.extend((0..rng.usize(1..20)).map(|_| rng.char(..))),
        }
    }
    text
}

/// The text with all line ends as LF, as a parser of event streams returns it.
pub(crate) fn with_lf_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
