//! The lines that are not acknowledged yet, between the thread that reads them and the upload.
//!
//! Bounded: when it is full, the reading thread waits, and so does the process that writes the input.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::block_in_place};

use super::{
    batch::{Batch, Lines, random_key},
    spool::Spool,
};

/// The most bytes of lines in memory. The last lines may exceed it.
const MAX_MEMORY: usize = 4 * 1024 * 1024;

/// The queue. One thread pushes, one task takes.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Wakes the task: there are lines, or no more will come.
    filled: Notify,
    /// Wakes the thread: there is room.
    drained: Condvar,
}

struct QueueState {
    store: Store,
    /// No more lines come.
    is_closed: bool,
    /// Lines are taken also where there is no room.
    admits_all: bool,
    /// Why lines could not be stored.
    error: Option<io::Error>,
}

/// Where the lines are.
enum Store {
    Memory(Memory),
    Spool(Spool),
}

#[derive(Default)]
struct Memory {
    waiting: VecDeque<Lines>,
    bytes: usize,
    count: u64,
    /// The number of lines in the batch that is not acknowledged yet.
    in_flight: u64,
}

impl Queue {
    pub(super) fn in_memory() -> Self {
        Self::new(Store::Memory(Memory::default()))
    }

    pub(super) fn in_file(spool: Spool) -> Self {
        Self::new(Store::Spool(spool))
    }

    fn new(store: Store) -> Self {
        Self {
            state: Mutex::new(QueueState {
                store,
                is_closed: false,
                admits_all: false,
                error: None,
            }),
            filled: Notify::new(),
            drained: Condvar::new(),
        }
    }

    /// Adds lines; waits while there is no room. Lines that come after [`close`](Self::close), or after
    /// an error, are dropped.
    pub(super) fn push(&self, lines: &Lines) {
        let is_full = |state: &mut QueueState| {
            !(state.is_closed
                || state.admits_all
                || state.error.is_some()
                || state.store.has_room(lines.bytes.len()))
        };
        let waited = self.drained.wait_while(self.lock(), is_full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.is_closed && state.error.is_none() {
            if let Err(error) = state.store.push(lines) {
                state.error = Some(error);
            }
            self.filled.notify_one();
        }
    }

    /// From now on [`push`](Self::push) does not wait for room: what has been read must not be lost when the
    /// input is not read further.
    pub(super) fn admit_all(&self) {
        self.lock().admits_all = true;
        self.drained.notify_all();
    }

    /// No more lines come, and what comes is dropped.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
        self.drained.notify_all();
    }

    /// The next batch, as soon as there is a line. `None`: there will be none.
    ///
    /// # Errors
    /// When the spool cannot be read or written, or the system has no randomness for a key.
    pub(super) async fn next(&self) -> io::Result<Option<Batch>> {
        loop {
            let ready = block_in_place(|| {
                let mut state = self.lock();
                match (state.error.take(), state.store.begin_batch()) {
                    (Some(error), _) => Err(error),
                    (None, Ok(None)) if state.is_closed => Ok(Some(None)),
                    (None, batch) => Ok(batch?.map(Some)),
                }
            })?;
            if let Some(batch) = ready {
                return Ok(batch);
            }
            self.filled.notified().await;
        }
    }

    /// The batch that [`next`](Self::next) returned is stored by the server.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub(super) fn acknowledge(&self) -> io::Result<()> {
        block_in_place(|| self.lock().store.acknowledge())?;
        self.drained.notify_all();
        Ok(())
    }

    /// Makes a spool smaller if much of it is acknowledged.
    ///
    /// # Errors
    /// When the smaller file cannot be written. The spool is as it was, and is not made smaller again.
    pub(super) fn compact(&self) -> io::Result<()> {
        match &mut self.lock().store {
            Store::Memory(_) => Ok(()),
            Store::Spool(spool) => block_in_place(|| spool.compact_if_due()),
        }
    }

    /// The number of lines that are not acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        match &self.lock().store {
            Store::Memory(memory) => memory.count + memory.in_flight,
            Store::Spool(spool) => spool.waiting(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn has_room(&self, bytes: usize) -> bool {
        match self {
            Self::Memory(memory) => memory.bytes < MAX_MEMORY,
            Self::Spool(spool) => spool.has_room(bytes),
        }
    }

    fn push(&mut self, lines: &Lines) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.push(lines);
                Ok(())
            }
            Self::Spool(spool) => spool.push(lines),
        }
    }

    fn begin_batch(&mut self) -> io::Result<Option<Batch>> {
        match self {
            Self::Memory(memory) => memory.begin_batch(),
            Self::Spool(spool) => spool.begin_batch(),
        }
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.in_flight = 0;
                Ok(())
            }
            Self::Spool(spool) => spool.acknowledge(),
        }
    }
}

impl Memory {
    fn push(&mut self, lines: &Lines) {
        self.bytes += lines.bytes.len();
        self.count += lines.count;
        match self.waiting.back_mut() {
            Some(last) if last.can_take(lines.count, lines.bytes.len()) => last.append(lines),
            _ => self.waiting.push_back(lines.clone()),
        }
    }

    fn begin_batch(&mut self) -> io::Result<Option<Batch>> {
        let key = random_key()?;
        let Some(Lines { count, bytes }) = self.waiting.pop_front() else { return Ok(None) };
        self.bytes -= bytes.len();
        self.count -= count;
        self.in_flight = count;
        Ok(Some(Batch { key, count, body: bytes.into() }))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_push_that_waits_for_room_is_not_lost() {
        let queue = Arc::new(Queue::in_memory());
        let full = Lines { count: 1, bytes: vec![b'x'; MAX_MEMORY] };
        queue.push(&full);
        let waits = Arc::clone(&queue);
        let pushing =
            thread::spawn(move || waits.push(&Lines { count: 1, bytes: b"y\n".to_vec() }));
        thread::sleep(Duration::from_millis(20));
        assert_eq!(queue.waiting(), 1);
        queue.admit_all();
        pushing.join().expect("a push");
        queue.close();
        queue.push(&full);
        assert_eq!(queue.waiting(), 2);
        assert!(queue.next().await.expect("memory").is_some_and(|batch| batch.count == 1));
        assert_eq!(queue.next().await.expect("memory").expect("a batch").body, "y\n");
        assert_eq!(queue.next().await.expect("memory"), None);
    }
}
