//! The text of a header: UTF-8, or Latin-1, as some libraries send it, or encoded words (RFC 2047).

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The text of a header's value.
pub(super) fn header_text(value: &[u8]) -> String {
    let text = decode_bytes(value);
    if !text.contains("=?") {
        return text;
    }
    let mut decoded = String::new();
    let (mut rest, mut after_word) = (text.as_str(), false);
    while let Some((before, word, after)) = next_word(rest) {
        // White space between two words is not part of the text (RFC 2047, section 6.2).
        if !after_word || !before.trim().is_empty() {
            decoded += before;
        }
        decoded += &word;
        (rest, after_word) = (after, true);
    }
    decoded + rest
}

fn decode_bytes(bytes: &[u8]) -> String {
    let latin1 = || bytes.iter().copied().map(char::from).collect();
    str::from_utf8(bytes).map_or_else(|_| latin1(), str::to_owned)
}

/// The text before the next encoded word that can be decoded, its decoded text, and the text after it.
fn next_word(text: &str) -> Option<(&str, String, &str)> {
    for (start, mark) in text.match_indices("=?") {
        // None of the parts has a question mark, so that no part of the text is looked at many times.
        let mut parts = text[start + mark.len()..].splitn(4, '?');
        let [Some(charset), Some(encoding), Some(encoded), Some(rest)] =
            std::array::from_fn(|_| parts.next())
        else {
            return None;
        };
        let Some(after) = rest.strip_prefix('=') else { continue };
        let bytes = match encoding {
            "B" | "b" => STANDARD.decode(encoded).ok(),
            "Q" | "q" => decode_quoted(encoded),
            _ => None,
        };
        let is_known = ["utf-8", "us-ascii", "iso-8859-1"]
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known));
        if let Some(bytes) = bytes.filter(|_| is_known) {
            return Some((&text[..start], decode_bytes(&bytes), after));
        }
    }
    None
}

/// Decodes the Q encoding: `_` is a space, and `=` precedes two hexadecimal digits.
fn decode_quoted(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_decoded() {
        for (value, text) in [
            (&b"plain"[..], "plain"),
            ("Grüße ✅".as_bytes(), "Grüße ✅"),
            (b"Gr\xfc\xdfe", "Grüße"),
            (b"=?UTF-8?B?8J+HqfCfh6o=?=", "🇩🇪"),
            (b"=?UTF-8?Q?=C3=84pfel_und_more?=", "Äpfel und more"),
            (b"=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
            (b"x =?iso-8859-1?Q?=FC?= y", "x ü y"),
            (b"=?utf-16?B?AAA=?= =?x", "=?utf-16?B?AAA=?= =?x"),
            (b"=?utf-8?B?!!?= =?utf-8?Q?=4?= =?utf-8?Q?ok?=", "=?utf-8?B?!!?= =?utf-8?Q?=4?= ok"),
            (b"what=?", "what=?"),
            (b"=?a?b", "=?a?b"),
        ] {
            assert_eq!(header_text(value), text, "{value:?}");
        }
    }
}
