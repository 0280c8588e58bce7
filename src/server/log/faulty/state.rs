//! The state that all servers of a faulty log share: the model, and which faults occur.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    Faults,
    delivery::ChangeDelivery,
    model::{Model, ReadVersion},
};
use crate::server::log::{
    AppendError, Appended, Bound, Change, Follow, IdempotencyKey, MessagePage, MessageText, Range,
    ReadError, RetentionLimits, StreamName,
    follow::{self, ChangeSender},
};

/// The time of day at which the tests begin, in Unix milliseconds.
const NOW: u64 = 1_763_891_234_567;
/// How many calls the engine accepts at one instant. More calls are a loop without a pause.
const MAX_CALLS_AT_ONCE: u32 = 500;

#[derive(Debug)]
pub(super) struct FaultyState {
    pub(super) model: Model,
    pub(super) faults: Faults,
    pub(super) rng: fastrand::Rng,
    pub(super) followers: Vec<Follower>,
    /// Number of follows that have begun.
    pub(super) follows: u64,
    /// Number of reads that did not see the newest messages.
    pub(super) stale_reads: u64,
    /// The time from which on reads see nothing new, while they are frozen.
    pub(super) frozen: Option<Instant>,
    begun: Instant,
    /// When the last call was, and the number of calls at that instant.
    last_call: (Instant, u32),
    pub(super) calls: u64,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct Follower {
    stream: StreamName,
    changes: mpsc::UnboundedSender<Change>,
    /// To detect that the follower has gone.
    sender: Weak<ChangeSender>,
}

/// The outcome of an append, an end or a deletion.
pub(super) enum WriteOutcome {
    Applied,
    Refused,
    ReplyLost { applied: bool, later: Option<Duration> },
}

impl FaultyState {
    pub(super) fn new(seed: u64, limits: RetentionLimits, sequences_continue: bool) -> Self {
        let now = Instant::now();
        Self {
            model: Model::new(limits, sequences_continue),
            faults: Faults::default(),
            rng: fastrand::Rng::with_seed(seed),
            followers: Vec::new(),
            follows: 0,
            stale_reads: 0,
            frozen: None,
            begun: now,
            last_call: (now, 0),
            calls: 0,
            closed: false,
        }
    }

    pub(super) fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.u8(0..100) < percent
    }

    pub(super) fn millis(&self) -> u64 {
        NOW + u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn write_outcome(&mut self) -> WriteOutcome {
        if self.closed || self.happens(self.faults.refused) {
            WriteOutcome::Refused
        } else if self.happens(self.faults.lost_replies) {
            let later = self.rng.bool().then(|| self.rng.u64(1..1000));
            WriteOutcome::ReplyLost {
                applied: self.rng.bool(),
                later: later.map(Duration::from_millis),
            }
        } else {
            WriteOutcome::Applied
        }
    }

    /// Counts a call; returns whether it must never be answered.
    pub(super) fn count_call(&mut self) -> bool {
        let now = Instant::now();
        let calls_at_once = if self.last_call.0 == now { self.last_call.1 + 1 } else { 0 };
        self.last_call = (now, calls_at_once);
        self.calls += 1;
        assert!(calls_at_once < MAX_CALLS_AT_ONCE, "the log is called in a loop without a pause");
        self.happens(self.faults.hung_calls)
    }

    pub(super) fn append(
        &mut self,
        stream: &StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let skip = if self.happens(self.faults.sequence_gaps) { self.rng.u64(1..5) } else { 0 };
        let millis = self.millis();
        let (appended, change) = self.model.append(stream, batch, key, millis, skip)?;
        if let Some(change) = change {
            self.notify(stream, &change);
        }
        Ok(appended)
    }

    pub(super) fn read(
        &mut self,
        stream: &StreamName,
        range: Range,
        bound: Bound,
    ) -> Result<MessagePage, ReadError> {
        if self.closed || self.happens(self.faults.failed_reads) {
            return Err(ReadError::Unavailable("the model does not read".into()));
        }
        let stale = self.happens(self.faults.stale_reads);
        let version = match self.frozen {
            Some(then) => ReadVersion::AsOf(then),
            None if stale => {
                let age = self.rng.u64(0..=self.faults.max_staleness_ms);
                Instant::now()
                    .checked_sub(Duration::from_millis(age))
                    .map_or(ReadVersion::Current, ReadVersion::AsOf)
            }
            None => ReadVersion::Current,
        };
        let page = self.model.read(stream, range, bound, version);
        let current = self.model.read(stream, range, bound, ReadVersion::Current);
        self.stale_reads += u64::from(page != current);
        match (page, version) {
            (Err(_), ReadVersion::AsOf(_)) => Err(ReadError::Behind),
            (page, _) => page,
        }
    }

    pub(super) fn follow(
        &mut self,
        stream: &StreamName,
    ) -> Result<(Follow, ChangeDelivery), ReadError> {
        if self.closed || self.happens(self.faults.failed_follows) {
            return Err(ReadError::Unavailable("the model does not follow".into()));
        }
        self.remove_closed();
        self.follows += 1;
        let (sender, starting) = follow::channel();
        let sender = Arc::new(sender);
        let (to_delivery, changes) = mpsc::unbounded_channel();
        let follower = Follower {
            stream: stream.clone(),
            changes: to_delivery,
            sender: Arc::downgrade(&sender),
        };
        self.followers.push(follower);
        let broken = self.happens(self.faults.broken_follows);
        let lifetime_ms = if broken { self.rng.u64(0..1000) } else { 1_000_000 };
        let ends_at = Instant::now() + Duration::from_millis(lifetime_ms);
        let delivery = ChangeDelivery { sender, changes, ends_at };
        Ok((starting.begin_at(self.model.position(stream)), delivery))
    }

    pub(super) fn notify(&mut self, stream: &StreamName, change: &Change) {
        for follower in self.followers.iter().filter(|follower| follower.stream == *stream) {
            // A follower that has gone is removed later.
            let _ = follower.changes.send(change.clone());
        }
    }

    pub(super) fn remove_closed(&mut self) {
        self.followers
            .retain(|follower| follower.sender.upgrade().is_some_and(|sender| !sender.is_closed()));
    }
}
