//! A non-blocking, lossy log writer: a bounded queue, and a thread that writes its lines.
//!
//! Replaces `tracing-appender`, which does not count lines whose write fails, and reports a full queue
//! with `println!`, which may block or panic.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How many bytes may be queued; lines beyond that are dropped.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// How long to wait before writing again to an output that would block.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Accepts each line as one `write`; never blocks or fails.
#[derive(Debug, Default)]
pub(super) struct LogWriter {
    queue: Mutex<Queue>,
    /// Notified when a line is queued, and when one was written.
    changed: Condvar,
    /// The number of lines dropped so far.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread is writing a line that it took from the queue.
    writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `output`. After `n` lines were dropped, the next line is preceded
    /// by `notice(n)`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let writer = Arc::new(Self::default());
        let thread = Arc::clone(&writer);
        // Not supervised: if it ends, lines are dropped and counted, and the server continues.
        thread::Builder::new()
            .name("log-output".to_owned())
            .spawn(move || thread.run(Output { output, torn: false }, notice))?;
        Ok(writer)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_line(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn push(&self, line: Vec<u8>, max: usize) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > max {
            self.drop_line();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.changed.notify_all();
    }

    /// Queues the last line of the process, even if the queue is full.
    pub(super) fn push_last(&self, line: Vec<u8>) {
        self.push(line, usize::MAX);
    }

    /// Waits until all queued lines are written, at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let unwritten = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.queue(), timeout, unwritten));
    }

    fn run(&self, mut output: Output<impl Write>, notice: impl Fn(u64) -> String) {
        let mut reported = 0;
        loop {
            let line = self.next_line();
            let dropped = self.dropped();
            if dropped > reported && output.write(notice(dropped - reported).as_bytes()).is_ok() {
                reported = dropped;
            }
            if output.write(&line).is_err() {
                self.drop_line();
            }
            self.queue().writing = false;
            self.changed.notify_all();
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec(), MAX_QUEUED_BYTES);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The output of the thread, written line by line.
struct Output<W> {
    output: W,
    /// Whether the last line was written in part: a line break is written before the next one.
    torn: bool,
}

impl<W: Write> Output<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.output.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process may have made the output non-blocking; this thread may wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output whose writes wait for a step each: how many bytes to take, or an error. Once the sender
    /// is dropped, writes take everything.
    struct ScriptedOutput {
        steps: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for ScriptedOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.steps.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            let _ = self.written.send(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type ScriptedWriter = (Arc<LogWriter>, Sender<io::Result<usize>>, Receiver<Vec<u8>>);

    fn start() -> ScriptedWriter {
        let ((step_sender, steps), (sender, written)) = (channel(), channel());
        let output = ScriptedOutput { steps, written: sender };
        let writer = LogWriter::start(output, |dropped| format!("dropped {dropped}\n"));
        (writer.expect("a thread"), step_sender, written)
    }

    fn written_text(written: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(written.try_iter().flatten().collect()).expect("text")
    }

    #[test]
    fn an_output_that_takes_nothing_blocks_no_writer() {
        let (writer, step_sender, written) = start();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..2_000 {
            assert_eq!((&*writer).write(line.as_bytes()).expect("never fails"), line.len());
        }
        // 1 MiB is queued, and the thread may have taken one more line.
        let dropped = writer.dropped();
        assert!((975..=976).contains(&dropped), "{dropped}");
        writer.flush(Duration::from_millis(10));
        writer.push_last(b"the last line\n".to_vec());
        drop(step_sender);
        writer.flush(Duration::from_mins(1));
        let text = written_text(&written);
        assert_eq!(text.matches(&line).count() as u64, 2_000 - dropped);
        // In one notice, or in several if the thread takes a line while others are dropped.
        let noticed = text.lines().filter_map(|line| line.strip_prefix("dropped "));
        let noticed: u64 = noticed.map(|count| count.parse::<u64>().expect("a number")).sum();
        assert_eq!(noticed, dropped, "each dropped line is reported once");
        assert!(text.ends_with("\nthe last line\n"), "the last line is never dropped");
    }

    #[test]
    fn failed_writes_are_reported_before_the_next_line_that_is_written() {
        let (writer, step_sender, written) = start();
        let broken = || Err(io::ErrorKind::BrokenPipe.into());
        // The first line is written in part, the second is lost with the notice before it.
        for step in [Ok(5), broken(), broken(), broken()] {
            step_sender.send(step).expect("a writer that waits");
        }
        drop(step_sender);
        for line in ["first line\n", "second line\n", "third line\n"] {
            (&*writer).write_all(line.as_bytes()).expect("never fails");
        }
        writer.flush(Duration::from_mins(1));
        assert_eq!(writer.dropped(), 2);
        let text = written_text(&written);
        assert!(text == "first\ndropped 2\nthird line\n", "{text:?}");
    }
}
