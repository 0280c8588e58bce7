//! The fan-out task of a watched stream: follows the log, updates the tail, and retries with back-off
//! when the follow ends.

use std::{sync::Weak, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

#[cfg(test)]
use super::planted::{HubBug, is_planted};
use super::{
    HubInner,
    backoff::Backoff,
    budget::TailBudget,
    lag::Head,
    tail::{Tail, TailUpdate},
};
use crate::{
    message::StreamName,
    server::log::{Bound, Change, Follow, Log, ReadError},
};

/// Timeout for a follow to begin.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Consecutive changes are encoded as one, up to about this number of bytes, so that watchers share few
/// blocks.
const MAX_MERGED_BYTES: usize = 64 * 1024;

/// Updates the tail of one stream.
pub(super) struct TailFollower {
    /// Weak, because the hub owns the task that this runs in.
    pub(super) hub: Weak<HubInner>,
    pub(super) log: Log,
    pub(super) stream: StreamName,
    pub(super) tail: watch::Sender<Tail>,
    pub(super) head: Head,
    /// Maximum size of the tail.
    pub(super) size: Bound,
    /// The budget of all tails together.
    pub(super) budget: TailBudget,
}

impl TailFollower {
    /// Follows the stream until this is dropped, first with the follow that is `starting`. Between
    /// follows the tail is [`Tail::NotFollowed`], and the watchers read the log.
    pub(super) async fn run(self, starting: BoxFuture<'static, Result<Follow, ReadError>>) {
        let Self { log, stream, tail, .. } = &self;
        let mut backoff = Backoff::default();
        let mut starting = Some(starting);
        loop {
            let begun = Instant::now();
            let follow = starting.take().unwrap_or_else(|| log.follow(stream));
            match timeout(START_TIMEOUT, follow).await {
                Ok(Ok(follow)) => self.apply_changes(follow).await,
                Ok(Err(error)) => tracing::debug!(%stream, ?error, "the stream cannot be followed"),
                Err(_) => tracing::debug!(%stream, "the stream cannot be followed: no answer"),
            }
            tail.send_if_modified(|tail| !matches!(std::mem::take(tail), Tail::NotFollowed));
            // A follow that ends at once is no success.
            if begun.elapsed() > Backoff::MAX {
                backoff.reset();
            }
            #[cfg(test)]
            if is_planted(HubBug::NoRefollow) {
                std::future::pending::<()>().await;
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Applies changes to the tail, encoded once for all watchers, until the follow ends, or a change
    /// contradicts the tail.
    async fn apply_changes(&self, mut follow: Follow) {
        let Self { tail, head, size, budget, .. } = self;
        head.start(follow.start.seq);
        tail.send_modify(|tail| *tail = Tail::starting_at(follow.start, *size));
        while let Some(changes) = follow.next().await {
            for change in merged(changes) {
                head.change(&change);
                // Encoded before the tail is locked, so that no watcher waits for the encoding.
                let update = TailUpdate::of(change, budget);
                let mut fits = true;
                tail.send_modify(|tail| fits = tail.apply(update));
                if !fits {
                    tracing::debug!("a change contradicts the tail: following the stream again");
                    return;
                }
                if budget.is_exceeded()
                    && let Some(hub) = self.hub.upgrade()
                {
                    hub.evict();
                }
            }
        }
    }
}

/// Merges consecutive appends, up to [`MAX_MERGED_BYTES`].
fn merged(changes: Vec<Change>) -> Vec<Change> {
    if changes.len() < 2 {
        return changes;
    }
    let mut merged: Vec<Change> = Vec::with_capacity(changes.len());
    let mut bytes = 0;
    for change in changes {
        let change_bytes = text_bytes(&change);
        let fits = bytes + change_bytes <= MAX_MERGED_BYTES;
        match (merged.last_mut(), change) {
            (
                Some(Change::Appended { generation, messages, .. }),
                Change::Appended { generation: next, after, messages: more },
            ) if fits
                && *generation == next
                && messages.last().is_some_and(|last| last.id.seq == after) =>
            {
                messages.extend(more);
                bytes += change_bytes;
            }
            (_, change) => {
                merged.push(change);
                bytes = change_bytes;
            }
        }
    }
    merged
}

fn text_bytes(change: &Change) -> usize {
    match change {
        Change::Appended { messages, .. } => {
            messages.iter().map(|message| message.data.len()).sum()
        }
        Change::Ended { .. } | Change::Deleted { .. } => 0,
    }
}
