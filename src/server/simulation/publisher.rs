//! A publisher: a client that does what the answers say.

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
    pub(super) chance: fastrand::Rng,
    pub(super) name: usize,
    /// How often it does something.
    pub(super) acts: usize,
    /// Whether it takes an unknown outcome for a refusal.
    pub(super) mistaken: bool,
    /// How many texts it has made.
    pub(super) texts: usize,
}

/// What a client makes of a problem.
enum Advice {
    /// Nothing was stored: it may be sent again.
    Again,
    /// It may have been stored: it may be sent again with the same key.
    WithSameKey,
    /// It is of no use to send it again.
    Stop,
}

impl PublishingClient {
    /// Acts, and checks afterwards that what was acknowledged was stored once.
    pub(super) async fn run(mut self) -> Result<(), String> {
        for _ in 0..self.acts {
            let pause = if self.chance.bool() { 0 } else { self.chance.u64(0..400) };
            sleep(Duration::from_millis(pause)).await;
            match self.chance.u8(0..40) {
                0 => drop(self.log.end(self.stream.clone(), data("the end")).await),
                1 => drop(self.log.delete(self.stream.clone()).await),
                2..10 => self.publish_lines().await?,
                with => self.publish(1, with < 36).await?,
            }
        }
        Ok(())
    }

    /// A message, or lines with a key, until the outcome is known.
    async fn publish(&mut self, lines: usize, with_key: bool) -> Result<(), String> {
        let texts: Vec<_> = (0..lines).map(|_| self.text()).collect();
        let (mut key, mut unknown) = (self.key(with_key), false);
        // No client tries for ever.
        for _ in 0..30 {
            let batch = texts.iter().map(|text| data(text)).collect();
            match self.log.append_all(self.stream.clone(), batch, key.clone()).await {
                Ok(appended) => return self.is_stored(&texts, appended.last),
                Err(failed) => match self.advice(failed.error) {
                    // That this attempt did nothing says nothing of the one before.
                    Advice::Again if unknown => {}
                    Advice::Again => key = self.key(with_key),
                    Advice::WithSameKey if with_key => unknown = true,
                    Advice::WithSameKey | Advice::Stop => return Ok(()),
                },
            }
            sleep(Duration::from_millis(self.chance.u64(10..300))).await;
        }
        Ok(())
    }

    /// Some lines: with a key as a whole, without one as far as it goes, and then the rest.
    async fn publish_lines(&mut self) -> Result<(), String> {
        let lines = self.chance.usize(2..6);
        if self.chance.bool() {
            return self.publish(lines, true).await;
        }
        let mut texts: Vec<_> = (0..lines).map(|_| self.text()).collect();
        for _ in 0..30 {
            let batch = texts.iter().map(|text| data(text)).collect();
            let AppendAllError { stored, last, error } =
                match self.log.append_all(self.stream.clone(), batch, None).await {
                    Ok(appended) => return self.is_stored(&texts, appended.last),
                    Err(failed) => failed,
                };
            let rest = texts.split_off(stored);
            if let Some(last) = last {
                self.is_stored(&texts, last)?;
            }
            if !matches!(self.advice(error), Advice::Again) {
                return Ok(());
            }
            texts = rest;
            sleep(Duration::from_millis(self.chance.u64(10..300))).await;
        }
        Ok(())
    }

    /// No two are alike.
    fn text(&mut self) -> String {
        self.texts += 1;
        format!("{}/{}", self.name, self.texts)
    }

    fn key(&mut self, with_key: bool) -> Option<IdempotencyKey> {
        with_key.then(|| IdempotencyKey(format!("{}/{}", self.name, self.chance.u64(..))))
    }

    /// What the answer says, as a client sees it.
    fn advice(&self, error: AppendError) -> Advice {
        match Problem::from(error).status() {
            StatusCode::SERVICE_UNAVAILABLE => Advice::Again,
            StatusCode::INTERNAL_SERVER_ERROR if self.mistaken => Advice::Again,
            StatusCode::INTERNAL_SERVER_ERROR => Advice::WithSameKey,
            _ => Advice::Stop,
        }
    }

    /// Whether these are in the log one behind the other, up to the id that was given.
    fn is_stored(&self, texts: &[String], last: EventId) -> Result<(), String> {
        let stored = self.engine.with_past(&self.stream, |past| {
            past.iter().any(|of| {
                let last = of.messages.iter().position(|message| message.id == last);
                let first = last.and_then(|last| (last + 1).checked_sub(texts.len()));
                first.is_some_and(|first| {
                    let stored = of.messages[first..].iter().take(texts.len());
                    stored.map(|message| &message.data).eq(texts)
                })
            })
        });
        if stored { Ok(()) } else { Err(format!("{texts:?} was acknowledged and is not there")) }
    }
}

fn data(text: &str) -> MessageText {
    MessageText::new(text.as_bytes().to_vec(), usize::MAX).expect("data")
}
