//! JSON messages as HTML: as they are, with their keys set apart, and with a line for each key.
//!
//! Tokens are copied and never converted: numbers and strings stay as they were published.

use super::{
    content::{escape_into, split},
    rich::{is_within_bounds, push_linked},
};

/// The most arrays and objects inside each other.
const MAX_DEPTH: u32 = 32;

/// The kinds of tokens, as bits of a set of those that may come next.
const VALUE: u8 = 1;
const KEY: u8 = 2;
const COLON: u8 = 4;
const COMMA: u8 = 8;
const CLOSE: u8 = 16;

/// Whether a text may be an object or an array that is not empty.
pub(super) fn may_be_json(text: &str) -> bool {
    matches!(text.trim_ascii().as_bytes(), [b'{', _, .., b'}'] | [b'[', _, .., b']'])
}

/// Appends a message that is JSON, folded, or returns false. Its summary is the message as it was
/// published, which is also what its button copies.
pub(super) fn push_json(text: &str, html: &mut String) -> bool {
    let start = html.len();
    let is_shown = may_be_json(text)
        && push_folded(text, html).is_some()
        && is_within_bounds(text, html.len() - start);
    if !is_shown {
        html.truncate(start);
    }
    is_shown
}

fn push_folded(text: &str, html: &mut String) -> Option<()> {
    html.push_str("<details><summary>");
    push(text, false, html)?;
    html.push_str("</summary><p>");
    push(text, true, html)?;
    html.push_str(r#"</p><button type="button" class="copy">Copy</button></details>"#);
    Some(())
}

/// Appends JSON as HTML, with `<b>` around its keys: as it is, or `pretty`, with a line for each key and
/// each value of an array. `None` if the text is not JSON (RFC 8259); the HTML is then
/// incomplete.
fn push(text: &str, pretty: bool, html: &mut String) -> Option<()> {
    // A bit for each open bracket, the innermost last: 1 for an object. Before them is a 1.
    let mut open = 1_u64;
    let mut expected = VALUE;
    let mut rest = text;
    loop {
        let token = rest.trim_ascii_start();
        if !pretty {
            html.push_str(rest.get(..rest.len() - token.len())?);
        }
        let Some(&byte) = token.as_bytes().first() else {
            return (open == 1 && expected & COMMA != 0).then_some(());
        };
        let in_object = open & 1 == 1;
        let in_array = !in_object;
        let kind = match byte {
            b'}' | b']' => CLOSE,
            b',' => COMMA,
            b':' => COLON,
            b'"' => expected & KEY | VALUE,
            _ => VALUE,
        };
        if expected & kind == 0 {
            return None;
        }
        let is_key = kind & KEY != 0;
        let begins_line = match kind {
            CLOSE => expected & COMMA != 0,
            VALUE => in_array,
            _ => is_key,
        };
        if kind == CLOSE {
            if open == 1 || (byte == b'}') != in_object {
                return None;
            }
            open >>= 1;
        }
        if pretty && begins_line {
            html.push('\n');
            for _ in open.leading_zeros()..63 {
                html.push_str("  ");
            }
        }
        let mut length = 1;
        expected = match byte {
            b',' if open == 1 => return None,
            b',' if in_object => KEY,
            b',' | b':' => VALUE,
            b'{' | b'[' => {
                open = open << 1 | u64::from(byte == b'{');
                CLOSE | if byte == b'{' { KEY } else { VALUE }
            }
            b'"' => {
                length = string_length(token)?;
                if is_key { COLON } else { COMMA | CLOSE }
            }
            _ => {
                if kind == VALUE {
                    length = scalar_length(token)?;
                }
                COMMA | CLOSE
            }
        };
        if open >> MAX_DEPTH > 1 {
            return None;
        }
        let (token, after) = split(token, length);
        rest = after;
        if is_key {
            html.push_str("<b>");
        }
        if pretty && byte == b'"' {
            push_linked(token, &[], html);
        } else {
            escape_into(token, html);
        }
        if is_key {
            html.push_str("</b>");
        }
        if pretty && byte == b':' {
            html.push(' ');
        }
    }
}

/// The length of the string at the beginning of a text, with its quotes.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if b < b' ' => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of the number, `true`, `false` or `null` at the beginning of a text. Numbers are not checked:
/// a version that is folded is still shown as it is.
fn scalar_length(text: &str) -> Option<usize> {
    let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.');
    let length = text.bytes().take_while(is_part).count();
    let valid = match text.as_bytes().get(..length)? {
        [b'-' | b'0'..=b'9', ..] => true,
        word => matches!(word, b"true" | b"false" | b"null"),
    };
    valid.then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn html(text: &str, pretty: bool) -> Option<String> {
        let mut html = String::new();
        push(text, pretty, &mut html).map(|()| html)
    }

    #[test]
    fn keys_are_set_apart() {
        let text = r#" {"a": [1,{"b":"<x>"}], "c":{} } "#;
        assert_eq!(
            html(text, false).expect("JSON"),
            r#" {<b>"a"</b>: [1,{<b>"b"</b>:"&lt;x>"}], <b>"c"</b>:{} } "#
        );
        let pretty = "{\n  <b>\"a\"</b>: [\n    1,\n    {\n      <b>\"b\"</b>: \"&lt;x>\"\n    }\n  ],\n  <b>\"c\"</b>: {}\n}";
        assert_eq!(html(text, true).expect("JSON"), pretty);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "{",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1]"#,
            r"{a:1}",
            "[1 2]",
            "[INFO]",
            "[12:00:01] started [ok]",
            "[.5]",
            "[+1]",
            "[nul]",
            "[\"a\nb\"]",
            "[\"\u{1b}\"]",
            r#"["\"]"#,
            "{}{}",
            "[]]",
            "",
        ] {
            assert_eq!(html(text, true), None, "{text}");
        }
        let depth = MAX_DEPTH as usize;
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(html(&deep(depth), true).is_some());
        assert!(html(&deep(depth + 1), true).is_none());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[^<]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec(("[^<]{0,8}", inner), 0..5)
                    .prop_map(|pairs| serde_json::Map::from_iter(pairs).into()),
            ]
        })
    }

    /// The text of HTML whose only elements are `b`, with no `<` in its text.
    fn text_of(html: &str) -> String {
        html.replace("<b>", "").replace("</b>", "").replace("&amp;", "&")
    }

    proptest! {
        #[test]
        fn json_is_shown_whole(value in json()) {
            let text = value.to_string();
            prop_assert_eq!(text_of(&html(&text, false).expect("JSON")), text.clone());
            let pretty = text_of(&html(&text, true).expect("JSON"));
            prop_assert_eq!(pretty, serde_json::to_string_pretty(&value).expect("JSON"));
        }

        #[test]
        fn all_json_is_accepted(text in r#"[\[{]([\[\]{}:,]|"a"|1| ){0,12}[\]}]"#) {
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(html(&text, true).is_some(), valid, "{}", text);
        }
    }
}
