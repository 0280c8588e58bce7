//! What the servers of a faulty log have in common: the model, and what is wrong with it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    Faults,
    delivery::Delivery,
    model::{Copy, Model},
};
use crate::server::log::{
    AppendError, Appended, Bound, Change, Follow, IdempotencyKey, MessagePage, MessageText, Range,
    ReadError, RetentionLimits, StreamName,
    follow::{self, ChangeSender},
};

/// The time of day when the tests begin.
const NOW: u64 = 1_763_891_234_567;
/// How often the engine may be asked at the same instant. More calls are a loop without a pause.
const MAX_CALLS_AT_ONCE: u32 = 500;

#[derive(Debug)]
pub(super) struct State {
    pub(super) model: Model,
    pub(super) faults: Faults,
    pub(super) chance: fastrand::Rng,
    pub(super) followers: Vec<Follower>,
    /// How many follows have begun.
    pub(super) follows: u64,
    /// How many reads were behind.
    pub(super) stale_reads: u64,
    /// Since when reads see nothing new.
    pub(super) frozen: Option<Instant>,
    begun: Instant,
    /// When the engine was asked last, and how often at that instant.
    asked: (Instant, u32),
    pub(super) calls: u64,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct Follower {
    stream: StreamName,
    changes: mpsc::UnboundedSender<Change>,
    /// To see whether the follower is still there.
    feed: Weak<ChangeSender>,
}

/// What becomes of an append, an end or a deletion.
pub(super) enum Fate {
    Done,
    Refused,
    Lost { done: bool, later: Option<Duration> },
}

impl State {
    pub(super) fn new(seed: u64, limits: RetentionLimits, rising: bool) -> Self {
        let now = Instant::now();
        Self {
            model: Model::new(limits, rising),
            faults: Faults::default(),
            chance: fastrand::Rng::with_seed(seed),
            followers: Vec::new(),
            follows: 0,
            stale_reads: 0,
            frozen: None,
            begun: now,
            asked: (now, 0),
            calls: 0,
            closed: false,
        }
    }

    pub(super) fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.chance.u8(0..100) < percent
    }

    pub(super) fn millis(&self) -> u64 {
        NOW + u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn fate(&mut self) -> Fate {
        if self.closed || self.happens(self.faults.refused) {
            Fate::Refused
        } else if self.happens(self.faults.lost_answers) {
            let later = self.chance.bool().then(|| self.chance.u64(1..1000));
            Fate::Lost { done: self.chance.bool(), later: later.map(Duration::from_millis) }
        } else {
            Fate::Done
        }
    }

    /// Counts a call, and tells whether it is to be without an answer.
    pub(super) fn asked_to_hang(&mut self) -> bool {
        let now = Instant::now();
        let at_once = if self.asked.0 == now { self.asked.1 + 1 } else { 0 };
        self.asked = (now, at_once);
        self.calls += 1;
        assert!(at_once < MAX_CALLS_AT_ONCE, "the log is asked again and again without a pause");
        self.happens(self.faults.hanging)
    }

    pub(super) fn append(
        &mut self,
        stream: &StreamName,
        batch: Vec<MessageText>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, AppendError> {
        let skip = if self.happens(self.faults.sparse) { self.chance.u64(1..5) } else { 0 };
        let millis = self.millis();
        let (appended, change) = self.model.append(stream, batch, key, millis, skip)?;
        if let Some(change) = change {
            self.tell(stream, &change);
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
        let copy = match self.frozen {
            Some(then) => Copy::AsOf(then),
            None if stale => {
                let age = self.chance.u64(0..=self.faults.staleness);
                Instant::now()
                    .checked_sub(Duration::from_millis(age))
                    .map_or(Copy::Current, Copy::AsOf)
            }
            None => Copy::Current,
        };
        let page = self.model.read(stream, range, bound, copy);
        let current = self.model.read(stream, range, bound, Copy::Current);
        self.stale_reads += u64::from(page != current);
        match (page, copy) {
            (Err(_), Copy::AsOf(_)) => Err(ReadError::Behind),
            (page, _) => page,
        }
    }

    pub(super) fn follow(&mut self, stream: &StreamName) -> Result<(Follow, Delivery), ReadError> {
        if self.closed || self.happens(self.faults.failed_follows) {
            return Err(ReadError::Unavailable("the model does not follow".into()));
        }
        self.forget_gone();
        self.follows += 1;
        let (feed, starting) = follow::channel();
        let feed = Arc::new(feed);
        let (changes, told) = mpsc::unbounded_channel();
        let follower = Follower { stream: stream.clone(), changes, feed: Arc::downgrade(&feed) };
        self.followers.push(follower);
        let broken = self.happens(self.faults.broken_follows);
        let life = if broken { self.chance.u64(0..1000) } else { 1_000_000 };
        let ends = Instant::now() + Duration::from_millis(life);
        let delivery = Delivery { feed, told, ends };
        Ok((starting.at(self.model.position(stream)), delivery))
    }

    pub(super) fn tell(&mut self, stream: &StreamName, change: &Change) {
        for follower in self.followers.iter().filter(|follower| follower.stream == *stream) {
            // One that has ended is forgotten later.
            let _ = follower.changes.send(change.clone());
        }
    }

    pub(super) fn forget_gone(&mut self) {
        self.followers
            .retain(|follower| follower.feed.upgrade().is_some_and(|feed| !feed.is_closed()));
    }
}
