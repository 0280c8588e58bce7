//! The text of a message, validated when it is received.

/// The text of a message: valid UTF-8, not empty, no larger than the server allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageText(String);

/// Why bytes are not a valid [`MessageText`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidMessage {
    /// There are no bytes.
    Empty,
    /// There are more bytes than the server allows.
    TooLarge,
    /// They are not UTF-8 from this byte offset on.
    NotUtf8(usize),
}

impl MessageText {
    /// Validates bytes, of which there may be at most `max`; they are stored unchanged.
    ///
    /// # Errors
    /// When there are none or too many, or they are not UTF-8.
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
