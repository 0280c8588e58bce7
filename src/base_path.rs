//! The base path: the path below which a server is reached behind a proxy (`--base-path`), and from
//! which every address begins, on both sides.

use std::str::FromStr;

use serde::Serialize;

/// The path below which everything of a server is: like `/tidings`, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BasePath(String);

impl BasePath {
    /// The base path that the server wrote into a page.
    pub(crate) fn of_page(text: String) -> Self {
        Self(text)
    }

    /// The address of what the server has at `path`, which begins with a slash.
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The path that an address leads to, without the base; `None` for an address outside of it.
    pub fn strip<'a>(&self, address: &'a str) -> Option<&'a str> {
        match address.strip_prefix(&self.0)? {
            "" => Some("/"),
            path => path.starts_with('/').then_some(path),
        }
    }

    /// Whether the server is at the root of its host.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BasePath {
    type Err = &'static str;

    /// Accepts only characters that need no escaping in a URL (RFC 3986, section 2.3), HTML or a shell:
    /// each base path has one spelling. Browsers resolve the segments `.` and `..` before they request.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be a path like /tidings: it begins with a slash, does not end with \
                                one, and has only letters, digits and - . _ ~ between slashes";
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_segment = |segment: &str| {
            !["", ".", ".."].contains(&segment) && segment.bytes().all(is_unreserved)
        };
        let segments = text.strip_prefix('/').ok_or(EXPECTED)?;
        if segments.split('/').all(is_segment) { Ok(Self(text.into())) } else { Err(EXPECTED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_validated() {
        for text in ["/tidings", "/a", "/A/b-c/d.e_f~g", "/..a"] {
            assert_eq!(text.parse::<BasePath>().expect("valid").as_str(), text);
        }
        for text in [
            "",
            "/",
            "tidings",
            "/tidings/",
            "//tidings",
            "/a//b",
            "/.",
            "/a/../b",
            "/a b",
            "/a?b",
            "/a#b",
            "/%61",
            "/ü",
            "/a\"",
            "/<a>",
            "/a:b",
            "/{a}",
            "http://a/b",
        ] {
            assert!(text.parse::<BasePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_stripped_of_the_base_it_begins_with() {
        let base: BasePath = "/a/b".parse().expect("valid");
        for (address, path) in [
            ("/a/b", Some("/")),
            ("/a/b/", Some("/")),
            ("/a/b/streams", Some("/streams")),
            ("/a/b//x", Some("//x")),
            ("/a/bc", None),
            ("/a", None),
            ("/A/b/streams", None),
            ("/streams", None),
            ("/x/a/b", None),
        ] {
            assert_eq!(base.strip(address), path, "{address}");
        }
        assert_eq!(BasePath::default().strip("/streams"), Some("/streams"));
        assert_eq!(base.address("/streams"), "/a/b/streams");
    }
}
