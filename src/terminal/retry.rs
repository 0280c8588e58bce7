//! Repeats a request until it is answered.

use std::time::{Duration, Instant};

use super::{
    Stop,
    backoff::Backoff,
    batch::{Batch, random_key},
    client::{Answer, AttemptError, Client, Post},
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
    pub(super) async fn message(&self, text: String) -> Result<(), Stop> {
        let key = random_key().map_err(|error| Stop::Failed(format!("no randomness: {error}")))?;
        let post = Post { path: "", key: Some(&key), body: text.into(), lines: None };
        self.repeat(&post).await.map(|_| ()).map_err(|(_, stop)| stop)
    }

    /// Publishes lines.
    ///
    /// # Errors
    /// When the server refuses them for good, or the limit is over.
    pub(super) async fn lines(&self, Batch { key, count, body }: &Batch) -> Result<Answer, Stop> {
        let body = body.clone();
        let post = Post { path: "?lines", key: Some(key), body, lines: Some(*count) };
        self.repeat(&post).await.map_err(|(_, stop)| stop)
    }

    /// Ends the stream; that it has ended already is a success, since an earlier attempt may have done so.
    /// A stream without messages cannot be ended: it gets `placeholder` as one.
    ///
    /// # Errors
    /// See [`message`](Self::message).
    pub(super) async fn end(&self, closing_text: &str, placeholder: &str) -> Result<(), Stop> {
        let body = closing_text.to_owned().into();
        let end = Post { path: "/end", key: None, body, lines: None };
        let mut ended = self.repeat(&end).await;
        if matches!(&ended, Err((slug, _)) if slug == "no-such-stream") {
            self.message(placeholder.to_owned()).await?;
            ended = self.repeat(&end).await;
        }
        match ended {
            Ok(_) => Ok(()),
            Err((slug, _)) if slug == "stream-ended" => Ok(()),
            Err((_, stop)) => Err(stop),
        }
    }

    async fn repeat(&self, post: &Post<'_>) -> Result<Answer, (String, Stop)> {
        let mut backoff = Backoff::default();
        let mut timeout = FIRST_TIMEOUT;
        let patience = Patience::new(self.limit);
        loop {
            match self.client.post(post, patience.cap(timeout)).await {
                Ok(answer) => {
                    self.status.recovered();
                    return Ok(answer);
                }
                Err(AttemptError::Refused { slug, text }) => {
                    return Err((slug, Stop::Refused(text)));
                }
                Err(AttemptError::Temporary { why, retry_after, timed_out }) => {
                    if timed_out {
                        timeout = (timeout * 2).min(MAX_TIMEOUT);
                    }
                    let pause = backoff.next_pause(retry_after);
                    if patience.is_over() {
                        return Err((String::new(), patience.stop(&why)));
                    }
                    self.status.wait(&why, patience.cap(pause)).await;
                }
            }
        }
    }
}

/// How much longer to try.
pub(super) struct Patience {
    limit: Option<Duration>,
    begun: Instant,
}

impl Patience {
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

    pub(super) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.begun.elapsed() >= limit)
    }

    pub(super) fn stop(&self, why: &str) -> Stop {
        let limit = self.limit.map(humantime::format_duration);
        let limit = limit.map_or_else(String::new, |limit| format!(" after {limit}"));
        Stop::GaveUp(format!("given up{limit}: {why}"))
    }
}
