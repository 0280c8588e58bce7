//! When to connect, to wait, to let go: the connection policy of a subscription.
//!
//! A browser's `EventSource` retries by itself only what it understands; after any answer but a
//! good one it gives up for ever, and it never notices a connection that died silently. The
//! policy decides instead. It is pure: it is told what happens, with the time, and says what
//! to do. [`subscription`](super::subscription) does it.

use crate::message::PING_INTERVAL_MS;

/// A connection that said nothing for so long is dead.
const SILENCE_MS: u64 = PING_INTERVAL_MS * 5 / 2;
/// An attempt that was not answered for so long has failed.
const ATTEMPT_MS: u64 = PING_INTERVAL_MS;
/// A connection that should have said something by now is not trusted when the tab is shown again:
/// a computer that slept does not notice that its connections died.
const SUSPECT_AFTER_MS: u64 = PING_INTERVAL_MS + 2_000;
/// A hidden tab lets its connection go after so long, where connections are scarce.
const HIDDEN_MS: u64 = 10_000;
/// A connection over which the server was heard after so long has proved itself: when it breaks, pauses
/// begin anew.
const PROOF_MS: u64 = PING_INTERVAL_MS;
/// The longest pause before the first attempt to reconnect; it doubles with each attempt.
const FIRST_PAUSE_MS: u64 = 2_000;
/// The longest pause of all.
const MAX_PAUSE_MS: u64 = 30_000;

/// What the reader is told of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The first attempt is under way.
    Connecting,
    /// What is said arrives.
    Live,
    /// The connection was lost; the next attempt is in so many seconds, 0 while it is under way.
    Reconnecting(u64),
    /// The same, and the browser says that there is no network.
    Offline(u64),
    /// The tab is hidden and has let its connection go.
    Resting,
    /// The reader's token has expired; it takes the reader to go on.
    Expired,
    /// The stream has ended; there is nothing to connect to.
    Ended,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The subscription begins.
    Begin,
    /// The server accepted.
    Opened,
    /// The connection failed, whatever the reason.
    Failed,
    /// The server asks for a token that is good.
    Expired,
    /// The stream ended.
    Ended,
    /// The reader does not want to wait.
    RetryNow,
    /// The browser says that there is a network again.
    Online,
    /// The browser says that the network has gone.
    Offline,
    /// The tab is no longer seen; whether connections are scarce (HTTP/1.1 allows six a host).
    Hidden {
        /// Whether to let the connection go after a while.
        scarce: bool,
    },
    /// The tab is seen.
    Shown,
    /// The page is left; it may come back from the browser's cache.
    Left,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Stay,
    /// Connect, in place of any connection there is.
    Open,
    /// Close the connection.
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

/// Decides; see the module.
#[derive(Clone, Debug)]
pub struct ConnectionPolicy {
    state: State,
    /// Attempts since a connection last proved itself.
    attempts: u32,
    /// When the server last accepted.
    opened: u64,
    /// When the server was last heard, or the attempt under way began.
    heard: u64,
    /// When to let go, while the tab is hidden.
    let_go: Option<u64>,
    online: bool,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self { state: State::Idle, attempts: 0, opened: 0, heard: 0, let_go: None, online: true }
    }
}

impl ConnectionPolicy {
    /// Takes in what happened at `now` (milliseconds on a clock that never goes back). `jitter`,
    /// 0 to 255, spreads the attempts of many readers.
    pub fn on(&mut self, input: Input, now: u64, jitter: u8) -> Action {
        match input {
            Input::Online => self.online = true,
            Input::Offline => self.online = false,
            Input::Hidden { scarce } => self.let_go = scarce.then_some(now + HIDDEN_MS),
            Input::Shown => self.let_go = None,
            _ => {}
        }
        match (self.state, input) {
            (_, Input::Begin) => {
                self.attempts = 0;
                self.open(now)
            }
            (State::Ended, _) => Action::Stay,
            (_, Input::Ended) => {
                self.state = State::Ended;
                Action::Close
            }
            (_, Input::Left) => {
                self.note_proof();
                self.state = State::Idle;
                Action::Close
            }
            // Nothing but the reader can change it; the next attempt is a first one.
            (_, Input::Expired) => {
                self.state = State::Expired;
                self.attempts = 0;
                Action::Close
            }
            (State::Connecting, Input::Opened) => {
                self.state = State::Live;
                (self.opened, self.heard) = (now, now);
                Action::Stay
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
            (State::Live, Input::Shown) if now >= self.heard + SUSPECT_AFTER_MS => self.open(now),
            (_, Input::Tick) => self.tick(now, jitter),
            _ => Action::Stay,
        }
    }

    /// Notes when the server was last heard. It is no [`Input`], because nothing follows from it
    /// until time has passed: of a burst of events the last one counts.
    pub fn heard(&mut self, at: u64) {
        self.heard = self.heard.max(at);
    }

    fn tick(&mut self, now: u64, jitter: u8) -> Action {
        match self.state {
            State::Idle | State::Resting | State::Expired | State::Ended => Action::Stay,
            _ if self.let_go.is_some_and(|at| now >= at) => {
                self.note_proof();
                self.state = State::Resting;
                Action::Close
            }
            State::Waiting { until } if now >= until => self.open(now),
            State::Connecting if now >= self.heard + ATTEMPT_MS => self.wait(now, jitter),
            State::Live if now >= self.heard + SILENCE_MS => self.wait(now, jitter),
            _ => Action::Stay,
        }
    }

    fn open(&mut self, now: u64) -> Action {
        self.note_proof();
        self.state = State::Connecting;
        self.heard = now;
        Action::Open
    }

    /// An answer of 200 proves little: a proxy may close every stream at once, or never say anything.
    fn note_proof(&mut self) {
        if self.state == State::Live && self.heard >= self.opened + PROOF_MS {
            self.attempts = 0;
        }
    }

    /// A quarter of the pause is certain, the rest is chance: when a server goes, its readers come
    /// back neither at once nor in step.
    fn wait(&mut self, now: u64, jitter: u8) -> Action {
        self.note_proof();
        let longest = (FIRST_PAUSE_MS << self.attempts.min(8)).min(MAX_PAUSE_MS);
        let pause = longest / 4 + longest * 3 / 4 * u64::from(jitter) / 255;
        self.attempts += 1;
        self.state = State::Waiting { until: now + pause };
        Action::Close
    }

    /// When to be told that time has passed: for the next thing due, and each second of a
    /// countdown.
    pub fn next_tick(&self, now: u64) -> Option<u64> {
        let due = match self.state {
            State::Idle | State::Resting | State::Expired | State::Ended => return None,
            State::Waiting { until } => now + (until.saturating_sub(now)).clamp(1, 1000),
            State::Connecting => self.heard + ATTEMPT_MS,
            State::Live => self.heard + SILENCE_MS,
        };
        Some(self.let_go.map_or(due, |let_go| due.min(let_go)))
    }

    /// What the reader is told.
    pub fn link(&self, now: u64) -> Link {
        let broken = |seconds| {
            if self.online { Link::Reconnecting(seconds) } else { Link::Offline(seconds) }
        };
        match self.state {
            State::Ended => Link::Ended,
            State::Live => Link::Live,
            State::Resting => Link::Resting,
            State::Expired => Link::Expired,
            State::Waiting { until } => broken(until.saturating_sub(now).div_ceil(1000)),
            State::Connecting if self.attempts > 0 => broken(0),
            State::Idle | State::Connecting => Link::Connecting,
        }
    }
}

#[cfg(test)]
mod tests;
