//! Links in texts: addresses that begin with `http://` or `https://`, and no other scheme.
//!
//! Found byte by byte: searching for strings would add more to the wasm than this module.

use std::ops::Range;

/// The first link in a text at or after a byte. Its ends are between characters.
pub(super) fn next_link(text: &str, from: usize) -> Option<Range<usize>> {
    let mut before = b' ';
    for (at, &b) in text.as_bytes().iter().enumerate().skip(from) {
        if b == b'h' && !before.is_ascii_alphanumeric() {
            let rest = text.as_bytes().get(at..).unwrap_or_default();
            let scheme = if rest.starts_with(b"https://") { 8 } else { 7 };
            if scheme == 8 || rest.starts_with(b"http://") {
                let length = address_length(rest.get(scheme..).unwrap_or_default());
                if length > 0 {
                    return Some(at..at + scheme + length);
                }
            }
        }
        before = b;
    }
    None
}

/// How many bytes of a text belong to an address without its scheme.
fn address_length(text: &[u8]) -> usize {
    // A bracket ends an address, unless it is one of a pair: `(https://example.com/a_(b))`.
    let mut open = 0_usize;
    let mut length = 0;
    // Punctuation at the end belongs to the sentence.
    let mut end = 0;
    while let Some(&b) = text.get(length) {
        match b {
            b'(' | b'[' => open += 1,
            b')' | b']' if open == 0 => break,
            b')' | b']' => open -= 1,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}' => break,
            // Also what is not ASCII: an address could otherwise look like another one.
            b if !b.is_ascii_graphic() => break,
            _ => {}
        }
        length += 1;
        if !matches!(b, b'.' | b',' | b':' | b';' | b'!' | b'?' | b'\'' | b'*' | b'(' | b'[') {
            end = length;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<&str> {
        let mut links = Vec::new();
        let mut at = 0;
        while let Some(link) = next_link(text, at) {
            at = link.end;
            links.push(&text[link]);
        }
        links
    }

    #[test]
    fn addresses_are_found() {
        for (text, expected) in [
            ("see https://example.com/a?b=c&d#e.", &["https://example.com/a?b=c&d#e"][..]),
            ("(http://a.example/b_(c))", &["http://a.example/b_(c)"]),
            ("http://[::1]:3000/, http://b", &["http://[::1]:3000/", "http://b"]),
            (
                "<http://a> \"http://b\" 'http://c' [d](http://d)!",
                &["http://a", "http://b", "http://c", "http://d"],
            ),
            ("é http://a/é http://b\u{202e}c http://c。", &["http://a/", "http://b", "http://c"]),
            ("http://a:b@c.example:80/", &["http://a:b@c.example:80/"]),
            ("a\nhttp://b\nc", &["http://b"]),
            ("http://", &[]),
            ("http://. http://) https:// http:/a", &[]),
            ("xhttp://a 1https://a", &[]),
            ("javascript:alert(1) data:text/html,a ftp://a file:///a //a mailto:a@b", &[]),
        ] {
            assert_eq!(links(text), expected, "{text}");
        }
    }
}
