//! Writing to streams: what every endpoint and form that writes has in common.

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

/// What it takes to write to streams.
pub(crate) struct Publishing {
    pub(crate) bodies: BodyReader,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    /// The most bytes a message may have.
    pub(crate) max_message_bytes: usize,
}

impl Publishing {
    /// Reads a body of at most one message.
    pub(super) async fn read(&self, client: Client, body: Body) -> Result<ReadBody, Problem> {
        self.bodies.read(client, body, self.max_message_bytes, || self.too_large()).await
    }

    /// The bytes as the text of a message.
    pub(crate) fn text(&self, bytes: Vec<u8>) -> Result<MessageText, Problem> {
        MessageText::new(bytes, self.max_message_bytes).map_err(|error| match error {
            InvalidMessage::Empty => Problem::new(
                problem::EMPTY_MESSAGE,
                "There is nothing in it. In a terminal, the body is the message: curl -d 'hello' …",
            ),
            InvalidMessage::TooLarge => self.too_large(),
            InvalidMessage::NotUtf8(offset) => Problem::new(
                problem::NOT_UTF8,
                format!("The body is not UTF-8 from byte {offset} on; send text in UTF-8."),
            ),
        })
    }

    pub(crate) fn too_large(&self) -> Problem {
        let max = self.max_message_bytes;
        let detail = format!("A message has at most {max} bytes here; send less at a time.");
        Problem::new(problem::MESSAGE_TOO_LARGE, detail)
    }

    /// Publishes one message, for which memory is reserved.
    pub(crate) async fn publish(
        &self,
        may: &MayPublish,
        text: MessageText,
        key: Option<IdempotencyKey>,
        memory: impl Send + 'static,
    ) -> Result<Appended, Problem> {
        self.admit(may)?;
        let (log, stream) = (self.log.clone(), may.stream().clone());
        let append = async move { log.append(stream, text, key).await };
        let appended = hold_until_done(memory, append).await?;
        if appended.replayed {
            self.metrics.replayed();
        }
        Ok(appended)
    }

    /// Ends a stream with these bytes as its closing text, if there are any. Memory is reserved for
    /// them.
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

    /// Counts one write, unless the server drains or the publisher has to wait.
    pub(super) fn admit(&self, may: &MayPublish) -> Result<(), Problem> {
        self.bodies.refuse_when_draining()?;
        self.limits.publish(may.publisher())
    }
}
