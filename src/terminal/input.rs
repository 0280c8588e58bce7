//! Reads the input: the whole of it as one message, or line by line into a queue.

use std::{
    io::{self, IsTerminal as _, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, task::block_in_place, time::sleep};

use super::{ExitError, MAX_MESSAGE_BYTES, lines::LineSplitter, queue::Queue, status::Status};

/// The most bytes that are read at a time.
const CHUNK: usize = 64 * 1024;
/// How long the thread has to see that it is to stop. Then it waits for the input.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);

/// Reads the standard input as one message, without its last line end: the output of a command ends with
/// one.
///
/// # Errors
/// When it cannot be read, is empty, not UTF-8, or longer than a message can be.
pub(super) fn read_message(status: &Status) -> Result<String, ExitError> {
    const TOO_LONG: &str = "is longer than a message can be; with --lines each line is one";
    let stdin = io::stdin();
    if stdin.is_terminal() {
        status.note("type the message; Ctrl-D on an empty line ends it");
    }
    let failed = |why: &str| ExitError::Failed(format!("the standard input {why}"));
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MAX_MESSAGE_BYTES as u64 + 3).read_to_end(&mut bytes);
    read.map_err(|error| failed(&format!("cannot be read: {error}")))?;
    // With room for its line end. The cut may be within a character.
    if bytes.len() > MAX_MESSAGE_BYTES + 2 {
        return Err(failed(TOO_LONG));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8"))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match text.len() {
        0 => Err(failed("is empty, and it is the message")),
        length if length > MAX_MESSAGE_BYTES => Err(failed(TOO_LONG)),
        _ => Ok(text.to_owned()),
    }
}

/// A thread that reads lines into a queue.
pub(super) struct LineReader {
    /// The result, once the input has ended.
    pub(super) done: oneshot::Receiver<io::Result<()>>,
    pub(super) reads: Reads,
    feed: Feed,
}

/// What a thread has read, on its way into the queue.
#[derive(Clone)]
struct Feed {
    /// `None`: it is finished, and what is still read is dropped.
    splitter: Arc<Mutex<Option<LineSplitter>>>,
    /// Whether the thread is to finish after the read that is under way.
    is_stopped: Arc<AtomicBool>,
    queue: Arc<Queue>,
}

/// Counts the reads of a thread: odd while one waits for the input.
#[derive(Clone, Default)]
pub(super) struct Reads(Arc<AtomicU64>);

impl LineReader {
    /// Starts the thread. `echo` gets all that is read, before it is published.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(
        mut input: impl Read + Send + 'static,
        mut echo: impl FnMut(&[u8]) + Send + 'static,
        queue: Arc<Queue>,
    ) -> io::Result<Self> {
        let (sender, done) = oneshot::channel();
        let reads = Reads::default();
        let counter = Arc::clone(&reads.0);
        let splitter = Arc::new(Mutex::new(Some(LineSplitter::default())));
        let feed = Feed { splitter, is_stopped: Arc::default(), queue };
        let own_feed = feed.clone();
        let run = move || {
            let mut buffer = vec![0; CHUNK];
            let result = loop {
                if own_feed.is_stopped.load(Ordering::Relaxed) {
                    break Ok(());
                }
                counter.fetch_add(1, Ordering::Relaxed);
                let read = input.read(&mut buffer);
                counter.fetch_add(1, Ordering::Relaxed);
                match read {
                    Ok(0) => break Ok(()),
                    Ok(length) => {
                        echo(&buffer[..length]);
                        if !own_feed.push(&buffer[..length]) {
                            break Ok(());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            own_feed.finish();
            // Nothing receives it where the publisher has ended.
            let _ = sender.send(result);
        };
        thread::Builder::new().name("input".to_owned()).spawn(run)?;
        Ok(Self { done, reads, feed })
    }

    /// The input is not read further. All that has been read gets into the queue, also where it has no
    /// room, and a last line without an end; then it is closed. Not to be called when `done` has been
    /// received.
    pub(super) async fn stop(&mut self) {
        self.feed.is_stopped.store(true, Ordering::Relaxed);
        self.feed.queue.admit_all();
        tokio::select! {
            _ = &mut self.done => {}
            // A read that waits cannot be ended.
            () = sleep(STOP_TIMEOUT) => block_in_place(|| self.feed.finish()),
        }
    }
}

impl Feed {
    /// Takes what was read; returns whether to go on reading.
    fn push(&self, bytes: &[u8]) -> bool {
        let mut splitter = self.splitter.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(splitter) = splitter.as_mut() else { return false };
        splitter.feed(bytes, &mut |lines| self.queue.push(&lines));
        true
    }

    fn finish(&self) {
        let mut splitter = self.splitter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut splitter) = splitter.take() {
            splitter.finish(&mut |lines| self.queue.push(&lines));
            self.queue.close();
        }
    }
}

impl Reads {
    /// The number of the read that waits for the input now, if one does.
    pub(super) fn waiting(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|reads| reads % 2 == 1)
    }
}
