//! What a message says, checked where it comes in.

/// The text of a message: UTF-8, not empty, no larger than the server allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageText(String);

/// The bytes are not [`MessageText`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidMessage {
    /// There are none.
    Empty,
    /// There are more than the server allows.
    TooLarge,
    /// They are not UTF-8, from this place on.
    NotUtf8(usize),
}

impl MessageText {
    /// Takes the bytes as they are, if there are at most `max`.
    pub(crate) fn new(bytes: Vec<u8>, max: usize) -> Result<Self, InvalidMessage> {
        match bytes.len() {
            0 => Err(InvalidMessage::Empty),
            length if length > max => Err(InvalidMessage::TooLarge),
            _ => String::from_utf8(bytes)
                .map(Self)
                .map_err(|error| InvalidMessage::NotUtf8(error.utf8_error().valid_up_to())),
        }
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
