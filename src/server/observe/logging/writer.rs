//! A non-blocking, lossy log writer: a bounded queue, and a thread that writes it out.
//!
//! Ours and not `tracing-appender`, which does not count the lines that fail to be written, and
//! which tells of a full queue with `println!`: on the very output that does not take any more.

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

/// How many bytes may wait for the output; lines beyond that are dropped.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// How long to wait for an output that is busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes lines, each as one `write`, and never blocks or fails.
#[derive(Debug, Default)]
pub(super) struct LogWriter {
    queue: Mutex<Queue>,
    /// A line has come, or one has been written.
    changed: Condvar,
    /// How many lines were dropped so far.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread has a line in hand.
    writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `output`. The line before which `n` were dropped is
    /// preceded by what `notice(n)` gives.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let writer = Arc::new(Self::default());
        let thread = Arc::clone(&writer);
        // Not supervised: without it lines are dropped and counted, and the server goes on.
        thread::Builder::new()
            .name("log-output".to_owned())
            .spawn(move || thread.run(Output { output, torn: false }, notice))?;
        Ok(writer)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines were dropped so far.
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

    /// Takes the last line of the process, even if the queue is full.
    pub(super) fn push_last(&self, line: Vec<u8>) {
        self.push(line, usize::MAX);
    }

    /// Waits until everything is written, but no longer than `timeout`.
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

/// What lines are written to, one by one.
struct Output<W> {
    output: W,
    /// Whether a line broke off in its middle: the next one begins on a line of its own.
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
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

    /// An output that is told before each write how many bytes to take, or to fail; once it is told
    /// no more it takes everything.
    struct Told {
        takes: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.takes.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            let _ = self.written.send(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Steps = (Arc<LogWriter>, Sender<io::Result<usize>>, Receiver<Vec<u8>>);

    fn start() -> Steps {
        let ((take, takes), (sender, written)) = (channel(), channel());
        let output = Told { takes, written: sender };
        let writer = LogWriter::start(output, |dropped| format!("dropped {dropped}\n"));
        (writer.expect("a thread"), take, written)
    }

    fn all(written: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(written.try_iter().flatten().collect()).expect("text")
    }

    #[test]
    fn an_output_that_takes_nothing_holds_up_no_one() {
        let (writer, take, written) = start();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..2_000 {
            assert_eq!((&*writer).write(line.as_bytes()).expect("never fails"), line.len());
        }
        // A megabyte waits, and perhaps a line is in hand.
        let dropped = writer.dropped();
        assert!((975..=976).contains(&dropped), "{dropped}");
        writer.flush(Duration::from_millis(10));
        writer.push_last(b"the last line\n".to_vec());
        drop(take);
        writer.flush(Duration::from_mins(1));
        let said = all(&written);
        assert_eq!(said.matches(&line).count() as u64, 2_000 - dropped);
        // In one notice, or in more where the thread takes the first line while lines are dropped.
        let noticed = said.lines().filter_map(|line| line.strip_prefix("dropped "));
        let noticed: u64 = noticed.map(|count| count.parse::<u64>().expect("a number")).sum();
        assert_eq!(noticed, dropped, "each dropped line is reported once");
        assert!(said.ends_with("\nthe last line\n"), "nothing is dropped at the end");
    }

    #[test]
    fn what_fails_is_said_in_the_next_line_that_gets_through() {
        let (writer, take, written) = start();
        let broken = || Err(io::ErrorKind::BrokenPipe.into());
        // The first line breaks off, the second is lost with the notice before it.
        for step in [Ok(5), broken(), broken(), broken()] {
            take.send(step).expect("it waits");
        }
        drop(take);
        for line in ["first line\n", "second line\n", "third line\n"] {
            (&*writer).write_all(line.as_bytes()).expect("never fails");
        }
        writer.flush(Duration::from_mins(1));
        assert_eq!(writer.dropped(), 2);
        let said = all(&written);
        assert!(said == "first\ndropped 2\nthird line\n", "{said:?}");
    }
}
