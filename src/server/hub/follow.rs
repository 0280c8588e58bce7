//! Keeps the tail of a watched stream: follows the log, and follows it again when that ends.

use std::{sync::Weak, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

#[cfg(test)]
use super::planted::{HubBug, is_planted};
use super::{
    Shared,
    backoff::Backoff,
    budget::TailBudget,
    lag::Head,
    tail::{Tail, TailUpdate},
};
use crate::{
    message::StreamName,
    server::log::{Bound, Change, Follow, Log, ReadError},
};

/// How long a follow may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Changes that were told together are encoded together, up to about so many bytes: to let the
/// watchers share few blocks.
const MAX_MERGED_BYTES: usize = 64 * 1024;

/// Keeps the tail of one stream.
pub(super) struct TailKeeper {
    /// Not an owner: the hub owns the task that this runs in.
    pub(super) hub: Weak<Shared>,
    pub(super) log: Log,
    pub(super) stream: StreamName,
    pub(super) tail: watch::Sender<Tail>,
    pub(super) head: Head,
    /// How much the tail keeps at the most.
    pub(super) size: Bound,
    /// What all tails have together.
    pub(super) budget: TailBudget,
}

impl TailKeeper {
    /// Follows the stream until this is dropped, first with the follow that is `starting`. While
    /// nothing is followed the tail is unknown, and the watchers read the log.
    pub(super) async fn keep(self, starting: BoxFuture<'static, Result<Follow, ReadError>>) {
        let Self { log, stream, tail, .. } = &self;
        let mut backoff = Backoff::default();
        let mut starting = Some(starting);
        loop {
            let begun = Instant::now();
            let follow = starting.take().unwrap_or_else(|| log.follow(stream));
            match timeout(START_TIMEOUT, follow).await {
                Ok(Ok(follow)) => self.take(follow).await,
                Ok(Err(error)) => tracing::debug!(%stream, ?error, "the stream cannot be followed"),
                Err(_) => tracing::debug!(%stream, "the stream cannot be followed: no answer"),
            }
            tail.send_if_modified(|tail| !matches!(std::mem::take(tail), Tail::Unknown));
            // One that begins and ends at once has not gone well.
            if begun.elapsed() > Backoff::MAX {
                backoff.reset();
            }
            #[cfg(test)]
            if is_planted(HubBug::OneFollow) {
                std::future::pending::<()>().await;
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Takes in what is told, encoded once for all watchers, until the follow ends or does not fit.
    async fn take(&self, mut follow: Follow) {
        let Self { tail, head, size, budget, .. } = self;
        head.start(follow.start.seq);
        tail.send_modify(|tail| *tail = Tail::starting_at(follow.start, *size));
        while let Some(changes) = follow.next().await {
            for change in merged(changes) {
                head.change(&change);
                // Encoded before the tail is locked, so that no watcher waits for it.
                let update = TailUpdate::of(change, budget);
                let mut fits = true;
                tail.send_modify(|tail| fits = tail.apply(update));
                if !fits {
                    tracing::debug!("what is told of a stream does not fit: following it anew");
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

/// Changes that join up, as one.
fn merged(changes: Vec<Change>) -> Vec<Change> {
    if changes.len() < 2 {
        return changes;
    }
    let mut merged: Vec<Change> = Vec::with_capacity(changes.len());
    let mut bytes = 0;
    for change in changes {
        let of = text_bytes(&change);
        let joins = bytes + of <= MAX_MERGED_BYTES;
        match (merged.last_mut(), change) {
            (
                Some(Change::Appended { generation, messages, .. }),
                Change::Appended { generation: next, after, messages: more },
            ) if joins
                && *generation == next
                && messages.last().is_some_and(|last| last.id.seq == after) =>
            {
                messages.extend(more);
                bytes += of;
            }
            (_, change) => {
                merged.push(change);
                bytes = of;
            }
        }
    }
    merged
}

fn text_bytes(change: &Change) -> usize {
    match change {
        Change::Appended { messages, .. } => messages.iter().map(|one| one.data.len()).sum(),
        Change::Ended { .. } | Change::Deleted { .. } => 0,
    }
}
