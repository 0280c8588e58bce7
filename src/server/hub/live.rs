//! Watchers that have caught up, whose frames many of them read together, and their way there.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{future::BoxFuture, stream::Stream};
use tokio::sync::watch;

use super::{
    Hub, Watcher,
    tail::{Tail, TailRead},
    watcher::Step,
};
use crate::{
    message::StreamName,
    server::{
        log::Position,
        sse::{Batch, response},
    },
};

/// The frames of a watcher until it has caught up; then it can be taken.
pub(crate) struct CatchUpFrames(State);

enum State {
    /// It does not wait for the log.
    Ready(Box<Watcher>),
    Reading(BoxFuture<'static, (Box<Watcher>, Step)>),
    Ended,
}

impl CatchUpFrames {
    pub(crate) fn new(watcher: Box<Watcher>) -> Self {
        Self(State::Ready(watcher))
    }

    /// The watcher, unless it waits for the log or has ended.
    pub(crate) fn take(&mut self) -> Option<Box<Watcher>> {
        match mem::replace(&mut self.0, State::Ended) {
            State::Ready(watcher) => Some(watcher),
            other => {
                self.0 = other;
                None
            }
        }
    }
}

/// Pending when the watcher has caught up, and then the task is not woken: the watcher is to be taken.
impl Stream for CatchUpFrames {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        loop {
            let step = match &mut self.0 {
                State::Ready(watcher) => watcher.step(),
                State::Reading(reading) => {
                    let (watcher, step) = ready!(reading.as_mut().poll(context));
                    self.0 = State::Ready(watcher);
                    step
                }
                State::Ended => return Poll::Ready(None),
            };
            match (step, self.take()) {
                (Step::ReadLog(next), Some(mut watcher)) => {
                    self.0 = State::Reading(Box::pin(async move {
                        let step = watcher.step_from_log(next).await;
                        (watcher, step)
                    }));
                }
                (Step::Batch(batch), Some(watcher)) => {
                    self.0 = State::Ready(watcher);
                    return Poll::Ready(Some(batch));
                }
                (Step::CaughtUp, Some(watcher)) => {
                    self.0 = State::Ready(watcher);
                    return Poll::Pending;
                }
                (Step::Ended, _) | (_, None) => {}
            }
        }
    }
}

/// Reads the tail of a stream for watchers that have caught up.
pub(crate) struct TailReader(watch::Receiver<Tail>);

impl TailReader {
    /// Waits until the tail has changed; false once the stream is no longer watched.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// The frames that follow a position, about as many bytes of them as a batch has. A change remains one
    /// for [`changed`](Self::changed), since other watchers have not seen it.
    pub(crate) fn read_after(&self, position: Position) -> TailRead {
        self.0.borrow().read_after(position, response::BATCH_BYTES)
    }

    /// Whether a watcher reads the same tail. A stream that is watched again has a new one.
    pub(crate) fn is_of(&self, watcher: &Watcher) -> bool {
        self.0.same_channel(&watcher.tail)
    }
}

impl Watcher {
    pub(crate) fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Whether its reader has the end.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// A reader of the tail of its stream.
    pub(crate) fn tail_reader(&self) -> TailReader {
        TailReader(self.tail.clone())
    }

    /// Moves it to a position that a [`TailReader`] has read; `ended`: that of the end.
    pub(crate) fn advance(&mut self, position: Position, ended: bool) {
        self.set_position(position);
        self.ended = ended;
    }
}
