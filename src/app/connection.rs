//! When to connect, to wait, to let go: the supervisor of a subscription.
//!
//! A browser's `EventSource` retries by itself only what it understands; after any answer but a
//! good one it gives up for ever, and it never notices a connection that died silently. The
//! supervisor decides instead. It is pure: it is told what happens, with the time, and says what
//! to do. [`subscription`](super::subscription) does it.

use crate::message::PING_INTERVAL_MS;

/// A connection that said nothing for so long is dead.
const SILENCE_MS: u64 = PING_INTERVAL_MS * 5 / 2;
/// An attempt that was not answered for so long has failed.
const ATTEMPT_MS: u64 = PING_INTERVAL_MS;
/// A connection that should have said something by now is not trusted when the tab is shown again:
/// a computer that slept does not notice that its connections died.
const DOUBT_MS: u64 = PING_INTERVAL_MS + 2_000;
/// A hidden tab lets its connection go after so long, where connections are scarce.
const HIDDEN_MS: u64 = 10_000;
/// The longest pause before the first attempt to reconnect; it doubles with each attempt.
const FIRST_PAUSE_MS: u64 = 2_000;
/// The longest pause of all.
const LONGEST_PAUSE_MS: u64 = 30_000;

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
pub struct Supervisor {
    state: State,
    /// Attempts since the connection last was live.
    attempts: u32,
    /// When the server was last heard, or the attempt under way began.
    heard: u64,
    /// When to let go, while the tab is hidden.
    let_go: Option<u64>,
    online: bool,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { state: State::Idle, attempts: 0, heard: 0, let_go: None, online: true }
    }
}

impl Supervisor {
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
                self.attempts = 0;
                self.heard = now;
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
            (State::Live, Input::Shown) if now >= self.heard + DOUBT_MS => self.open(now),
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
        self.state = State::Connecting;
        self.heard = now;
        Action::Open
    }

    /// A quarter of the pause is certain, the rest is chance: when a server goes, its readers come
    /// back neither at once nor in step.
    fn wait(&mut self, now: u64, jitter: u8) -> Action {
        let longest = (FIRST_PAUSE_MS << self.attempts.min(8)).min(LONGEST_PAUSE_MS);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: u8 = u8::MAX;

    fn live(now: u64) -> Supervisor {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.on(Input::Begin, now, MOST), Action::Open);
        assert_eq!(supervisor.link(now), Link::Connecting);
        assert_eq!(supervisor.on(Input::Opened, now, MOST), Action::Stay);
        assert_eq!(supervisor.link(now), Link::Live);
        supervisor
    }

    #[test]
    fn a_lost_connection_is_taken_up_again() {
        let mut supervisor = live(0);
        assert_eq!(supervisor.on(Input::Failed, 5_000, MOST), Action::Close);
        assert_eq!(supervisor.link(5_000), Link::Reconnecting(2));
        assert_eq!(supervisor.next_tick(5_000), Some(6_000), "a countdown is told each second");
        assert_eq!(supervisor.on(Input::Tick, 6_999, MOST), Action::Stay);
        assert_eq!(supervisor.on(Input::Tick, 7_000, MOST), Action::Open);
        assert_eq!(supervisor.link(7_000), Link::Reconnecting(0));
        supervisor.on(Input::Opened, 7_100, MOST);
        assert_eq!(supervisor.link(7_100), Link::Live);
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_a_live_connection_starts_over() {
        let mut supervisor = live(0);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            supervisor.on(Input::Failed, now, MOST);
            let State::Waiting { until } = supervisor.state else { panic!("{supervisor:?}") };
            pauses.push(until - now);
            now = until;
            assert_eq!(supervisor.on(Input::Tick, now, MOST), Action::Open);
        }
        assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
        supervisor.on(Input::Opened, now, MOST);
        supervisor.on(Input::Failed, now, 0);
        assert_eq!(supervisor.state, State::Waiting { until: now + 500 });
    }

    #[test]
    fn silence_is_a_lost_connection() {
        let mut supervisor = live(0);
        supervisor.heard(10_000);
        assert_eq!(supervisor.next_tick(10_000), Some(47_500));
        assert_eq!(supervisor.on(Input::Tick, 47_499, MOST), Action::Stay);
        assert_eq!(supervisor.on(Input::Tick, 47_500, MOST), Action::Close);
    }

    #[test]
    fn an_attempt_that_hangs_is_given_up() {
        let mut supervisor = Supervisor::default();
        supervisor.on(Input::Begin, 0, MOST);
        assert_eq!(supervisor.next_tick(0), Some(ATTEMPT_MS));
        assert_eq!(supervisor.on(Input::Tick, ATTEMPT_MS, MOST), Action::Close);
    }

    #[test]
    fn the_reader_need_not_wait() {
        let mut supervisor = live(0);
        supervisor.on(Input::Failed, 0, MOST);
        assert_eq!(supervisor.on(Input::RetryNow, 1, MOST), Action::Open);
        assert_eq!(supervisor.on(Input::RetryNow, 2, MOST), Action::Open, "nor for one that hangs");
    }

    #[test]
    fn a_connection_that_should_have_spoken_is_not_trusted_after_a_sleep() {
        let mut supervisor = live(0);
        supervisor.on(Input::Hidden { scarce: false }, 0, MOST);
        assert_eq!(supervisor.on(Input::Shown, DOUBT_MS - 1, MOST), Action::Stay);
        assert_eq!(supervisor.on(Input::Shown, DOUBT_MS, MOST), Action::Open);
    }

    #[test]
    fn a_new_network_is_a_new_connection() {
        let mut supervisor = live(0);
        assert_eq!(supervisor.on(Input::Online, 1, MOST), Action::Open);
    }

    #[test]
    fn offline_is_said_and_ends_when_the_network_is_back() {
        let mut supervisor = live(0);
        assert_eq!(supervisor.on(Input::Offline, 0, MOST), Action::Close);
        assert_eq!(supervisor.link(0), Link::Offline(2));
        assert_eq!(
            supervisor.on(Input::Tick, 2_000, MOST),
            Action::Open,
            "the browser may be wrong"
        );
        supervisor.on(Input::Failed, 2_000, MOST);
        assert_eq!(supervisor.on(Input::Online, 2_500, MOST), Action::Open);
        assert_eq!(supervisor.link(2_500), Link::Reconnecting(0));
    }

    #[test]
    fn a_hidden_tab_lets_go_where_connections_are_scarce() {
        let mut supervisor = live(0);
        supervisor.on(Input::Hidden { scarce: true }, 0, MOST);
        assert_eq!(supervisor.next_tick(0), Some(HIDDEN_MS));
        assert_eq!(supervisor.on(Input::Tick, HIDDEN_MS, MOST), Action::Close);
        assert_eq!(supervisor.link(HIDDEN_MS), Link::Resting);
        assert_eq!(supervisor.next_tick(HIDDEN_MS), None);
        assert_eq!(supervisor.on(Input::Shown, HIDDEN_MS, MOST), Action::Open);
    }

    #[test]
    fn a_hidden_tab_stays_live_where_they_are_not_or_when_it_is_shown_in_time() {
        let mut supervisor = live(0);
        supervisor.on(Input::Hidden { scarce: false }, 0, MOST);
        assert_eq!(supervisor.on(Input::Tick, HIDDEN_MS, MOST), Action::Stay);
        supervisor.on(Input::Hidden { scarce: true }, HIDDEN_MS, MOST);
        supervisor.on(Input::Shown, HIDDEN_MS + 1, MOST);
        assert_eq!(supervisor.on(Input::Tick, 3 * HIDDEN_MS, MOST), Action::Stay);
    }

    #[test]
    fn who_is_signed_out_is_asked_for_nothing_until_the_reader_wants_it() {
        for again in [Input::Shown, Input::RetryNow, Input::Begin] {
            let mut supervisor = live(0);
            assert_eq!(supervisor.on(Input::Expired, 0, MOST), Action::Close);
            assert_eq!(supervisor.link(0), Link::Expired);
            assert_eq!(supervisor.next_tick(0), None, "it waits for ever");
            let hidden = Input::Hidden { scarce: true };
            for input in [Input::Failed, Input::Offline, Input::Online, hidden, Input::Tick] {
                assert_eq!(supervisor.on(input, HIDDEN_MS, MOST), Action::Stay, "{input:?}");
                assert_eq!(supervisor.link(HIDDEN_MS), Link::Expired);
            }
            assert_eq!(supervisor.on(again, HIDDEN_MS, MOST), Action::Open);
            supervisor.on(Input::Opened, HIDDEN_MS, MOST);
            assert_eq!(supervisor.link(HIDDEN_MS), Link::Live);
        }
    }

    #[test]
    fn a_token_that_is_still_no_good_changes_nothing() {
        let mut supervisor = live(0);
        supervisor.on(Input::Failed, 0, MOST);
        for now in [1, 2] {
            supervisor.on(Input::RetryNow, now, MOST);
            supervisor.on(Input::Opened, now, MOST);
            assert_eq!(supervisor.on(Input::Expired, now, MOST), Action::Close);
            assert_eq!(supervisor.link(now), Link::Expired);
        }
    }

    #[test]
    fn a_page_that_is_left_and_shown_again_connects() {
        let mut supervisor = live(0);
        assert_eq!(supervisor.on(Input::Left, 0, MOST), Action::Close);
        assert_eq!(supervisor.on(Input::Shown, 60_000, MOST), Action::Open);
    }

    #[test]
    fn the_end_is_the_end_until_a_new_beginning() {
        let mut supervisor = live(0);
        assert_eq!(supervisor.on(Input::Ended, 0, MOST), Action::Close);
        for input in [Input::Failed, Input::Shown, Input::Online, Input::RetryNow, Input::Tick] {
            assert_eq!(supervisor.on(input, 1_000_000, MOST), Action::Stay, "{input:?}");
        }
        assert_eq!(supervisor.next_tick(1_000_000), None);
        assert_eq!(supervisor.on(Input::Begin, 1_000_000, MOST), Action::Open);
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Opened),
            Just(Input::Failed),
            Just(Input::Expired),
            Just(Input::RetryNow),
            Just(Input::Online),
            Just(Input::Offline),
            Just(Input::Shown),
            Just(Input::Left),
            any::<bool>().prop_map(|scarce| Input::Hidden { scarce }),
            Just(Input::Tick),
        ]
    }

    proptest! {
        /// Whatever happened, a page that is seen and whose stream has not ended comes back to
        /// life by itself, if it is told the time when it asks to be.
        #[test]
        fn it_never_gives_up(inputs in prop::collection::vec((input(), 0..60_000_u64, any::<u8>()), 0..50)) {
            let mut supervisor = Supervisor::default();
            let mut now = 0;
            supervisor.on(Input::Begin, now, 0);
            for (input, later, jitter) in inputs {
                now += later;
                supervisor.on(input, now, jitter);
            }
            supervisor.on(Input::Shown, now, 0);
            supervisor.on(Input::Failed, now, 0);
            let at = supervisor.next_tick(now).expect("something is due");
            prop_assert!(at > now && at <= now + 1_000);
            let mut opened = false;
            while let Some(at) = supervisor.next_tick(now).filter(|_| !opened) {
                now = at;
                opened = supervisor.on(Input::Tick, now, 0) == Action::Open;
            }
            prop_assert!(opened);
        }
    }
}
