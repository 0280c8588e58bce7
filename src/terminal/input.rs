//! Reads the input: the whole of it as one message, or line by line into a queue.

use std::{
    io::{self, IsTerminal as _, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{MAX_MESSAGE_BYTES, Stop, lines::LineSplitter, queue::Queue, status::Status};

/// The most bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Reads the standard input as one message, without its last line end: the output of a command ends with
/// one.
///
/// # Errors
/// When it cannot be read, is empty, not UTF-8, or longer than a message can be.
pub(super) fn read_message(status: &Status) -> Result<String, Stop> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        status.note("type the message; Ctrl-D on an empty line ends it");
    }
    let failed = |why: &str| Stop::Failed(format!("the standard input {why}"));
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MAX_MESSAGE_BYTES as u64 + 3).read_to_end(&mut bytes);
    read.map_err(|error| failed(&format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8"))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match text.len() {
        0 => Err(failed("is empty, and it is the message")),
        length if length > MAX_MESSAGE_BYTES => {
            Err(failed("is longer than a message can be; with --lines each line is one"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// A thread that reads lines into a queue.
pub(super) struct LineReader {
    /// The result, once the input has ended.
    pub(super) done: oneshot::Receiver<io::Result<()>>,
    pub(super) reads: Reads,
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
        let run = move || {
            let mut splitter = LineSplitter::default();
            let mut buffer = vec![0; CHUNK];
            let result = loop {
                counter.fetch_add(1, Ordering::Relaxed);
                let read = input.read(&mut buffer);
                counter.fetch_add(1, Ordering::Relaxed);
                match read {
                    Ok(0) => break Ok(()),
                    Ok(length) => {
                        echo(&buffer[..length]);
                        splitter.feed(&buffer[..length], &mut |lines| queue.push(&lines));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            splitter.finish(&mut |lines| queue.push(&lines));
            queue.close();
            // Not needed any more where the publisher has ended.
            let _ = sender.send(result);
        };
        thread::Builder::new().name("input".to_owned()).spawn(run)?;
        Ok(Self { done, reads })
    }
}

impl Reads {
    /// The number of the read that waits for the input now, if one does.
    pub(super) fn waiting(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|reads| reads % 2 == 1)
    }
}
