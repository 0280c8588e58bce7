//! An engine with faults, for tests alone: a pure model in memory, on tokio's clock, that a seed decides
//! for.
//!
//! Whatever it does keeps to the contract, but for one thing: a read may be behind what was
//! acknowledged, for a while, which the hub has to bear.

mod delivery;
mod model;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

pub(crate) use self::model::Past;
use self::state::{Fate, State};
use super::{
    AppendAllError, AppendError, Appended, Bound, EventId, Follow, IdempotencyKey, MessagePage,
    MessageText, Range, ReadError, RetentionLimits, StreamInfo, StreamName,
};

/// How often what goes wrong, in percent, and how badly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The longest time that anything takes, in milliseconds.
    pub(crate) delay: u64,
    /// Appends, ends and deletions that are refused.
    pub(crate) refused: u8,
    /// Those whose answer is lost: done, or not, or done later.
    pub(crate) lost_answers: u8,
    /// Batches without a key of which only a part is stored.
    pub(crate) partly: u8,
    /// Messages before which sequences are left out.
    pub(crate) sparse: u8,
    /// Reads that fail.
    pub(crate) failed_reads: u8,
    /// Reads that see the log as it was up to so many milliseconds ago.
    pub(crate) stale_reads: u8,
    pub(crate) staleness: u64,
    /// Reads and follows that are never answered.
    pub(crate) hanging: u8,
    /// Follows that do not begin.
    pub(crate) failed_follows: u8,
    /// Follows that end by themselves, within a second.
    pub(crate) broken_follows: u8,
    /// Changes with which a follow ends.
    pub(crate) breaks: u8,
    /// Changes that are not told.
    pub(crate) gaps: u8,
}

/// The engine; each handle is another server of the same store.
#[derive(Clone, Debug)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

impl Faulty {
    pub(crate) fn new(seed: u64, limits: RetentionLimits, rising: bool) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed, limits, rising))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this goes wrong.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// From now on, or not any more, reads see nothing new.
    pub(crate) fn freeze_reads(&self, frozen: bool) {
        self.state().frozen = frozen.then(Instant::now);
    }

    /// Ends every follow.
    pub(crate) fn break_follows(&self) {
        self.state().followers.clear();
    }

    /// Looks at every generation that a stream has had, the current one last.
    pub(crate) fn with_past<T>(&self, stream: &StreamName, look: impl FnOnce(&[Past]) -> T) -> T {
        look(self.state().model.past(stream))
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        let mut state = self.state();
        state.forget_gone();
        state.followers.len()
    }

    /// How often it was asked to read or to follow.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many follows have begun, and how many reads were behind.
    pub(crate) fn follows_and_stale_reads(&self) -> (u64, u64) {
        let state = self.state();
        (state.follows, state.stale_reads)
    }

    async fn delay(&self) {
        let delay = {
            let mut state = self.state();
            let longest = state.faults.delay;
            state.chance.u64(0..=longest)
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Does something to the store, or not, and says so, or not.
    async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, AppendError> {
        self.delay().await;
        let fate = self.state().fate();
        let outcome = match fate {
            Fate::Done => act(&mut self.state()),
            Fate::Refused => Err(AppendError::Unavailable("the model refuses".into())),
            Fate::Lost { done, later: None } => {
                if done {
                    drop(act(&mut self.state()));
                }
                Err(AppendError::Unknown("the model does not say".into()))
            }
            Fate::Lost { later: Some(later), .. } => {
                let late = self.clone();
                tokio::spawn(async move {
                    sleep(later).await;
                    drop(act(&mut late.state()));
                });
                Err(AppendError::Unknown("the model does not say".into()))
            }
        };
        self.delay().await;
        outcome
    }

    pub(super) async fn append_all(
        &self,
        stream: StreamName,
        mut batch: Vec<MessageText>,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, AppendAllError> {
        let part = {
            let mut state = self.state();
            let percent = state.faults.partly;
            let partly = key.is_none() && batch.len() > 1 && state.happens(percent);
            if partly { Some(state.chance.usize(1..batch.len())) } else { None }
        };
        if let Some(stored) = part {
            batch.truncate(stored);
        }
        let act = move |state: &mut State| state.append(&stream, batch, key.as_ref());
        let appended = self.write(act).await?;
        match part {
            None => Ok(appended),
            Some(stored) => Err(AppendAllError {
                stored,
                last: Some(appended.last),
                error: AppendError::Unavailable("the model stops half way".into()),
            }),
        }
    }

    pub(super) async fn end(
        &self,
        stream: StreamName,
        text: MessageText,
    ) -> Result<EventId, AppendError> {
        self.write(move |state| {
            let millis = state.millis();
            let (id, change) = state.model.end(&stream, text, millis)?;
            state.tell(&stream, &change);
            Ok(id)
        })
        .await
    }

    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        self.write(move |state| {
            let change = state.model.delete(&stream)?;
            state.tell(&stream, &change);
            Ok(())
        })
        .await
    }

    pub(super) async fn read(
        &self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        self.delay().await;
        let hangs = self.state().asked_to_hang();
        if hangs {
            std::future::pending::<()>().await;
        }
        let page = self.state().read(stream, range, bound);
        self.delay().await;
        page
    }

    pub(super) fn follow(
        &self,
        stream: &StreamName,
    ) -> BoxFuture<'static, Result<Follow, ReadError>> {
        let (engine, stream) = (self.clone(), stream.clone());
        Box::pin(async move {
            engine.delay().await;
            let hangs = engine.state().asked_to_hang();
            if hangs {
                std::future::pending::<()>().await;
            }
            let (follow, delivery) = engine.state().follow(&stream)?;
            tokio::spawn(delivery.run(engine.clone()));
            engine.delay().await;
            Ok(follow)
        })
    }

    pub(super) async fn streams(&self, max: usize) -> Result<Vec<StreamInfo>, ReadError> {
        self.delay().await;
        Ok(self.state().model.streams(max))
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.followers.clear();
    }
}
