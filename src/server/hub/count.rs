//! The number of watchers of a stream, for those of its readers who ask for it.
//!
//! Each of them is told of each number, so a thousand readers who connect at once would cause a million
//! events. So the numbers are throttled, the more the more readers there are.

use std::{
    future::ready,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, Stream},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Hub, HubInner};
use crate::{
    message::{StreamName, WATCHERS},
    server::sse::{Batch, frame},
};

/// The pause after each number, and its extension per reader: beyond 500 readers, about 500 events a
/// second for each stream.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_PER_READER: Duration = Duration::from_millis(2);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The number of watchers of a stream, kept from the first reader that asks for it until the stream has
/// no watchers.
#[derive(Debug)]
pub(super) struct WatcherCount {
    number: watch::Sender<usize>,
    /// The task that updates the number.
    _task: AbortOnDropHandle<()>,
}

impl Hub {
    /// Adds the number of watchers to the frames of a watcher of this stream: at first, and when it has
    /// changed.
    pub(crate) fn with_watcher_counts(
        &self,
        stream: &StreamName,
        frames: impl Stream<Item = Batch> + Send + 'static,
    ) -> impl Stream<Item = Batch> + Send + 'static {
        let (first, numbers) = self.follow_count(stream);
        merge(frames, first, numbers)
    }

    /// The number of watchers of a stream, and a receiver of later ones, if it is watched.
    pub(crate) fn follow_count(
        &self,
        stream: &StreamName,
    ) -> (usize, Option<watch::Receiver<usize>>) {
        let now = self.watchers(stream);
        let mut numbers = self.subscribe_to_count(stream, now);
        // The throttled number may be older. A reader that began with the new one would then get both.
        let first = numbers.as_mut().map_or(now, |numbers| *numbers.borrow_and_update());
        (first, numbers)
    }

    /// Receives the number of watchers of a watched stream, which is `now`. None if it is not watched.
    fn subscribe_to_count(
        &self,
        stream: &StreamName,
        now: usize,
    ) -> Option<watch::Receiver<usize>> {
        let mut streams = self.streams();
        let open = streams.get_mut(stream)?;
        let count = open.count.get_or_insert_with(|| {
            let number = watch::Sender::new(now);
            let (hub, changed) = (Arc::downgrade(&self.0), Arc::clone(&open.watchers_changed));
            let task = update(hub, stream.clone(), number.clone(), changed);
            let task = self.0.supervisor.spawn_abortable("count of the watchers", task);
            WatcherCount { number, _task: AbortOnDropHandle::new(task) }
        });
        Some(count.number.subscribe())
    }
}

/// Updates the number after changes, until it is aborted with the stream.
async fn update(
    hub: Weak<HubInner>,
    stream: StreamName,
    number: watch::Sender<usize>,
    changed: Arc<Notify>,
) {
    loop {
        changed.notified().await;
        let Some(hub) = hub.upgrade().map(Hub) else { return };
        let watchers = hub.watchers(&stream);
        drop(hub);
        number.send_if_modified(|number| std::mem::replace(number, watchers) != watchers);
        let readers = u32::try_from(number.receiver_count()).unwrap_or(u32::MAX);
        sleep(PAUSE_PER_READER.saturating_mul(readers).clamp(MIN_PAUSE, MAX_PAUSE)).await;
    }
}

/// The event of a number of watchers, encoded.
pub(crate) fn count_frame(number: usize) -> String {
    let mut frame = String::new();
    frame::event(&mut frame, WATCHERS, None, &number.to_string());
    frame
}

/// The frames, with an event for `first`, and for each other number from `numbers`.
fn merge(
    frames: impl Stream<Item = Batch> + Send + 'static,
    first: usize,
    numbers: Option<watch::Receiver<usize>>,
) -> impl Stream<Item = Batch> + Send + 'static {
    let changes = stream::unfold((numbers, first), |(numbers, last)| async move {
        let mut numbers = numbers?;
        let number = *numbers.wait_for(|number| *number != last).await.ok()?;
        Some((number, (Some(numbers), number)))
    });
    let numbers = stream::once(ready(first)).chain(changes);
    let counts =
        numbers.map(|number| Batch { frames: count_frame(number).into(), ..Batch::default() });
    // Ends with the frames.
    let frames = frames.map(Some).chain(stream::once(ready(None)));
    let merged = stream::select(frames, counts.map(Some));
    merged.take_while(|batch| ready(batch.is_some())).filter_map(ready)
}
