//! `tidings watch`: follows a stream through lost connections, by its cursor.

use std::{
    process::{self, ExitStatus},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use reqwest::Response;
use serde::Deserialize;
use tidings::message::{
    END_EVENT, EventId, NEW_MESSAGE, PING, PING_INTERVAL_MS, RESET, ResetReason, STALE_PING,
};
use tokio::time::timeout;

use super::{
    ExitError, MAX_MESSAGE_BYTES,
    backoff::Backoff,
    client::{AttemptError, Client},
    config_file::Endpoint,
    options::{ExecFailure, StartPosition, WatchOptions},
    output::{Format, Output},
    retry::Deadline,
    signals::{Signal, Signals},
    sse::{Event, Parser},
    state::{SavedPosition, StateFile},
    status::Status,
};

/// A connection on which nothing arrived for two and a half pings is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(PING_INTERVAL_MS * 5 / 2);
/// How long the server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(PING_INTERVAL_MS);
/// A connection that was open for this long, or has brought a message, has proved itself: the back-off
/// restarts.
const STABLE_AFTER: Duration = Duration::from_millis(PING_INTERVAL_MS);
/// While messages keep coming, the position is kept this often.
const SAVE_INTERVAL: Duration = Duration::from_millis(250);
/// How much later than to a command Ctrl-C may come to this process.
const SIGNAL_DELAY: Duration = Duration::from_millis(100);
/// The most bytes of an event: the longest message, and room for its fields.
const MAX_EVENT: usize = MAX_MESSAGE_BYTES + 1024;

/// A watcher of a stream.
pub(super) struct Watch<'a> {
    client: Client,
    status: &'a Status,
    output: Output,
    state: Option<StateFile>,
    from: StartPosition,
    exec_failure: ExecFailure,
    retry_for: Option<Duration>,
    /// The id of the last message, or where the server said to continue.
    cursor: Option<EventId>,
    /// Whether the cursor has moved since it was kept, and when that was.
    is_unsaved: bool,
    saved_at: Instant,
    /// Whether the server has said that new messages may be missing.
    is_stale: bool,
}

/// Why a connection is over.
enum Closed {
    /// The stream has ended.
    Ended,
    Lost(String),
    /// A signal came.
    Stopped(Signal),
}

impl<'a> Watch<'a> {
    /// # Errors
    /// When the configuration, the state or the output cannot be used.
    pub(super) fn new(options: WatchOptions, status: &'a Status) -> Result<Self, ExitError> {
        let WatchOptions { stream, from, json, times, state, output, exec, exec_fail, server } =
            options;
        let client = Client::new(Endpoint::find(&server)?, &stream)?;
        let state = state
            .map(|path| StateFile::new(path, client.server(), stream, output.as_deref()))
            .transpose()?;
        let kept = state.as_ref().map(StateFile::read).transpose()?.flatten();
        let format = match (json, times) {
            (true, _) => Format::Json,
            (false, true) => Format::TextWithTimes,
            (false, false) => Format::Text,
        };
        let output = match (exec, output) {
            (Some(command), _) => Output::Exec(command),
            (None, Some(path)) => Output::file(&path, format, kept.and_then(|kept| kept.length))?,
            (None, None) => Output::stdout(format),
        };
        let cursor = kept.and_then(|kept| kept.cursor);
        let mut watch = Self {
            client,
            status,
            output,
            state,
            from,
            exec_failure: exec_fail,
            retry_for: server.retry_for,
            cursor,
            is_unsaved: kept.is_none(),
            saved_at: Instant::now(),
            is_stale: false,
        };
        // The length of the output before the first message.
        watch.save()?;
        Ok(watch)
    }

    /// Prints messages until the stream ends; returns the exit status. Where the position is kept or a command
    /// is run, a signal is obeyed between two messages, and a second one at once.
    ///
    /// # Errors
    /// When the server refuses for good, `--retry-for` is over, or the output fails.
    pub(super) async fn run(mut self) -> Result<u8, ExitError> {
        // Otherwise a signal ends the process as it is.
        let listens = self.state.is_some() || self.output.is_exec();
        let listen = || if listens { Signals::listen() } else { Ok(Signals::none()) };
        let listened = listen().and_then(|signals| Ok((signals, listen()?)));
        let (mut signals, second) = listened
            .map_err(|error| ExitError::Failed(format!("cannot listen for signals: {error}")))?;
        tokio::spawn(exit_at_second_signal(second));
        let mut backoff = Backoff::default();
        let mut deadline = Deadline::new(self.retry_for);
        loop {
            let connected = tokio::select! {
                connected = self.connect(&deadline) => connected,
                signal = signals.next() => return self.stopped(signal),
            };
            let (why, retry_after) = match connected {
                Ok(None) => return Ok(0),
                Ok(Some(response)) => {
                    self.status.recovered();
                    let (opened, cursor) = (Instant::now(), self.cursor);
                    let closed = self.read(response, &mut signals).await?;
                    self.save()?;
                    deadline = Deadline::new(self.retry_for);
                    if opened.elapsed() >= STABLE_AFTER || self.cursor != cursor {
                        backoff.reset();
                    }
                    match closed {
                        Closed::Ended => return Ok(0),
                        Closed::Lost(why) => (why, None),
                        Closed::Stopped(signal) => return self.stopped(signal),
                    }
                }
                Err(AttemptError::Refused { text, .. }) => return Err(ExitError::Refused(text)),
                Err(AttemptError::Temporary { why, retry_after, .. }) => (why, retry_after),
            };
            let pause = backoff.next_pause(retry_after);
            if deadline.has_passed() {
                return Err(deadline.error(&why));
            }
            tokio::select! {
                () = self.status.wait(&why, deadline.cap(pause)) => {}
                signal = signals.next() => return self.stopped(signal),
            }
        }
    }

    fn stopped(&mut self, signal: Signal) -> Result<u8, ExitError> {
        self.save()?;
        Ok(signal.exit_code())
    }

    async fn connect(&self, deadline: &Deadline) -> Result<Option<Response>, AttemptError> {
        let after = match (self.cursor, self.from) {
            (Some(cursor), _) | (None, StartPosition::After(cursor)) => Some(cursor.to_string()),
            (None, StartPosition::Earliest | StartPosition::Latest) => None,
        };
        let word = if self.from == StartPosition::Latest { "latest" } else { "earliest" };
        self.client.events(after, word, deadline.cap(CONNECT_TIMEOUT)).await
    }

    /// Prints the events of a connection until it is over.
    async fn read(
        &mut self,
        mut response: Response,
        signals: &mut Signals,
    ) -> Result<Closed, ExitError> {
        let mut parser = Parser::new(MAX_EVENT);
        loop {
            let wait = if self.is_unsaved { SAVE_INTERVAL } else { SILENCE_TIMEOUT };
            let received = tokio::select! {
                received = timeout(wait, response.chunk()) => received,
                signal = signals.next() => return Ok(Closed::Stopped(signal)),
            };
            let chunk = match received {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(Closed::Lost("the connection was closed".to_owned())),
                Ok(Err(_)) => return Ok(Closed::Lost("the connection was lost".to_owned())),
                // The messages have stopped coming for now.
                Err(_) if self.is_unsaved => {
                    self.save()?;
                    continue;
                }
                Err(_) => return Ok(Closed::Lost("the connection is silent".to_owned())),
            };
            let parsed = parser.push(&chunk);
            while let Some(event) = parser.next() {
                if let Some(closed) = self.apply(event, signals).await? {
                    self.output.flush()?;
                    return Ok(closed);
                }
                // A command may take long.
                if self.output.is_exec()
                    && let Some(signal) = signals.next().now_or_never()
                {
                    return Ok(Closed::Stopped(signal));
                }
            }
            if parsed.is_err() {
                return Err(ExitError::Failed(
                    "the server sends an event that is too long".to_owned(),
                ));
            }
            self.output.flush()?;
            if self.is_unsaved && self.saved_at.elapsed() >= SAVE_INTERVAL {
                self.save()?;
            }
        }
    }

    /// Applies an event. Returns why the connection is over, if it is.
    async fn apply(
        &mut self,
        Event { kind, data, id }: Event,
        signals: &mut Signals,
    ) -> Result<Option<Closed>, ExitError> {
        let id: Option<EventId> = id.parse().ok();
        match kind.as_str() {
            NEW_MESSAGE | END_EVENT => {
                let Some(id) = id.filter(|id| Some(*id) != self.cursor) else { return Ok(None) };
                let is_end = kind == END_EVENT;
                let failure = self.output.message(id, &data, is_end, self.status)?;
                if let Some(exit) = failure
                    && let Some(signal) = self.command_failed(id, exit, signals).await?
                {
                    return Ok(Some(Closed::Stopped(signal)));
                }
                self.move_to(id);
                self.clear_stale();
                if is_end {
                    self.output.flush()?;
                    self.status.note(&format!("the stream has ended: {data}"));
                    return Ok(Some(Closed::Ended));
                }
                if self.output.is_exec() {
                    self.save()?;
                }
            }
            RESET => return Ok(self.reset(&data)),
            PING => {
                if let Some(id) = id {
                    self.move_to(id);
                }
                if data == STALE_PING && !std::mem::replace(&mut self.is_stale, true) {
                    self.status.note("may be out of date: the server cannot reach its database");
                } else if data != STALE_PING {
                    self.clear_stale();
                }
            }
            // Not known yet when this was written.
            _ => {}
        }
        Ok(None)
    }

    /// The command has failed for a message. Returns the signal that may have ended it, as Ctrl-C does on a
    /// terminal: then the message comes first at the next start.
    async fn command_failed(
        &self,
        id: EventId,
        exit: ExitStatus,
        signals: &mut Signals,
    ) -> Result<Option<Signal>, ExitError> {
        // A shell gives 128 and the number of the signal.
        if exit.code().is_none_or(|code| code > 128)
            && let Ok(signal) = timeout(SIGNAL_DELAY, signals.next()).await
        {
            return Ok(Some(signal));
        }
        let text = format!("the command failed for the message {id}: {exit}");
        match self.exec_failure {
            ExecFailure::Continue => {
                self.status.note(&text);
                Ok(None)
            }
            ExecFailure::Stop => Err(ExitError::Failed(text)),
        }
    }

    /// The cursor is not in the log of the server: all messages that it has follow.
    fn reset(&mut self, data: &str) -> Option<Closed> {
        /// The data of a reset.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Reset {
            reason: String,
        }
        let Reset { reason } = serde_json::from_str(data).unwrap_or_default();
        if reason == ResetReason::Expired.as_str() {
            // The next attempt is refused, unless the token has been replaced. The cursor stays.
            return Some(Closed::Lost("the token has expired".to_owned()));
        }
        // What was printed comes before it.
        let _ = self.output.flush();
        self.status.note(match reason.as_str() {
            "deleted" => "the stream was deleted; what follows is a new one",
            "trimmed" => "messages were lost before this point: the server no longer has them",
            _ => {
                "messages were lost before this point, or are repeated: the server does not know \
                 the last one"
            }
        });
        self.move_to(EventId::BEGINNING);
        None
    }

    fn move_to(&mut self, id: EventId) {
        self.is_unsaved |= self.cursor != Some(id);
        self.cursor = Some(id);
    }

    fn clear_stale(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.status.note("up to date again");
        }
    }

    /// Keeps the position, after everything before it has been written.
    fn save(&mut self) -> Result<(), ExitError> {
        if !std::mem::take(&mut self.is_unsaved) {
            return Ok(());
        }
        self.saved_at = Instant::now();
        self.output.flush()?;
        let Some(state) = &self.state else { return Ok(()) };
        let length = self.output.sync()?;
        state.write(SavedPosition { cursor: self.cursor, length })
    }
}

/// Ends the process at the second signal: a command, or the reader of the output, may take for ever.
async fn exit_at_second_signal(mut signals: Signals) {
    signals.next().await;
    let signal = signals.next().await;
    process::exit(signal.exit_code().into());
}
