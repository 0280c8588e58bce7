//! A group: watchers of one stream that have caught up, and the task that writes to their sockets.

use std::{
    future::pending,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use slab::Slab;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    FanOut, LiveWatcher, WRITE_TIMEOUT, chunk,
    inbox::{Inbox, Pending},
};
use crate::{
    message::StreamName,
    server::{
        hub::{TailRead, TailReader, Watcher, count_frame},
        log::Position,
        sse::{frame, response::BATCH_BYTES, subscription::PING_INTERVAL},
    },
};

/// After so many writes other tasks have their turn.
const MAX_WRITES: usize = 64;
/// Deadlines are looked for at most this often.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// The positions for which what follows is kept during a pass: those of watchers that keep up, and of
/// some that are behind.
const MAX_SHARED: usize = 4;

pub(super) struct Group {
    fan_out: FanOut,
    inbox: Arc<Inbox>,
    stream: StreamName,
    tail: TailReader,
    watchers: Slab<Slot>,
    /// What follows a position, for all watchers that are there.
    shared: Vec<(Position, Following)>,
    /// Whether a watcher may lack more than it was sent in its turn.
    is_behind: bool,
    /// When the first watcher needs a ping, or loses its permission or its connection.
    due: Instant,
    /// The number of watchers, once one of them wants to know it.
    count: Option<watch::Receiver<usize>>,
    /// Delivered since the metrics were told.
    messages: u64,
    bytes: u64,
    /// Since other tasks had their turn.
    writes: usize,
}

struct Slot {
    watcher: LiveWatcher,
    /// Wakes the group when the socket is ready.
    waker: Waker,
}

/// What follows a position.
#[derive(Clone)]
enum Following {
    Nothing,
    Frames(Frames),
    /// Something that needs a task of the watcher's own: the log, or a large message.
    Other,
}

/// Frames, as a chunk of the response.
#[derive(Clone)]
struct Frames {
    chunk: Bytes,
    messages: u64,
    /// In bytes, without the framing of the chunk.
    length: usize,
    /// The position after them.
    to: Position,
    /// Whether the last one is the end.
    ended: bool,
}

impl Group {
    pub(super) fn new(fan_out: FanOut, inbox: Arc<Inbox>, first: &Watcher) -> Self {
        Self {
            fan_out,
            inbox,
            stream: first.stream().clone(),
            tail: first.tail_reader(),
            watchers: Slab::new(),
            shared: Vec::with_capacity(MAX_SHARED),
            is_behind: false,
            due: Instant::now() + PING_INTERVAL,
            count: None,
            messages: 0,
            bytes: 0,
            writes: 0,
        }
    }

    /// Runs until it has no watchers.
    pub(super) async fn run(mut self) {
        let events = self.fan_out.events().clone();
        let mut freshness = self.fan_out.freshness().clone();
        let mut stopping = pin!(events.shutdown.wait());
        loop {
            self.take_pending().await;
            if self.due <= Instant::now() {
                self.sweep().await;
            }
            self.count_delivered();
            if self.watchers.is_empty() && self.fan_out.remove(&self.stream, &self.inbox) {
                return;
            }
            tokio::select! {
                () = &mut stopping => break,
                is_watched = self.tail.changed() => {
                    if !is_watched {
                        break;
                    }
                    self.deliver().await;
                }
                () = yield_now(), if self.is_behind => self.deliver().await,
                () = self.inbox.changed() => {}
                () = changed(&mut self.count) => self.send_counts().await,
                () = freshness.changed() => {
                    let stale = freshness.is_stale();
                    self.leave_where(|watcher| watcher.subscription.stale != stale).await;
                }
                () = sleep_until(self.due) => {}
            }
        }
        // The server stops, or nobody watches the stream any more.
        loop {
            self.take_pending().await;
            self.leave_where(|_| true).await;
            self.count_delivered();
            if self.fan_out.remove(&self.stream, &self.inbox) {
                return;
            }
            yield_now().await;
        }
    }

    /// Takes new watchers, and looks at the sockets that are ready.
    async fn take_pending(&mut self) {
        self.shared.clear();
        let Pending { arrived, ready } = self.inbox.take();
        for watcher in arrived {
            self.due = self.due.min(watcher.subscription.next_deadline());
            if let (Some(count), None) = (&watcher.count, &self.count) {
                self.count = Some(count.number.clone());
            }
            let is_told = watcher.subscription.stale == self.fan_out.freshness().is_stale();
            let entry = self.watchers.vacant_entry();
            let slot = entry.key();
            let waker = self.inbox.waker(slot);
            entry.insert(Slot { watcher, waker });
            self.check_socket(slot);
            // What has changed since its own task has looked.
            if is_told {
                self.send_news(slot);
            } else {
                self.leave(slot, 0);
            }
            self.give_way().await;
        }
        for slot in ready {
            self.check_socket(slot);
            self.give_way().await;
        }
    }

    /// Removes the watcher if its client has gone, and sends what it did not take before.
    fn check_socket(&mut self, slot: usize) {
        let Some(Slot { watcher, waker }) = self.watchers.get_mut(slot) else { return };
        let mut context = Context::from_waker(waker);
        let connection = &mut watcher.connection;
        let was_blocked = connection.blocked_since().is_some();
        if connection.poll_closed(&mut context).is_ready()
            || connection.write_rest(&mut context).is_err()
        {
            self.remove(slot);
        } else if was_blocked && connection.blocked_since().is_none() {
            self.due = self.due.min(watcher.subscription.next_deadline());
            self.send_news(slot);
        }
    }

    /// Sends a watcher the next frames and the number of watchers.
    fn send_news(&mut self, slot: usize) {
        let now = Instant::now();
        self.send(slot, now);
        self.send_count(slot, now);
    }

    /// Sends each watcher some of what it lacks.
    async fn deliver(&mut self) {
        self.is_behind = false;
        self.shared.clear();
        let now = Instant::now();
        for slot in 0..self.watchers.capacity() {
            self.send(slot, now);
            self.give_way().await;
        }
        self.shared.clear();
    }

    async fn give_way(&mut self) {
        if self.writes >= MAX_WRITES {
            self.writes = 0;
            yield_now().await;
        }
    }

    fn count_delivered(&mut self) {
        let (messages, bytes) = (mem::take(&mut self.messages), mem::take(&mut self.bytes));
        if bytes > 0 {
            self.fan_out.events().metrics.delivered(messages, bytes);
        }
    }

    /// Sends a watcher the next frames, unless it has not taken the last ones.
    fn send(&mut self, slot: usize, now: Instant) {
        let Some(Slot { watcher, .. }) = self.watchers.get(slot) else { return };
        if watcher.connection.blocked_since().is_some() {
            return;
        }
        let following = self.following(watcher.cursor.position());
        let Some(Slot { watcher, .. }) = self.watchers.get_mut(slot) else { return };
        let subscription = &mut watcher.subscription;
        let Frames { chunk, messages, length, to, ended } = match following {
            Following::Nothing => return,
            Following::Frames(frames) if !subscription.has_expired() => frames,
            Following::Frames(_) | Following::Other => return self.leave(slot, 0),
        };
        watcher.cursor.advance(to, ended);
        subscription.record_sent(messages, length as u64, now);
        let is_paced = subscription.is_paced(length);
        self.messages += messages;
        self.bytes += length as u64;
        self.is_behind = true;
        self.write(slot, &chunk);
        if ended || is_paced {
            self.leave(slot, length);
        }
    }

    fn following(&mut self, position: Position) -> Following {
        if let Some((_, following)) = self.shared.iter().find(|(from, _)| *from == position) {
            return following.clone();
        }
        let following = following(&self.tail, position);
        if self.shared.len() == MAX_SHARED {
            self.shared.remove(0);
        }
        self.shared.push((position, following.clone()));
        following
    }

    /// Writes a chunk to a socket that has taken everything before.
    fn write(&mut self, slot: usize, chunk: &Bytes) {
        let Some(Slot { watcher, waker }) = self.watchers.get_mut(slot) else { return };
        self.writes += 1;
        if watcher.connection.write(chunk, &mut Context::from_waker(waker)).is_err() {
            self.remove(slot);
        }
    }

    /// Pings, ends and disconnects the watchers whose time has come.
    async fn sweep(&mut self) {
        let now = Instant::now();
        let mut due = now + PING_INTERVAL;
        for slot in 0..self.watchers.capacity() {
            let Some(Slot { watcher, .. }) = self.watchers.get_mut(slot) else { continue };
            let LiveWatcher { connection, subscription, .. } = watcher;
            let deadline = match connection.blocked_since() {
                Some(since) => since + WRITE_TIMEOUT,
                None => subscription.next_deadline(),
            };
            if deadline > now {
                due = due.min(deadline);
            } else if connection.blocked_since().is_some() {
                self.remove(slot);
            } else if subscription.has_expired() {
                self.leave(slot, 0);
            } else {
                let mut ping = String::new();
                frame::ping(&mut ping, subscription.stale);
                subscription.last_sent = now;
                due = due.min(subscription.next_deadline());
                self.write(slot, &chunk::of(ping.as_bytes()));
            }
            self.give_way().await;
        }
        self.due = due.max(now + MIN_SWEEP_INTERVAL);
    }

    async fn send_counts(&mut self) {
        let now = Instant::now();
        for slot in 0..self.watchers.capacity() {
            self.send_count(slot, now);
            self.give_way().await;
        }
    }

    /// Tells a reader the number of watchers, if it wants to know it and does not.
    fn send_count(&mut self, slot: usize, now: Instant) {
        let Some(Slot { watcher, .. }) = self.watchers.get_mut(slot) else { return };
        let Some(count) = &mut watcher.count else { return };
        let number = *count.number.borrow();
        if count.told == number || watcher.connection.blocked_since().is_some() {
            return;
        }
        count.told = number;
        let frame = count_frame(number);
        watcher.subscription.record_sent(0, frame.len() as u64, now);
        self.bytes += frame.len() as u64;
        self.write(slot, &chunk::of(frame.as_bytes()));
    }

    async fn leave_where(&mut self, leaves: impl Fn(&LiveWatcher) -> bool) {
        for slot in 0..self.watchers.capacity() {
            if self.watchers.get(slot).is_some_and(|slot| leaves(&slot.watcher)) {
                self.leave(slot, 0);
                self.writes += 1;
                self.give_way().await;
            }
        }
    }

    /// Gives a watcher a task of its own. It has just been sent `sent` bytes.
    fn leave(&mut self, slot: usize, sent: usize) {
        if let Some(Slot { watcher, .. }) = self.watchers.try_remove(slot) {
            self.inbox.left();
            self.fan_out.catch_up(watcher, sent);
        }
    }

    fn remove(&mut self, slot: usize) {
        if self.watchers.try_remove(slot).is_some() {
            self.inbox.left();
        }
    }
}

fn following(tail: &TailReader, position: Position) -> Following {
    match tail.read_after(position) {
        TailRead::UpToDate => Following::Nothing,
        // The chunk is a copy, which nothing counts, and readers that stall hold it.
        TailRead::Frames { bytes, .. } if bytes.len() > BATCH_BYTES => Following::Other,
        TailRead::Frames { bytes, messages, generation, seq, ended } => Following::Frames(Frames {
            chunk: chunk::of(&bytes),
            messages: messages as u64,
            length: bytes.len(),
            to: Position { generation: Some(generation), seq },
            ended,
        }),
        TailRead::ReadLog | TailRead::NotFollowed | TailRead::Deleted => Following::Other,
    }
}

/// Waits until the number of watchers changes.
async fn changed(count: &mut Option<watch::Receiver<usize>>) {
    let changed = match count {
        Some(count) => count.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        pending::<()>().await;
    }
}
