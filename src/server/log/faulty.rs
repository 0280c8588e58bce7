//! Fault injection: a log engine for tests only. A model in memory on tokio's clock, whose faults
//! are drawn from a seed.
//!
//! It keeps to the contract of the log, with one exception: for a while a read may not see what was
//! acknowledged, which the hub must tolerate.

mod delivery;
mod model;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

pub(crate) use self::model::ModelGeneration;
use self::state::{FaultyState, WriteOutcome};
use super::{
    AppendAllError, AppendError, Appended, Bound, EventId, Follow, IdempotencyKey, MessagePage,
    MessageText, Range, ReadError, RetentionLimits, StreamInfo, StreamName,
};

/// How often each fault occurs, in percent of the calls, and its extent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The longest delay of a call or a change, in milliseconds.
    pub(crate) max_delay_ms: u64,
    /// Appends, ends and deletions that fail without effect.
    pub(crate) refused: u8,
    /// Those whose reply is lost: they are applied, or not, or applied later.
    pub(crate) lost_replies: u8,
    /// Batches without a key of which only a part is stored.
    pub(crate) partial_batches: u8,
    /// Appends before whose messages sequences are skipped.
    pub(crate) sequence_gaps: u8,
    /// Reads that fail.
    pub(crate) failed_reads: u8,
    /// Reads that see an earlier state of the log, up to `max_staleness_ms` old.
    pub(crate) stale_reads: u8,
    pub(crate) max_staleness_ms: u64,
    /// Reads and follows that never return.
    pub(crate) hung_calls: u8,
    /// Follows that fail to begin.
    pub(crate) failed_follows: u8,
    /// Follows that end by themselves within a second.
    pub(crate) broken_follows: u8,
    /// Changes after which the follow ends.
    pub(crate) breaking_changes: u8,
    /// Changes that are not delivered.
    pub(crate) dropped_changes: u8,
}

/// The engine. Each clone stands for another server on the same store.
#[derive(Clone, Debug)]
pub(crate) struct Faulty(Arc<Mutex<FaultyState>>);

impl Faulty {
    pub(crate) fn new(seed: u64, limits: RetentionLimits, sequences_continue: bool) -> Self {
        Self(Arc::new(Mutex::new(FaultyState::new(seed, limits, sequences_continue))))
    }

    fn state(&self) -> MutexGuard<'_, FaultyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets which faults occur from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Freezes reads: while frozen, they see nothing that was appended later.
    pub(crate) fn freeze_reads(&self, frozen: bool) {
        self.state().frozen = frozen.then(Instant::now);
    }

    /// Ends every follow.
    pub(crate) fn break_follows(&self) {
        self.state().followers.clear();
    }

    /// Passes every generation that a stream has had to `inspect`, the current one last.
    pub(crate) fn with_generations<T>(
        &self,
        stream: &StreamName,
        inspect: impl FnOnce(&[ModelGeneration]) -> T,
    ) -> T {
        inspect(self.state().model.generations(stream))
    }

    /// Number of followers.
    pub(crate) fn followers(&self) -> usize {
        let mut state = self.state();
        state.remove_closed();
        state.followers.len()
    }

    /// Number of calls to `read` and `follow`.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Number of follows that have begun, and of reads that did not see the newest messages.
    pub(crate) fn follows_and_stale_reads(&self) -> (u64, u64) {
        let state = self.state();
        (state.follows, state.stale_reads)
    }

    async fn delay(&self) {
        let delay = {
            let mut state = self.state();
            let max_delay_ms = state.faults.max_delay_ms;
            state.rng.u64(0..=max_delay_ms)
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Applies an operation to the store, or not, and returns its result, or not, as the faults require.
    async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut FaultyState) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, AppendError> {
        self.delay().await;
        let write_outcome = self.state().write_outcome();
        let outcome = match write_outcome {
            WriteOutcome::Applied => act(&mut self.state()),
            WriteOutcome::Refused => Err(AppendError::Unavailable("the model refuses".into())),
            WriteOutcome::ReplyLost { applied, later: None } => {
                if applied {
                    drop(act(&mut self.state()));
                }
                Err(AppendError::Unknown("the model loses the reply".into()))
            }
            WriteOutcome::ReplyLost { later: Some(later), .. } => {
                let late = self.clone();
                tokio::spawn(async move {
                    sleep(later).await;
                    drop(act(&mut late.state()));
                });
                Err(AppendError::Unknown("the model loses the reply".into()))
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
            let percent = state.faults.partial_batches;
            let partial = key.is_none() && batch.len() > 1 && state.happens(percent);
            if partial { Some(state.rng.usize(1..batch.len())) } else { None }
        };
        if let Some(stored) = part {
            batch.truncate(stored);
        }
        let act = move |state: &mut FaultyState| state.append(&stream, batch, key.as_ref());
        let appended = self.write(act).await?;
        match part {
            None => Ok(appended),
            Some(stored) => Err(AppendAllError {
                stored,
                last: Some(appended.last),
                error: AppendError::Unavailable("the model stores a part only".into()),
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
            state.notify(&stream, &change);
            Ok(id)
        })
        .await
    }

    pub(super) async fn delete(&self, stream: StreamName) -> Result<(), AppendError> {
        self.write(move |state| {
            let change = state.model.delete(&stream)?;
            state.notify(&stream, &change);
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
        let hangs = self.state().count_call();
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
            let hangs = engine.state().count_call();
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
