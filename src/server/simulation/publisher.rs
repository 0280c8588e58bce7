//! A simulated publisher: a client that retries as the responses allow.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::sleep;

use crate::{
    message::{EventId, StreamName},
    server::{
        error::Problem,
        log::{
            AppendAllError, AppendError, IdempotencyKey, Log, faulty::Faulty,
            message_text::MessageText,
        },
    },
};

pub(super) struct PublishingClient {
    pub(super) log: Log,
    pub(super) engine: Faulty,
    pub(super) stream: StreamName,
    pub(super) rng: fastrand::Rng,
    pub(super) name: usize,
    /// Number of actions.
    pub(super) actions: usize,
    /// Whether it wrongly treats an unknown outcome as a refusal.
    pub(super) retries_unknown: bool,
    /// Number of texts that it has created.
    pub(super) texts: usize,
}

/// How a client may retry after a problem.
enum RetryAdvice {
    /// Nothing was stored: a retry is safe.
    Retry,
    /// It may have been stored: a retry is safe with the same key.
    RetryWithSameKey,
    /// A retry cannot succeed.
    Stop,
}

impl PublishingClient {
    /// Runs its actions, and checks after each append that the acknowledged messages are stored.
    pub(super) async fn run(mut self) -> Result<(), String> {
        for _ in 0..self.actions {
            let pause = if self.rng.bool() { 0 } else { self.rng.u64(0..400) };
            sleep(Duration::from_millis(pause)).await;
            match self.rng.u8(0..40) {
                0 => drop(self.log.end(self.stream.clone(), data("the end")).await),
                1 => drop(self.log.delete(self.stream.clone()).await),
                2..10 => self.publish_lines().await?,
                with => self.publish(1, with < 36).await?,
            }
        }
        Ok(())
    }

    /// Publishes a batch, and retries until the outcome is known.
    async fn publish(&mut self, lines: usize, with_key: bool) -> Result<(), String> {
        let texts: Vec<_> = (0..lines).map(|_| self.text()).collect();
        let (mut key, mut unknown) = (self.key(with_key), false);
        // A client stops after a number of attempts.
        for _ in 0..30 {
            let batch = texts.iter().map(|text| data(text)).collect();
            match self.log.append_all(self.stream.clone(), batch, key.clone()).await {
                Ok(appended) => return self.check_stored(&texts, appended.last),
                Err(failed) => match self.advice(failed.error) {
                    // This attempt stored nothing, but an earlier one may have.
                    RetryAdvice::Retry if unknown => {}
                    RetryAdvice::Retry => key = self.key(with_key),
                    RetryAdvice::RetryWithSameKey if with_key => unknown = true,
                    RetryAdvice::RetryWithSameKey | RetryAdvice::Stop => return Ok(()),
                },
            }
            sleep(Duration::from_millis(self.rng.u64(10..300))).await;
        }
        Ok(())
    }

    /// Publishes lines: with a key as a whole, without one a prefix, and then the rest.
    async fn publish_lines(&mut self) -> Result<(), String> {
        let lines = self.rng.usize(2..6);
        if self.rng.bool() {
            return self.publish(lines, true).await;
        }
        let mut texts: Vec<_> = (0..lines).map(|_| self.text()).collect();
        for _ in 0..30 {
            let batch = texts.iter().map(|text| data(text)).collect();
            let AppendAllError { stored, last, error } =
                match self.log.append_all(self.stream.clone(), batch, None).await {
                    Ok(appended) => return self.check_stored(&texts, appended.last),
                    Err(failed) => failed,
                };
            let rest = texts.split_off(stored);
            if let Some(last) = last {
                self.check_stored(&texts, last)?;
            }
            if !matches!(self.advice(error), RetryAdvice::Retry) {
                return Ok(());
            }
            texts = rest;
            sleep(Duration::from_millis(self.rng.u64(10..300))).await;
        }
        Ok(())
    }

    /// A unique text.
    fn text(&mut self) -> String {
        self.texts += 1;
        format!("{}/{}", self.name, self.texts)
    }

    fn key(&mut self, with_key: bool) -> Option<IdempotencyKey> {
        with_key.then(|| IdempotencyKey(format!("{}/{}", self.name, self.rng.u64(..))))
    }

    /// The advice of the response to an error.
    fn advice(&self, error: AppendError) -> RetryAdvice {
        match Problem::from(error).status() {
            StatusCode::SERVICE_UNAVAILABLE => RetryAdvice::Retry,
            StatusCode::INTERNAL_SERVER_ERROR if self.retries_unknown => RetryAdvice::Retry,
            StatusCode::INTERNAL_SERVER_ERROR => RetryAdvice::RetryWithSameKey,
            _ => RetryAdvice::Stop,
        }
    }

    /// Checks that these texts are in the log, contiguous, up to the id that was acknowledged.
    fn check_stored(&self, texts: &[String], last: EventId) -> Result<(), String> {
        let stored = self.engine.with_generations(&self.stream, |generations| {
            generations.iter().any(|record| {
                let last = record.messages.iter().position(|message| message.id == last);
                let first = last.and_then(|last| (last + 1).checked_sub(texts.len()));
                first.is_some_and(|first| {
                    let stored = record.messages[first..].iter().take(texts.len());
                    stored.map(|message| &message.data).eq(texts)
                })
            })
        });
        if stored { Ok(()) } else { Err(format!("{texts:?} was acknowledged and is not stored")) }
    }
}

fn data(text: &str) -> MessageText {
    MessageText::new(text.as_bytes().to_vec(), usize::MAX).expect("data")
}
