//! A reader of the list: a position among its versions, which turns the list into batches of SSE frames.

use futures::stream::{self, Stream};
use tokio::sync::watch;

use super::{
    Progress, StreamList,
    state::{ActivityKey, Change, ListState},
};
use crate::{
    message::{DELETED, EventId, LISTED, ResetReason, STREAM, StreamName},
    server::{
        log::{ReadCursor, ReadError},
        sse::{Batch, frame, response},
    },
};

/// Follows the list for one reader.
pub(crate) struct ListReader<F> {
    list: StreamList,
    /// The first part of the reader's cursors.
    epoch: u64,
    may_watch: F,
    position: Position,
    /// Taken when the reader is dropped.
    progress: Option<watch::Receiver<Progress>>,
}

/// What the reader has.
#[derive(Debug)]
enum Position {
    /// Of the list as it was at `version`: the streams up to this place in the order of activity. What
    /// changes meanwhile has a greater version, and follows.
    Listing { version: u64, place: Option<ActivityKey> },
    /// Everything up to this version.
    Version(u64),
}

impl<F: Fn(&StreamName) -> bool + Send + 'static> ListReader<F> {
    /// Follows the streams that `may_watch` allows from `cursor` on; if it is unknown or none, after a
    /// reset, all that there are. `rights` is the fingerprint of what is allowed.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn start(
        list: &StreamList,
        cursor: Option<ReadCursor>,
        rights: u64,
        may_watch: F,
    ) -> Result<(Batch<String>, Self), ReadError> {
        let progress = list.join();
        let mut reader = Self {
            list: list.clone(),
            epoch: list.epoch(rights),
            may_watch,
            position: Position::Version(0),
            progress: Some(progress),
        };
        list.refresh().await?;
        let mut first = Batch::default();
        match cursor {
            Some(ReadCursor::Id(id)) if id.millis == reader.epoch => {
                reader.position = Position::Version(id.seq);
                reader.take(&mut first);
                if first.frames.is_empty() {
                    frame::cursor(&mut first.frames, id);
                }
            }
            Some(ReadCursor::Latest) => {
                let version = list.0.state().version();
                reader.position = Position::Version(version);
                frame::cursor(&mut first.frames, reader.cursor(version));
            }
            cursor => {
                if !matches!(cursor, Some(ReadCursor::Earliest)) {
                    first.push_reset(ResetReason::UnknownCursor, None);
                }
                let version = list.0.state().version();
                reader.position = Position::Listing { version, place: None };
                reader.take(&mut first);
            }
        }
        Ok((first, reader))
    }

    /// The following frames. The stream ends when the log cannot be read for long.
    pub(crate) fn frames(self) -> impl Stream<Item = Batch> + Send {
        stream::unfold(self, |mut reader| async move {
            loop {
                let progress = *reader.progress.as_mut()?.borrow_and_update();
                if progress.failed {
                    return None;
                }
                let mut batch = Batch::default();
                reader.take(&mut batch);
                if !batch.frames.is_empty() {
                    return Some((batch.into(), reader));
                }
                reader.progress.as_mut()?.changed().await.ok()?;
            }
        })
    }

    fn cursor(&self, version: u64) -> EventId {
        EventId { millis: self.epoch, seq: version }
    }

    /// Appends the next frames, about [`response::BATCH_BYTES`] bytes of them, after which the position
    /// moves; none if there is nothing new. A reader so slow that deletions after its position have been
    /// forgotten gets a reset, and all streams again.
    fn take(&mut self, batch: &mut Batch<String>) {
        let list = self.list.clone();
        let state = list.0.state();
        let (Position::Listing { version, .. } | Position::Version(version)) = self.position;
        if !state.knows(version) {
            batch.push_reset(ResetReason::UnknownCursor, None);
            self.position = Position::Listing { version: state.version(), place: None };
        }
        let frames = &mut batch.frames;
        if let Position::Listing { version, place } = &mut self.position {
            let version = *version;
            let place = place.take();
            let may_watch = &self.may_watch;
            self.position = list_streams(&state, version, place.as_ref(), may_watch, frames);
            if let Position::Version(version) = self.position {
                frame::event(frames, LISTED, Some(self.cursor(version)), "{}");
            }
            return;
        }
        let Position::Version(after) = self.position else { return };
        for (version, change) in state.changes_after(after) {
            let id = Some(self.cursor(version));
            match change {
                Change::Stream(entry) if (self.may_watch)(&entry.info.name) => {
                    frame::shared(frames, STREAM, id, entry.encoded_data());
                }
                Change::Deleted(name) if (self.may_watch)(name) => {
                    frame::event(frames, DELETED, id, name.as_str());
                }
                Change::Stream(_) | Change::Deleted(_) => {}
            }
            self.position = Position::Version(version);
            if frames.len() >= response::BATCH_BYTES {
                break;
            }
        }
    }
}

/// Appends the streams after a place; returns the position after them. The frames have no ids, because
/// the reader has no cursor until it has all of them.
fn list_streams(
    state: &ListState,
    version: u64,
    place: Option<&ActivityKey>,
    may_watch: impl Fn(&StreamName) -> bool,
    frames: &mut String,
) -> Position {
    for (place, entry) in state.newest_first_after(place, version) {
        if !may_watch(&entry.info.name) {
            continue;
        }
        frame::shared(frames, STREAM, None, entry.encoded_data());
        if frames.len() >= response::BATCH_BYTES {
            return Position::Listing { version, place: Some(place.clone()) };
        }
    }
    Position::Version(version)
}

impl<F> Drop for ListReader<F> {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            self.list.leave(progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::{super::state::MAX_DELETIONS, *};
    use crate::{
        message::RESET,
        server::{
            guard::MemoryBudget,
            hub::{BufferSizes, Hub},
            log::{Log, RetentionLimits, StreamInfo, faulty::Faulty},
            shutdown::Shutdown,
            supervisor::Supervisor,
        },
    };

    #[tokio::test]
    async fn a_slow_reader_gets_all_streams_again() {
        let limits = RetentionLimits {
            messages: 1,
            age: Duration::MAX,
            bytes: 1,
            streams: 1,
            keys: 1,
            all_keys: 1,
        };
        let log = Log::Faulty(Faulty::new(0, limits, true));
        let supervisor = Supervisor::new(Shutdown::default());
        let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
        let sizes = BufferSizes::with_all_tails(usize::MAX);
        let hub = Hub::new(log.clone(), supervisor.clone(), memory, sizes);
        let list = StreamList::new(log, hub, supervisor);
        let latest = Some(ReadCursor::Latest);
        let start = ListReader::start(&list, latest, 0, |_: &StreamName| true).await;
        let (_, mut reader) = start.expect("a list");
        list.change(|state| {
            // Each replaces the one before.
            for n in 0..MAX_DELETIONS + 2 {
                let name = format!("s{n}").parse().expect("a name");
                let stream = StreamInfo { name, messages: 1, ended: false, last: None };
                state.set_streams(vec![stream], &HashMap::new());
            }
        });
        let mut batch = Batch::default();
        reader.take(&mut batch);
        assert_eq!(batch.reset, Some(ResetReason::UnknownCursor));
        let (mut kinds, mut frames) = (Vec::new(), batch.frames.as_str());
        while let Some((frame, rest)) = frame::split_first(frames) {
            kinds.push(frame.kind);
            frames = rest;
        }
        assert_eq!(kinds, [RESET, STREAM, LISTED]);
    }
}
