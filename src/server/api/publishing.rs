//! Writing to streams: what every endpoint and form that writes shares.

use axum::body::Body;

use super::body::{BodyReader, ReadBody};
use crate::{
    message::{CLOSING_TEXT, EventId},
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Limits, MayPublish, hold_until_done},
        log::{
            Appended, IdempotencyKey, Log,
            message_text::{InvalidMessage, MessageText},
        },
        observe::Metrics,
    },
};

/// What the endpoints and forms that write share.
pub(crate) struct Publishing {
    pub(crate) bodies: BodyReader,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    /// The most bytes a message may have.
    pub(crate) max_message_bytes: usize,
}

impl Publishing {
    /// Reads a body of at most the size of one message.
    ///
    /// # Errors
    /// See [`BodyReader::read`].
    pub(super) async fn read(&self, client: Client, body: Body) -> Result<ReadBody, Problem> {
        self.bodies.read(client, body, self.max_message_bytes, || self.too_large()).await
    }

    /// Checks that the bytes are the text of a message.
    ///
    /// # Errors
    /// When they are empty, too many or not UTF-8.
    pub(crate) fn text(&self, bytes: Vec<u8>) -> Result<MessageText, Problem> {
        MessageText::new(bytes, self.max_message_bytes).map_err(|error| match error {
            InvalidMessage::Empty => Problem::new(
                problem::EMPTY_MESSAGE,
                "The body is empty, and the body is the message: curl -d 'hello' …",
            ),
            InvalidMessage::TooLarge => self.too_large(),
            InvalidMessage::NotUtf8(offset) => Problem::new(
                problem::NOT_UTF8,
                format!("The body is not valid UTF-8 at byte {offset}. Send text in UTF-8."),
            ),
        })
    }

    /// The problem for a message that is too large.
    pub(crate) fn too_large(&self) -> Problem {
        let max = self.max_message_bytes;
        let detail =
            format!("A message may have at most {max} bytes on this server. Send a shorter one.");
        Problem::new(problem::MESSAGE_TOO_LARGE, detail)
    }

    /// Publishes one message. The reservation `memory` is held until the message is stored.
    ///
    /// # Errors
    /// When the server drains, the rate limit is exceeded, or the log refuses the message.
    pub(crate) async fn publish(
        &self,
        may: &MayPublish,
        text: MessageText,
        key: Option<IdempotencyKey>,
        memory: impl Send + 'static,
    ) -> Result<Appended, Problem> {
        self.admit(may)?;
        self.publish_admitted(may, text, key, memory).await
    }

    /// Publishes one message that [`admit`](Self::admit) has counted. The reservation `memory` is held until
    /// the message is stored.
    ///
    /// # Errors
    /// When the log refuses the message.
    pub(super) async fn publish_admitted(
        &self,
        may: &MayPublish,
        text: MessageText,
        key: Option<IdempotencyKey>,
        memory: impl Send + 'static,
    ) -> Result<Appended, Problem> {
        let (log, stream) = (self.log.clone(), may.stream().clone());
        let append = async move { log.append(stream, text, key).await };
        let appended = hold_until_done(memory, append).await?;
        if appended.replayed {
            self.metrics.replayed();
        }
        Ok(appended)
    }

    /// Ends a stream with this closing text, or with the default one if it is empty. The reservation
    /// `memory` is held until the end is stored.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), and when the text is too large or not UTF-8.
    pub(crate) async fn end(
        &self,
        may: &MayPublish,
        closing_text: Vec<u8>,
        memory: impl Send + 'static,
    ) -> Result<EventId, Problem> {
        let text = if closing_text.is_empty() { CLOSING_TEXT.into() } else { closing_text };
        let text = self.text(text)?;
        self.admit(may)?;
        let (log, stream) = (self.log.clone(), may.stream().clone());
        let end = async move { log.end(stream, text).await };
        Ok(hold_until_done(memory, end).await?)
    }

    /// Counts one write against the publisher's rate limit.
    ///
    /// # Errors
    /// When the server drains or the rate limit is exceeded.
    pub(super) fn admit(&self, may: &MayPublish) -> Result<(), Problem> {
        self.bodies.refuse_when_draining()?;
        self.limits.publish(may.publisher())
    }
}
