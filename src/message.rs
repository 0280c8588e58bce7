//! Messages, event ids, stream names and snapshots: the types that server and page share.

mod stream_names;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::stream_names::{ParseStreamNamesError, StreamNames, name_in_address, own_entry};

/// How long an event stream may be silent before the server sends a `ping`, in milliseconds.
///
/// The page closes a connection on which nothing arrived for two and a half of these intervals.
pub const PING_INTERVAL_MS: u64 = 15_000;

/// The `event:` field of a message.
pub const NEW_MESSAGE: &str = "new_message";
/// The `event:` field of a stream's last message.
pub const END_EVENT: &str = "end_event";
/// The `event:` field of a reset: the cursor is not in the log, and all messages of the log follow.
pub const RESET: &str = "reset";
/// The `event:` field of a keep-alive. For proxies a comment would be enough, but JavaScript does not
/// receive comments.
pub const PING: &str = "ping";
/// The data of a `ping` of a server that cannot reach its store: new messages may be missing. That of
/// any other `ping` is `{}`.
pub const STALE_PING: &str = r#"{"stale":true}"#;
/// The `event:` field of the number of watchers of a stream, for readers who ask for it.
pub const WATCHERS: &str = "watchers";

/// The `event:` field of a stream in the list of the streams, as it is now.
pub const STREAM: &str = "stream";
/// The `event:` field of a stream that is no longer in the list.
pub const DELETED: &str = "deleted";
/// The `event:` field that follows all streams there are in the list: from here on, changes.
pub const LISTED: &str = "listed";

/// The closing text of a stream that is ended without one.
pub const CLOSING_TEXT: &str = "End of the stream";

/// Why a reader is sent a `reset`, in the `reason` of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor is not in the log: it never was, or it belongs to another generation.
    UnknownCursor,
    /// Messages after the cursor were trimmed.
    Trimmed,
    /// The stream was deleted. What follows belongs to a new generation of it.
    Deleted,
    /// The reader's token has expired: nothing follows, and the cursor stays valid.
    Expired,
}

impl ResetReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::UnknownCursor, Self::Trimmed, Self::Deleted, Self::Expired];

    /// The reason on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCursor => "unknown-cursor",
            Self::Trimmed => "trimmed",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

/// The id of an event: when the message was accepted, and its sequence: `1763891234567-42`.
///
/// Sequences rise strictly within a stream and may have gaps. Clients treat the text as opaque and
/// send it back as the cursor; the page reads the time from it, so that events need no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// When the message was accepted, in milliseconds since the Unix epoch.
    pub millis: u64,
    /// The sequence in the stream, from 1.
    pub seq: u64,
}

impl EventId {
    /// `0-0`, the cursor before the first message of any stream, for a reader of an empty one. No
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

    /// Accepts only what [`Display`](fmt::Display) writes: no sign, no leading zero, no space. Each id
    /// has one spelling, so that two ids are equal exactly when their texts are.
    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let (millis, seq) = text.split_once('-').ok_or(ParseEventIdError)?;
        Ok(Self { millis: parse_number(millis)?, seq: parse_number(seq)? })
    }
}

fn parse_number(digits: &str) -> Result<u64, ParseEventIdError> {
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

/// The name of a stream, as in its URL.
///
/// 1 to 64 of `a-z 0-9 - _ .`, beginning with a letter or digit: no character that needs escaping in a
/// shell, a URL or HTML.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct StreamName(String);

impl StreamName {
    /// The maximum length of a name, in characters (which are bytes).
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

impl From<StreamName> for String {
    fn from(StreamName(name): StreamName) -> Self {
        name
    }
}

/// The text is not a [`StreamName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseStreamNameError;

impl FromStr for StreamName {
    type Err = ParseStreamNameError;

    fn from_str(text: &str) -> Result<Self, ParseStreamNameError> {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid_start = text.bytes().next().is_some_and(alphanumeric);
        let valid_bytes = text.bytes().all(|b| alphanumeric(b) || b"-_.".contains(&b));
        if valid_start && valid_bytes && text.len() <= Self::MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseStreamNameError)
        }
    }
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its id.
    pub id: EventId,
    /// Its text, which may hold line breaks.
    pub data: String,
}

/// The state of a stream at one read: a page is rendered with it, and its subscription starts after it.
///
/// Messages and cursor come from the same read, so that no message is missed between the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The address of the event stream, without the cursor.
    pub events: String,
    /// The cursor, where it is not that of the last message: of the list of the streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<EventId>,
    /// The address of the page of the stream, or of each of several that are shown together. None for the
    /// counter, which stores nothing.
    pub pages: Vec<String>,
    /// The newest messages, oldest first, and the end of each stream that has ended.
    pub messages: Vec<SnapshotMessage>,
    /// Whether the log holds messages before the first of these, if they are of a single stream.
    pub older: bool,
}

impl Snapshot {
    /// Whether the stream has ended; where there are several, whether all have.
    pub fn has_ended(&self) -> bool {
        let ends = self.messages.iter().filter(|message| message.end).count();
        ends > 0 && ends >= self.pages.len()
    }
}

/// A message in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotMessage {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// The index of its stream, where several are shown together.
    #[serde(skip_serializing_if = "is_first")]
    pub stream: usize,
    /// Whether it is the end of its stream.
    #[serde(skip_serializing_if = "is_false")]
    pub end: bool,
}

impl From<Message> for SnapshotMessage {
    fn from(message: Message) -> Self {
        Self { message, stream: 0, end: false }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(stream: &usize) -> bool {
    *stream == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(end: &bool) -> bool {
    !end
}

/// A stream in the list of all streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: StreamName,
    /// The number of its messages, without the end.
    pub messages: u64,
    /// The number of connected readers.
    pub watchers: usize,
    /// Whether it has ended.
    pub ended: bool,
    /// The newest message, or the end. A long text is cut.
    pub last: Option<Message>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn several_streams_have_ended_when_all_have() {
        let id = EventId { millis: 1, seq: 1 };
        let message = |(stream, end)| {
            let message = Message { id, data: String::new() };
            SnapshotMessage { message, stream, end }
        };
        let has_ended = |pages: &[&str], messages: &[(usize, bool)]| {
            let pages = pages.iter().map(ToString::to_string).collect();
            let messages = messages.iter().copied().map(message).collect();
            Snapshot { pages, messages, ..Snapshot::default() }.has_ended()
        };
        assert!(!has_ended(&[], &[(0, false)]));
        assert!(!has_ended(&["/streams/a"], &[(0, false)]));
        assert!(has_ended(&["/streams/a"], &[(0, false), (0, true)]));
        let both = ["/streams/a", "/streams/b"];
        assert!(!has_ended(&both, &[(0, true), (1, false)]));
        assert!(has_ended(&both, &[(0, true), (1, false), (1, true)]));
    }

    proptest! {
        #[test]
        fn an_id_round_trips_through_its_text(millis: u64, seq: u64) {
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
    fn malformed_ids_are_refused() {
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "01-2", "1-2 ", "1-x", "१-1"] {
            assert_eq!(text.parse::<EventId>(), Err(ParseEventIdError), "{text:?}");
        }
        assert_eq!("18446744073709551616-1".parse::<EventId>(), Err(ParseEventIdError));
    }

    #[test]
    fn stream_names_are_validated() {
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
