//! What the lines of all senders share.

use crate::server::api::one_line::one_line;

/// The most characters of a line before its link.
const MAX_LINE: usize = 600;
/// The most characters of a title, or of the first line of a text, within a line.
const MAX_TITLE: usize = 200;
/// The most bytes of a link.
const MAX_LINK: usize = 1000;

/// A line, with a link at its end if there is one.
pub(super) fn with_link(text: &str, link: &str) -> String {
    let text = one_line(text, MAX_LINE);
    let is_link = link.starts_with("https://") || link.starts_with("http://");
    if is_link && link.len() <= MAX_LINK && !link.contains(char::is_whitespace) {
        format!("{text} {}", one_line(link, MAX_LINK))
    } else {
        text
    }
}

/// The first line of a text, such as the subject of a commit, after a colon.
pub(super) fn title(text: &str) -> String {
    let title = one_line(text.trim_start().lines().next().unwrap_or_default(), MAX_TITLE);
    if title.is_empty() { title } else { format!(": {title}") }
}

/// A word of an API as text: `ready_for_review` is “ready for review”.
pub(super) fn words(word: &str) -> String {
    word.replace('_', " ")
}

/// The first text that is not empty.
pub(super) fn first<const N: usize>(texts: [&str; N]) -> &str {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// A number of things.
pub(super) fn count(number: &str, singular: &str) -> String {
    if number == "1" { format!("1 {singular}") } else { format!("{number} {singular}s") }
}

/// The kind and the name of a reference: `refs/heads/main` is the branch `main`.
pub(super) fn reference(reference: &str) -> String {
    match reference.strip_prefix("refs/tags/") {
        Some(tag) => format!("tag {tag}"),
        None => reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned(),
    }
}
