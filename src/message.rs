//! What travels from a server to its readers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How long a stream may be silent before the server says `ping`, in milliseconds.
///
/// Both sides know it: the server keeps it, the page takes a connection for dead when two and a
/// half of them pass without a word.
pub const PING_INTERVAL_MS: u64 = 15_000;

/// The `event:` field of a message.
pub const NEW_MESSAGE: &str = "new_message";
/// The `event:` field of a stream's last message.
pub const END_EVENT: &str = "end_event";
/// The `event:` field that says: the cursor is not in the log, what follows is everything there is.
pub const RESET: &str = "reset";
/// The `event:` field that breaks a silence. A comment would do for proxies, but JavaScript does
/// not see comments.
pub const PING: &str = "ping";

/// What a stream says at its end unless it is given something better.
pub const CLOSING_TEXT: &str = "End of the stream";

/// When a message was accepted, and its place in its stream: `1763891234567-42`.
///
/// Sequences rise strictly within a stream and may have gaps. Clients treat the text as opaque and
/// hand it back; our own page reads the time from it, so that the wire needs no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// When the message was accepted, in milliseconds since the Unix epoch.
    pub millis: u64,
    /// The place in the stream, from 1.
    pub seq: u64,
}

impl EventId {
    /// The place before the first message of any stream, for a reader of one that has none yet. No
    /// message has this id.
    pub const BEGINNING: Self = Self { millis: 0, seq: 0 };
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.seq)
    }
}

/// The text is not an [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    /// Takes exactly what [`Display`](fmt::Display) gives: no sign, no leading zero, no space. An
    /// id has one spelling, so that two ids are equal when their texts are.
    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let (millis, seq) = text.split_once('-').ok_or(ParseEventIdError)?;
        Ok(Self { millis: number(millis)?, seq: number(seq)? })
    }
}

fn number(digits: &str) -> Result<u64, ParseEventIdError> {
    let canonical =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if !canonical {
        return Err(ParseEventIdError);
    }
    digits.parse().map_err(|_| ParseEventIdError)
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|ParseEventIdError| de::Error::custom("not an id"))
    }
}

/// The name of a stream: what stands for it in an address.
///
/// 1 to 64 of `a-z 0-9 - _ .`, beginning with a letter or digit: nothing that a shell, an address
/// or a page could take for more than a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct StreamName(String);

impl StreamName {
    /// The most characters a name may have.
    pub const MAX: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a [`StreamName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseStreamNameError;

impl FromStr for StreamName {
    type Err = ParseStreamNameError;

    fn from_str(text: &str) -> Result<Self, ParseStreamNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let begins_well = text.bytes().next().is_some_and(plain);
        let goes_on_well = text.bytes().all(|b| plain(b) || b"-_.".contains(&b));
        if begins_well && goes_on_well && text.len() <= Self::MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseStreamNameError)
        }
    }
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its time and place.
    pub id: EventId,
    /// Its text, which may hold line breaks.
    pub data: String,
}

/// A stream as one read found it: what a page is rendered with, and where its subscription begins.
///
/// Messages and cursor come from the same read, so that nothing falls between the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The path of the event stream, to which the cursor is added.
    pub events: String,
    /// The newest messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether the log holds messages before the first of these.
    pub older: bool,
    /// The end of the stream, once it has come.
    pub end: Option<Message>,
    /// How many milliseconds lie between a message and the next, where ids carry the beginning of
    /// a run and not the time of the message: in the counter. Otherwise 0.
    pub pace: u64,
}

/// A stream as the list of all streams shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: StreamName,
    /// How many messages it holds; the end is none of them.
    pub messages: u64,
    /// How many readers are connected.
    pub watchers: usize,
    /// Whether it has ended.
    pub ended: bool,
    /// The newest message, or the end; of a long one the beginning.
    pub last: Option<Message>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_its_text(millis: u64, seq: u64) {
            let id = EventId { millis, seq };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn an_id_has_one_spelling(text in "[0-9+ -]{0,24}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_not_an_id() {
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "01-2", "1-2 ", "1-x", "१-1"] {
            assert_eq!(text.parse::<EventId>(), Err(ParseEventIdError), "{text:?}");
        }
        assert_eq!("18446744073709551616-1".parse::<EventId>(), Err(ParseEventIdError));
    }

    #[test]
    fn what_is_a_name() {
        let longest = "a".repeat(StreamName::MAX);
        for text in ["a", "0", "ci", "build-42_x.log", "a..", longest.as_str()] {
            assert_eq!(
                text.parse::<StreamName>().map(|name| name.to_string()),
                Ok(text.to_owned())
            );
        }
        let too_long = "a".repeat(StreamName::MAX + 1);
        for text in
            ["", ".", "..", "-a", "_a", ".a", "A", "a b", "a/b", "é", "a\n", "a%20", &too_long]
        {
            assert_eq!(text.parse::<StreamName>(), Err(ParseStreamNameError), "{text:?}");
        }
    }
}
