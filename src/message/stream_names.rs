//! The names of several streams that are watched together, and the ids of their events.

use std::{fmt, str::FromStr};

use super::StreamName;

/// The names of the streams that are watched together, as in their URL: `a,b,c`.
///
/// 1 to 16 names, each once, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNames(Vec<StreamName>);

/// Why a text is not [`StreamNames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseStreamNamesError {
    /// One of the names is malformed.
    Malformed,
    /// There are more than [`StreamNames::MAX`].
    TooMany,
}

impl StreamNames {
    /// The maximum number of streams that are watched together.
    pub const MAX: usize = 16;

    /// The names as a slice, which is not empty.
    pub fn as_slice(&self) -> &[StreamName] {
        &self.0
    }

    /// The only name, if there is one.
    pub fn single(&self) -> Option<&StreamName> {
        match self.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for StreamNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

impl IntoIterator for StreamNames {
    type Item = StreamName;
    type IntoIter = std::vec::IntoIter<StreamName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<StreamName> for StreamNames {
    fn from(name: StreamName) -> Self {
        Self(vec![name])
    }
}

impl FromStr for StreamNames {
    type Err = ParseStreamNamesError;

    /// Names that are repeated count once.
    fn from_str(text: &str) -> Result<Self, ParseStreamNamesError> {
        let mut names = Vec::new();
        for name in text.split(',') {
            let name = name.parse().map_err(|_| ParseStreamNamesError::Malformed)?;
            if !names.contains(&name) {
                if names.len() == Self::MAX {
                    return Err(ParseStreamNamesError::TooMany);
                }
                names.push(name);
            }
        }
        Ok(Self(names))
    }
}

/// The stream of an event, and its id in that stream, from the id that the event has on the wire.
///
/// On an event stream of several, an id lists the cursor of each by name, the one of the event's own
/// stream first: `b=1763891234567-42,a=1763891230000-7`. (Names have no `=` and no `,`.) On one of a
/// single stream it is the id alone, and the name here is empty.
pub fn own_entry(id: &str) -> (&str, &str) {
    let (first, _) = id.split_once(',').unwrap_or((id, ""));
    first.split_once('=').unwrap_or(("", first))
}

/// The name of a stream in the address of its page.
pub fn name_in_address(page: &str) -> &str {
    page.rsplit_once('/').map_or(page, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_once_in_their_order() {
        for (text, expected) in
            [("a", "a"), ("b,a", "b,a"), ("a,a", "a"), ("c,a,c,b,a", "c,a,b"), ("a.,0_-", "a.,0_-")]
        {
            let names: StreamNames = text.parse().expect("names");
            assert_eq!(names.to_string(), expected);
            assert_eq!(names.single().is_some(), !expected.contains(','), "{text}");
        }
    }

    #[test]
    fn malformed_and_too_many_names_are_refused() {
        use ParseStreamNamesError::{Malformed, TooMany};
        for text in ["", ",", "a,", ",a", "a,,b", "a, b", "A,b", "a,b/c"] {
            assert_eq!(text.parse::<StreamNames>(), Err(Malformed), "{text:?}");
        }
        let names = |count: usize| {
            (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(",").parse::<StreamNames>()
        };
        assert!(names(StreamNames::MAX).is_ok());
        assert_eq!(names(StreamNames::MAX + 1), Err(TooMany));
        assert!(
            format!("{},s0", names(StreamNames::MAX).expect("names"))
                .parse::<StreamNames>()
                .is_ok()
        );
    }

    #[test]
    fn the_first_entry_of_an_id_is_that_of_the_event() {
        for (id, expected) in [
            ("1-2", ("", "1-2")),
            ("b=1-2", ("b", "1-2")),
            ("b=1-2,a=3-4", ("b", "1-2")),
            ("", ("", "")),
        ] {
            assert_eq!(own_entry(id), expected);
        }
    }
}
