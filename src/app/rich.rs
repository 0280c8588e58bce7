//! The text of a message as HTML, with its colours and links.
//!
//! All of it is rendering: the text that is shown is the published one without escape sequences, and
//! nothing in it is interpreted as HTML. Without the tags it is no more than that text, escaped.

use std::ops::Range;

use super::{
    ansi::{self, Style},
    content::escape_into,
    links::next_link,
};

/// A text whose HTML is longer than three times its length and this is shown without colours and links,
/// so that no message takes much more memory than its text (see `RENDER_FACTOR`), and so that a message
/// that is all colours does not freeze the page.
const MAX_TAG_BYTES: usize = 8 * 1024;

/// Appends a text with its colours and links.
pub(super) fn push_text(text: &str, html: &mut String) {
    let styled = ansi::parse(text);
    let start = html.len();
    push_linked(&styled.text, &styled.changes, html);
    if !is_within_bounds(text, html.len() - start) {
        html.truncate(start);
        escape_into(&styled.text, html);
    }
}

/// Whether the HTML of a text may have this length.
pub(super) fn is_within_bounds(text: &str, html_length: usize) -> bool {
    html_length <= 3 * text.len() + MAX_TAG_BYTES
}

/// Appends a text with links, in the styles that begin at certain bytes of it. A link may have several
/// styles: `http://localhost:` and a bold port.
pub(super) fn push_linked(text: &str, mut changes: &[(usize, Style)], html: &mut String) {
    let mut style = Style::default();
    let mut link = next_link(text, 0);
    let mut at = 0;
    while at < text.len() {
        while let [(from, changed), rest @ ..] = changes
            && *from <= at
        {
            style = *changed;
            changes = rest;
        }
        let mut end = changes.first().map_or(text.len(), |(from, _)| *from);
        if let Some(link) = &link {
            end = end.min(if at < link.start { link.start } else { link.end });
            if at == link.start {
                html.push_str(r#"<a href=""#);
                // An address has no quotes.
                escape_into(text.get(link.clone()).unwrap_or_default(), html);
                html.push_str(r#"" rel="noopener noreferrer nofollow" target="_blank">"#);
            }
        }
        let piece = text.get(at..end).unwrap_or_default();
        if style == Style::default() {
            escape_into(piece, html);
        } else {
            html.push_str(r#"<span class="sgr"#);
            style.push_classes(html);
            html.push_str(r#"">"#);
            escape_into(piece, html);
            html.push_str("</span>");
        }
        at = end;
        if let Some(Range { end, .. }) = &link
            && at == *end
        {
            html.push_str("</a>");
            link = next_link(text, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app::json::push_json;

    fn html(text: &str) -> String {
        let mut html = String::new();
        push_text(text, &mut html);
        html
    }

    /// Parses HTML as strictly as this module writes it, and returns its text.
    fn text_of(html: &str) -> String {
        let mut text = String::new();
        let mut open = Vec::new();
        let mut rest = html;
        while let Some((before, tag)) = rest.split_once('<') {
            text.push_str(before);
            let (tag, after) = tag.split_once('>').expect("the end of a tag");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{html}");
                continue;
            }
            open.push(tag.split(' ').next().expect("a name"));
            let quotes: Vec<_> = tag.split('"').collect();
            match quotes[..] {
                ["summary" | "details" | "p" | "b"]
                | [r"button type=", "button", " class=", "copy", ""] => {}
                ["span class=", classes, ""] => {
                    let plain = |c: char| c == ' ' || c.is_ascii_lowercase() || c.is_ascii_digit();
                    assert!(classes.chars().all(plain), "{html}");
                }
                [
                    "a href=",
                    href,
                    " rel=",
                    "noopener noreferrer nofollow",
                    " target=",
                    "_blank",
                    "",
                ] => {
                    assert!(href.starts_with("http://") || href.starts_with("https://"), "{html}");
                    assert!(!href.contains(['<', '>', ' ']), "{html}");
                }
                _ => panic!("{tag} in {html}"),
            }
        }
        text.push_str(rest);
        assert!(open.is_empty(), "{html}");
        text.replace("&lt;", "<").replace("&amp;", "&")
    }

    #[test]
    fn styles_and_links_become_elements() {
        for (text, expected) in [
            ("a <b> & c", "a &lt;b> &amp; c"),
            ("\x1b[31m<b>\x1b[0m", r#"<span class="sgr f1">&lt;b></span>"#),
            (
                "see http://a/?b&c.",
                r#"see <a href="http://a/?b&amp;c" rel="noopener noreferrer nofollow" target="_blank">http://a/?b&amp;c</a>."#,
            ),
            (
                "\x1b[32mat http://a:\x1b[1m80\x1b[22m/ now",
                r#"<span class="sgr f2">at </span><a href="http://a:80/" rel="noopener noreferrer nofollow" target="_blank"><span class="sgr f2">http://a:</span><span class="sgr bold f2">80</span><span class="sgr f2">/</span></a><span class="sgr f2"> now</span>"#,
            ),
        ] {
            assert_eq!(html(text), expected);
        }
    }

    #[test]
    fn a_message_of_nothing_but_colours_is_shown_plain() {
        let text = "\x1b[31ma\x1b[32m<".repeat(5_000);
        assert_eq!(html(&text), "a&lt;".repeat(5_000));
        let links = "http://a ".repeat(5_000);
        assert_eq!(html(&links), links);
        let mut json = String::new();
        let text = format!("[{}0]", "0,".repeat(10_000));
        assert!(!push_json(&text, &mut json) && json.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_becomes_html(
            text in "(\u{1b}\\[[0-9;]{0,6}m|\u{1b}.|https?://[a-z\"'<>&./)]{0,9}|[<>\"'&=/ ]|script|\\PC){0,30}",
        ) {
            prop_assert_eq!(text_of(&html(&text)), ansi::strip(&text));
        }

        #[test]
        fn no_json_becomes_html(
            text in r#"[{\[]( ?("(<|>|&|'|/|https?://|a|\\"|\\u0022)*"|[0-9\[{}\]:,<&])){0,12}[}\]]"#,
        ) {
            let mut html = String::new();
            if push_json(&text, &mut html) {
                let summary = html.strip_prefix("<details>").and_then(|html| html.split_once("<p>"));
                prop_assert_eq!(text_of(summary.expect("a summary").0), text);
                text_of(&html);
            }
        }

        #[test]
        fn every_text_is_within_bounds(text in "(\u{1b}\\[[0-9;]{0,6}m|http://a|[<a ]|\\PC){0,60}", times in 1..500_usize) {
            let text = text.repeat(times);
            let plain = ansi::strip(&text).replace('&', "&amp;").replace('<', "&lt;");
            let length = html(&text).len();
            prop_assert!(is_within_bounds(&text, length) || length == plain.len());
        }
    }
}
