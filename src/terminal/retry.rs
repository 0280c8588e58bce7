//! Repeats a request until it is answered.

use std::time::{Duration, Instant};

use super::{
    ExitError,
    backoff::Backoff,
    batch::{Batch, random_key},
    client::{AttemptError, Client, PublishRequest, PublishResponse},
    status::Status,
};

/// How long the first attempt may take.
const FIRST_TIMEOUT: Duration = Duration::from_mins(1);
/// How long any attempt may take: a server that limits the rate makes a batch of lines wait, and cutting
/// that off again and again would never get it stored.
const MAX_TIMEOUT: Duration = Duration::from_hours(1);

/// Repeats requests to a stream.
pub(super) struct Retrying<'a> {
    pub(super) client: &'a Client,
    pub(super) status: &'a Status,
    /// How long to try in vain. `None`: for ever.
    pub(super) limit: Option<Duration>,
}

impl Retrying<'_> {
    /// Publishes a message.
    ///
    /// # Errors
    /// When the server refuses it for good, the limit is over, or the system has no randomness for a key.
    pub(super) async fn message(&self, text: String) -> Result<(), ExitError> {
        let key =
            random_key().map_err(|error| ExitError::Failed(format!("no randomness: {error}")))?;
        let request = PublishRequest { path: "", key: Some(&key), body: text.into(), lines: None };
        self.repeat(&request).await.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Publishes lines.
    ///
    /// # Errors
    /// When the server refuses them for good, or the limit is over.
    pub(super) async fn lines(
        &self,
        Batch { key, count, body }: &Batch,
    ) -> Result<PublishResponse, ExitError> {
        let body = body.clone();
        let request = PublishRequest { path: "?lines", key: Some(key), body, lines: Some(*count) };
        self.repeat(&request).await.map_err(|(_, error)| error)
    }

    /// Ends the stream; that it has ended already is a success, since an earlier attempt may have done so.
    /// A stream without messages cannot be ended: it gets `placeholder` as one.
    ///
    /// # Errors
    /// See [`message`](Self::message).
    pub(super) async fn end(&self, closing_text: &str, placeholder: &str) -> Result<(), ExitError> {
        let body = closing_text.to_owned().into();
        let end = PublishRequest { path: "/end", key: None, body, lines: None };
        let mut ended = self.repeat(&end).await;
        if matches!(&ended, Err((slug, _)) if slug == "no-such-stream") {
            self.message(placeholder.to_owned()).await?;
            ended = self.repeat(&end).await;
        }
        match ended {
            Ok(_) => Ok(()),
            Err((slug, _)) if slug == "stream-ended" => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    async fn repeat(
        &self,
        request: &PublishRequest<'_>,
    ) -> Result<PublishResponse, (String, ExitError)> {
        let mut backoff = Backoff::default();
        let mut timeout = FIRST_TIMEOUT;
        let deadline = Deadline::new(self.limit);
        loop {
            match self.client.post(request, deadline.cap(timeout)).await {
                Ok(answer) => {
                    self.status.recovered();
                    return Ok(answer);
                }
                Err(AttemptError::Refused { slug, text }) => {
                    return Err((slug, ExitError::Refused(text)));
                }
                Err(AttemptError::Temporary { why, retry_after, timed_out }) => {
                    if timed_out {
                        timeout = (timeout * 2).min(MAX_TIMEOUT);
                    }
                    let pause = backoff.next_pause(retry_after);
                    if deadline.has_passed() {
                        return Err((String::new(), deadline.error(&why)));
                    }
                    self.status.wait(&why, deadline.cap(pause)).await;
                }
            }
        }
    }
}

/// How much longer to try.
pub(super) struct Deadline {
    limit: Option<Duration>,
    begun: Instant,
}

impl Deadline {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, begun: Instant::now() }
    }

    /// The pause, or what is left.
    pub(super) fn cap(&self, pause: Duration) -> Duration {
        // An attempt needs a moment, even the last one.
        const LEAST: Duration = Duration::from_millis(100);
        let left = self.limit.map(|limit| limit.saturating_sub(self.begun.elapsed()));
        left.map_or(pause, |left| left.max(LEAST).min(pause))
    }

    pub(super) fn has_passed(&self) -> bool {
        self.limit.is_some_and(|limit| self.begun.elapsed() >= limit)
    }

    pub(super) fn error(&self, why: &str) -> ExitError {
        let limit = self.limit.map(humantime::format_duration);
        let limit = limit.map_or_else(String::new, |limit| format!(" after {limit}"));
        ExitError::GaveUp(format!("given up{limit}: {why}"))
    }
}
