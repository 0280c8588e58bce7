//! Reconnection with back-off, and the watchdog for silent connections: the connection policy of a
//! subscription.
//!
//! A browser's `EventSource` reconnects only after some failures: after an answer other than a valid
//! event stream it stops for good, and it never notices a connection that died silently. This policy
//! decides instead. It is a pure state machine: it takes inputs with the time, and returns an action,
//! which [`subscription`](super::subscription) carries out.

use crate::message::PING_INTERVAL_MS;

/// A connection on which nothing arrived for this time is closed.
const SILENCE_TIMEOUT_MS: u64 = PING_INTERVAL_MS * 5 / 2;
/// An attempt that the server has not accepted after this time has failed.
const CONNECT_TIMEOUT_MS: u64 = PING_INTERVAL_MS;
/// When the tab is shown again, a connection that was silent for this time is replaced: a `ping` is
/// overdue, and a computer that slept does not notice that its connections died.
const SUSPECT_AFTER_MS: u64 = PING_INTERVAL_MS + 2_000;
/// A hidden tab closes its connection after this time, where connections are scarce.
const HIDDEN_TIMEOUT_MS: u64 = 10_000;
/// A connection on which something arrived this long after it opened is stable: the back-off restarts.
const STABLE_AFTER_MS: u64 = PING_INTERVAL_MS;
/// The longest pause before the first attempt to reconnect; it doubles with each attempt.
const MAX_FIRST_PAUSE_MS: u64 = 2_000;
/// The longest pause before any attempt.
const MAX_PAUSE_MS: u64 = 30_000;

/// The connection status that the page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The first attempt is under way.
    Connecting,
    /// Events arrive as they are published.
    Live,
    /// The connection is open, but the server cannot reach its store: new messages may be missing.
    Stale,
    /// The connection was lost. The seconds until the next attempt, 0 while it is under way.
    Reconnecting(u64),
    /// The same, and the browser reports that it is offline.
    Offline(u64),
    /// The tab is hidden and has closed its connection.
    Resting,
    /// The reader's token has expired. There is no attempt until the reader acts.
    Expired,
    /// The stream has ended; there is nothing to connect to.
    Ended,
}

/// An input of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The subscription begins.
    Begin,
    /// The server accepted the connection.
    Opened,
    /// An event or a `ping` arrived. (Of the events only one after a stale `ping` matters.)
    Heard {
        /// Whether it is a `ping` that says that the server cannot reach its store.
        stale: bool,
    },
    /// The connection failed, whatever the reason.
    Failed,
    /// The reader's token is no longer valid.
    Expired,
    /// The stream ended.
    Ended,
    /// The reader asks to reconnect now.
    RetryNow,
    /// The browser reports that it is online again.
    Online,
    /// The browser reports that it is offline.
    Offline,
    /// The tab is hidden.
    Hidden {
        /// Whether connections are scarce (six per host over HTTP/1.1), so that this one is closed
        /// after a while.
        scarce: bool,
    },
    /// The tab is visible.
    Shown,
    /// The page is unloaded (`pagehide`); it may come back from the browser's cache.
    Left,
    /// Time has passed.
    Tick,
}

/// What to do with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: keep it, or have none.
    Keep,
    /// Connect, in place of any open connection.
    Open,
    /// Close it.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Live,
    Waiting { until: u64 },
    Resting,
    Expired,
    Ended,
}

/// The connection policy; see the module.
#[derive(Clone, Debug)]
pub struct ConnectionPolicy {
    state: State,
    /// Attempts since the last stable connection.
    attempts: u32,
    /// When the server last accepted, in milliseconds.
    opened_at: u64,
    /// When something last arrived, or the attempt under way began, in milliseconds.
    last_heard: u64,
    /// When to close the connection, in milliseconds, while the tab is hidden.
    close_at: Option<u64>,
    online: bool,
    /// Whether the server of the open connection cannot reach its store.
    stale: bool,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self {
            state: State::Idle,
            attempts: 0,
            opened_at: 0,
            last_heard: 0,
            close_at: None,
            online: true,
            stale: false,
        }
    }
}

impl ConnectionPolicy {
    /// Handles an input at `now` (milliseconds on a monotonic clock). `jitter`, a random number from 0
    /// to 255, spreads the attempts of many readers.
    pub fn handle(&mut self, input: Input, now: u64, jitter: u8) -> Action {
        match input {
            Input::Online => self.online = true,
            Input::Offline => self.online = false,
            Input::Opened => self.stale = false,
            Input::Heard { stale } => self.stale = stale,
            Input::Hidden { scarce } => self.close_at = scarce.then_some(now + HIDDEN_TIMEOUT_MS),
            Input::Shown => self.close_at = None,
            _ => {}
        }
        match (self.state, input) {
            (_, Input::Begin) => {
                self.attempts = 0;
                self.open(now)
            }
            (State::Ended, _) => Action::Keep,
            (_, Input::Ended) => {
                self.state = State::Ended;
                Action::Close
            }
            (_, Input::Left) => {
                self.reset_backoff_if_stable();
                self.state = State::Idle;
                Action::Close
            }
            // Only the reader can change that; the next attempt counts as the first.
            (_, Input::Expired) => {
                self.state = State::Expired;
                self.attempts = 0;
                Action::Close
            }
            (State::Connecting, Input::Opened) => {
                self.state = State::Live;
                (self.opened_at, self.last_heard) = (now, now);
                Action::Keep
            }
            (State::Connecting | State::Live, Input::Failed | Input::Offline) => {
                self.wait(now, jitter)
            }
            (State::Connecting | State::Waiting { .. } | State::Expired, Input::RetryNow)
            | (State::Connecting | State::Live | State::Waiting { .. }, Input::Online)
            | (
                State::Idle | State::Resting | State::Waiting { .. } | State::Expired,
                Input::Shown,
            ) => self.open(now),
            (State::Live, Input::Shown) if now >= self.last_heard + SUSPECT_AFTER_MS => {
                self.open(now)
            }
            (_, Input::Tick) => self.tick(now, jitter),
            _ => Action::Keep,
        }
    }

    /// Records when something last arrived. Not an [`Input`], because no action follows from it: of a
    /// burst of events only the last counts, at the next tick.
    pub fn note_heard(&mut self, at: u64) {
        self.last_heard = self.last_heard.max(at);
    }

    fn tick(&mut self, now: u64, jitter: u8) -> Action {
        match self.state {
            State::Idle | State::Resting | State::Expired | State::Ended => Action::Keep,
            _ if self.close_at.is_some_and(|at| now >= at) => {
                self.reset_backoff_if_stable();
                self.state = State::Resting;
                Action::Close
            }
            State::Waiting { until } if now >= until => self.open(now),
            State::Connecting if now >= self.last_heard + CONNECT_TIMEOUT_MS => {
                self.wait(now, jitter)
            }
            State::Live if now >= self.last_heard + SILENCE_TIMEOUT_MS => self.wait(now, jitter),
            _ => Action::Keep,
        }
    }

    fn open(&mut self, now: u64) -> Action {
        self.reset_backoff_if_stable();
        self.state = State::Connecting;
        self.last_heard = now;
        Action::Open
    }

    /// A status of 200 is not enough: a proxy may close every stream at once, or never send anything.
    fn reset_backoff_if_stable(&mut self) {
        if self.state == State::Live && self.last_heard >= self.opened_at + STABLE_AFTER_MS {
            self.attempts = 0;
        }
    }

    /// Starts a pause: a quarter of the longest, and up to three quarters of it at random, so that the
    /// readers of a server that stopped reconnect neither at once nor at the same time.
    fn wait(&mut self, now: u64, jitter: u8) -> Action {
        self.reset_backoff_if_stable();
        let max_pause = (MAX_FIRST_PAUSE_MS << self.attempts.min(8)).min(MAX_PAUSE_MS);
        let pause = max_pause / 4 + max_pause * 3 / 4 * u64::from(jitter) / 255;
        self.attempts += 1;
        self.state = State::Waiting { until: now + pause };
        Action::Close
    }

    /// When the next [`Input::Tick`] is needed, in milliseconds: when a timeout or pause ends, and each
    /// second of a countdown.
    pub fn next_tick(&self, now: u64) -> Option<u64> {
        let due = match self.state {
            State::Idle | State::Resting | State::Expired | State::Ended => return None,
            State::Waiting { until } => now + (until.saturating_sub(now)).clamp(1, 1000),
            State::Connecting => self.last_heard + CONNECT_TIMEOUT_MS,
            State::Live => self.last_heard + SILENCE_TIMEOUT_MS,
        };
        Some(self.close_at.map_or(due, |close_at| due.min(close_at)))
    }

    /// The status to show at `now`.
    pub fn status(&self, now: u64) -> ConnectionStatus {
        let disconnected = |seconds| {
            if self.online {
                ConnectionStatus::Reconnecting(seconds)
            } else {
                ConnectionStatus::Offline(seconds)
            }
        };
        match self.state {
            State::Ended => ConnectionStatus::Ended,
            State::Live if self.stale => ConnectionStatus::Stale,
            State::Live => ConnectionStatus::Live,
            State::Resting => ConnectionStatus::Resting,
            State::Expired => ConnectionStatus::Expired,
            State::Waiting { until } => disconnected(until.saturating_sub(now).div_ceil(1000)),
            State::Connecting if self.attempts > 0 => disconnected(0),
            State::Idle | State::Connecting => ConnectionStatus::Connecting,
        }
    }
}

#[cfg(test)]
mod tests;
