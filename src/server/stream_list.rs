//! The live list of the streams: what there is, and what changes, for any number of readers.
//!
//! The list is a state with versions, not a log of changes. One task compares the log with it while
//! readers follow it: at once when something was stored, at most once a second, and less often where the
//! list is long or changes a lot. Each stream that has changed is encoded once and gets the next version.
//! A reader is a position among the versions, as a watcher is one in a stream, and asks for what follows
//! it: a slow one gets the newest state of each stream, and nothing is queued for it. A stream that does
//! not change costs nothing, whatever the number of readers.
//!
//! The list is kept without readers too, as of the last time that it was asked for, so that a page can be
//! rendered with it and its subscription continues exactly there. It takes about a kilobyte a stream.

mod reader;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use self::state::ListState;
pub(crate) use self::{
    reader::ListReader,
    state::{Entry, EntryJson},
};
use super::{
    hub::Hub,
    log::{Log, ReadError},
    supervisor::Supervisor,
};
use crate::message::{EventId, StreamName};

/// The shortest pause between two looks at the log.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The pause is so many times the time that the look took, so that a list of many streams takes at most
/// a twentieth of a processor.
const PAUSE_PER_READ_TIME: u32 = 20;
/// The pause after many changes, for each of them: a reader gets at most 250 a second. A page could show
/// more, but a person could not read it.
const PAUSE_PER_CHANGE: Duration = Duration::from_millis(4);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The log is looked at after this time though it has not said that it has changed: what other servers
/// of the store trim is not noted.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout of a read, and of the wait for the one that others have begun.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the log may fail before the readers are disconnected.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle to the list, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StreamList(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    hub: Hub,
    supervisor: Supervisor,
    /// Tells the cursors of this process from those of others.
    epoch: u64,
    state: Mutex<ListState>,
    /// Locked while the log is read: those that wait meanwhile share the next read, or the failure of
    /// this one.
    last_read: tokio::sync::Mutex<LastRead>,
    /// What wakes the readers; each has a receiver, so that it counts them.
    progress: watch::Sender<Progress>,
    /// Keeps the list current while there are readers.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// When the log was read.
#[derive(Debug, Default)]
struct LastRead {
    /// When the last successful read began.
    begun: Option<Instant>,
    /// When the last failed read ended.
    failed: Option<Instant>,
}

/// How far the list is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    version: u64,
    /// Whether the log has failed for so long that the readers are disconnected.
    failed: bool,
}

/// A part of the list, as it was at one moment.
pub(crate) struct ListPage {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Whether the list has more.
    pub(crate) more: bool,
    /// The cursor of a reader that continues from this moment.
    pub(crate) cursor: EventId,
}

impl StreamList {
    pub(crate) fn new(log: Log, hub: Hub, supervisor: Supervisor) -> Self {
        Self(Arc::new(Shared {
            log,
            hub,
            supervisor,
            epoch: fastrand::u64(..),
            state: Mutex::default(),
            last_read: tokio::sync::Mutex::default(),
            progress: watch::Sender::default(),
            task: Mutex::default(),
        }))
    }

    /// The newest streams that a client may watch, newest activity first, at most `max`. `rights` is the
    /// fingerprint of what it may watch.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn newest(
        &self,
        max: usize,
        rights: u64,
        may_watch: impl Fn(&StreamName) -> bool,
    ) -> Result<ListPage, ReadError> {
        self.refresh().await?;
        let state = self.0.state();
        let entries = state.newest_first().filter(|entry| may_watch(&entry.info.name));
        Ok(self.page(&state, entries, max, rights))
    }

    /// The streams whose names come after one, in the order of their names, as [`newest`](Self::newest).
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn by_name(
        &self,
        after: Option<&StreamName>,
        max: usize,
        rights: u64,
        may_watch: impl Fn(&StreamName) -> bool,
    ) -> Result<ListPage, ReadError> {
        self.refresh().await?;
        let state = self.0.state();
        let entries = state.by_name(after).filter(|entry| may_watch(&entry.info.name));
        Ok(self.page(&state, entries, max, rights))
    }

    fn page<'state>(
        &self,
        state: &ListState,
        mut entries: impl Iterator<Item = &'state Arc<Entry>>,
        max: usize,
        rights: u64,
    ) -> ListPage {
        let page = entries.by_ref().take(max).cloned().collect();
        let cursor = EventId { millis: self.epoch(rights), seq: state.version() };
        ListPage { entries: page, more: entries.next().is_some(), cursor }
    }

    /// The epoch of the cursors of readers with these rights. With other rights there are other streams
    /// in the list, and so a cursor is of no use.
    fn epoch(&self, rights: u64) -> u64 {
        self.0.epoch ^ rights
    }

    /// Compares the list with the log, as it is at some moment after this call.
    async fn refresh(&self) -> Result<(), ReadError> {
        self.read_log().await.map(|_| ())
    }

    /// As [`refresh`](Self::refresh); returns how many streams have changed.
    async fn read_log(&self) -> Result<usize, ReadError> {
        let asked_at = Instant::now();
        let no_answer = || ReadError::Unavailable("the store does not answer".into());
        let lock = timeout(READ_TIMEOUT, self.0.last_read.lock()).await;
        let mut last_read = lock.map_err(|_| no_answer())?;
        if last_read.begun.is_some_and(|begun| begun > asked_at) {
            return Ok(0);
        }
        if last_read.failed.is_some_and(|failed| failed > asked_at) {
            return Err(no_answer());
        }
        let begun = Instant::now();
        let streams = timeout(READ_TIMEOUT, self.0.log.streams(usize::MAX)).await;
        let streams = streams.unwrap_or_else(|_| Err(no_answer()));
        let streams = streams.inspect_err(|_| last_read.failed = Some(Instant::now()))?;
        let watchers = self.0.hub.all_watchers();
        last_read.begun = Some(begun);
        Ok(self.change(|state| state.set_streams(streams, &watchers)))
    }

    /// Updates the numbers of watchers; returns how many streams have changed.
    fn count_watchers(&self) -> usize {
        let watchers = self.0.hub.all_watchers();
        self.change(|state| state.set_watchers(&watchers))
    }

    /// Changes the list, and wakes the readers.
    fn change(&self, change: impl FnOnce(&mut ListState)) -> usize {
        let mut state = self.0.state();
        let before = state.version();
        change(&mut state);
        let now = Progress { version: state.version(), failed: false };
        drop(state);
        self.0.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
        usize::try_from(now.version - before).unwrap_or(usize::MAX)
    }

    /// Registers a reader.
    fn join(&self) -> watch::Receiver<Progress> {
        let mut task = self.0.task();
        let progress = self.0.progress.subscribe();
        task.get_or_insert_with(|| {
            let follow = self.clone().follow();
            AbortOnDropHandle::new(self.0.supervisor.spawn_abortable("list of the streams", follow))
        });
        progress
    }

    /// Removes a reader, and the task with the last one.
    fn leave(&self, progress: watch::Receiver<Progress>) {
        let mut task = self.0.task();
        drop(progress);
        if self.0.progress.receiver_count() == 0 {
            task.take();
        }
    }

    /// Keeps the list current, until it is aborted with the last reader.
    async fn follow(self) {
        let mut stored = self.0.log.activity();
        let mut watching = self.0.hub.watcher_activity();
        let mut read_at = Instant::now();
        let mut succeeded_at = Instant::now();
        loop {
            let recheck = RECHECK_INTERVAL.saturating_sub(read_at.elapsed());
            tokio::select! {
                () = stored.wait() => {}
                () = watching.wait() => {}
                () = sleep(recheck) => {}
            }
            let begun = Instant::now();
            watching.take();
            let changes = if stored.take() || read_at.elapsed() >= RECHECK_INTERVAL {
                read_at = begun;
                self.read_log().await
            } else {
                Ok(self.count_watchers())
            };
            let changes = match changes {
                Ok(changes) => {
                    succeeded_at = begun;
                    u32::try_from(changes).unwrap_or(u32::MAX)
                }
                Err(error) => {
                    tracing::debug!(?error, "the list of the streams cannot be read");
                    if succeeded_at.elapsed() > FAILURE_TIMEOUT {
                        self.0.progress.send_modify(|progress| progress.failed = true);
                    }
                    0
                }
            };
            let pause = (begun.elapsed() * PAUSE_PER_READ_TIME)
                .max(PAUSE_PER_CHANGE.saturating_mul(changes))
                .clamp(MIN_PAUSE, MAX_PAUSE);
            sleep(pause).await;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, ListState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self) -> MutexGuard<'_, Option<AbortOnDropHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
