use proptest::prelude::*;

use super::*;

const MAX_RANDOM: u8 = u8::MAX;

fn live(now: u64) -> ConnectionPolicy {
    let mut policy = ConnectionPolicy::default();
    assert_eq!(policy.on(Input::Begin, now, MAX_RANDOM), Action::Open);
    assert_eq!(policy.link(now), Link::Connecting);
    assert_eq!(policy.on(Input::Opened, now, MAX_RANDOM), Action::Stay);
    assert_eq!(policy.link(now), Link::Live);
    policy
}

#[test]
fn a_lost_connection_is_taken_up_again() {
    let mut policy = live(0);
    assert_eq!(policy.on(Input::Failed, 5_000, MAX_RANDOM), Action::Close);
    assert_eq!(policy.link(5_000), Link::Reconnecting(2));
    assert_eq!(policy.next_tick(5_000), Some(6_000), "a countdown is told each second");
    assert_eq!(policy.on(Input::Tick, 6_999, MAX_RANDOM), Action::Stay);
    assert_eq!(policy.on(Input::Tick, 7_000, MAX_RANDOM), Action::Open);
    assert_eq!(policy.link(7_000), Link::Reconnecting(0));
    policy.on(Input::Opened, 7_100, MAX_RANDOM);
    assert_eq!(policy.link(7_100), Link::Live);
}

#[test]
fn pauses_double_up_to_a_limit_and_a_live_connection_starts_over() {
    let mut policy = live(0);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        policy.on(Input::Failed, now, MAX_RANDOM);
        let State::Waiting { until } = policy.state else { panic!("{policy:?}") };
        pauses.push(until - now);
        now = until;
        assert_eq!(policy.on(Input::Tick, now, MAX_RANDOM), Action::Open);
    }
    assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
    policy.on(Input::Opened, now, MAX_RANDOM);
    policy.heard(now + PROOF_MS);
    policy.on(Input::Failed, now + PROOF_MS, 0);
    assert_eq!(policy.state, State::Waiting { until: now + PROOF_MS + 500 });
}

#[test]
fn a_connection_that_closes_at_once_proves_nothing() {
    let mut policy = live(0);
    let mut now = 0;
    let mut connections = 0;
    while now < 30_000 {
        policy.on(Input::Failed, now + 100, MAX_RANDOM);
        let State::Waiting { until } = policy.state else { panic!("{policy:?}") };
        now = until;
        assert_eq!(policy.on(Input::Tick, now, MAX_RANDOM), Action::Open);
        policy.on(Input::Opened, now, MAX_RANDOM);
        assert_eq!(policy.link(now), Link::Live);
        connections += 1;
    }
    assert_eq!(connections, 4, "after 2, 4, 8 and 16 s");
    policy.on(Input::Failed, now + PROOF_MS - 1, MAX_RANDOM);
    assert_eq!(policy.link(now + PROOF_MS - 1), Link::Reconnecting(30));
}

#[test]
fn silence_is_a_lost_connection() {
    let mut policy = live(0);
    policy.heard(10_000);
    assert_eq!(policy.next_tick(10_000), Some(47_500));
    assert_eq!(policy.on(Input::Tick, 47_499, MAX_RANDOM), Action::Stay);
    assert_eq!(policy.on(Input::Tick, 47_500, MAX_RANDOM), Action::Close);
}

#[test]
fn an_attempt_that_hangs_is_given_up() {
    let mut policy = ConnectionPolicy::default();
    policy.on(Input::Begin, 0, MAX_RANDOM);
    assert_eq!(policy.next_tick(0), Some(ATTEMPT_MS));
    assert_eq!(policy.on(Input::Tick, ATTEMPT_MS, MAX_RANDOM), Action::Close);
}

#[test]
fn the_reader_need_not_wait() {
    let mut policy = live(0);
    policy.on(Input::Failed, 0, MAX_RANDOM);
    assert_eq!(policy.on(Input::RetryNow, 1, MAX_RANDOM), Action::Open);
    assert_eq!(policy.on(Input::RetryNow, 2, MAX_RANDOM), Action::Open, "nor for one that hangs");
}

#[test]
fn a_connection_that_should_have_spoken_is_not_trusted_after_a_sleep() {
    let mut policy = live(0);
    policy.on(Input::Hidden { scarce: false }, 0, MAX_RANDOM);
    assert_eq!(policy.on(Input::Shown, SUSPECT_AFTER_MS - 1, MAX_RANDOM), Action::Stay);
    assert_eq!(policy.on(Input::Shown, SUSPECT_AFTER_MS, MAX_RANDOM), Action::Open);
}

#[test]
fn a_new_network_is_a_new_connection() {
    let mut policy = live(0);
    assert_eq!(policy.on(Input::Online, 1, MAX_RANDOM), Action::Open);
}

#[test]
fn offline_is_said_and_ends_when_the_network_is_back() {
    let mut policy = live(0);
    assert_eq!(policy.on(Input::Offline, 0, MAX_RANDOM), Action::Close);
    assert_eq!(policy.link(0), Link::Offline(2));
    assert_eq!(policy.on(Input::Tick, 2_000, MAX_RANDOM), Action::Open, "the browser may be wrong");
    policy.on(Input::Failed, 2_000, MAX_RANDOM);
    assert_eq!(policy.on(Input::Online, 2_500, MAX_RANDOM), Action::Open);
    assert_eq!(policy.link(2_500), Link::Reconnecting(0));
}

#[test]
fn a_hidden_tab_lets_go_where_connections_are_scarce() {
    let mut policy = live(0);
    policy.on(Input::Hidden { scarce: true }, 0, MAX_RANDOM);
    assert_eq!(policy.next_tick(0), Some(HIDDEN_MS));
    assert_eq!(policy.on(Input::Tick, HIDDEN_MS, MAX_RANDOM), Action::Close);
    assert_eq!(policy.link(HIDDEN_MS), Link::Resting);
    assert_eq!(policy.next_tick(HIDDEN_MS), None);
    assert_eq!(policy.on(Input::Shown, HIDDEN_MS, MAX_RANDOM), Action::Open);
}

#[test]
fn a_hidden_tab_stays_live_where_they_are_not_or_when_it_is_shown_in_time() {
    let mut policy = live(0);
    policy.on(Input::Hidden { scarce: false }, 0, MAX_RANDOM);
    assert_eq!(policy.on(Input::Tick, HIDDEN_MS, MAX_RANDOM), Action::Stay);
    policy.on(Input::Hidden { scarce: true }, HIDDEN_MS, MAX_RANDOM);
    policy.on(Input::Shown, HIDDEN_MS + 1, MAX_RANDOM);
    assert_eq!(policy.on(Input::Tick, 3 * HIDDEN_MS, MAX_RANDOM), Action::Stay);
}

#[test]
fn who_is_signed_out_is_asked_for_nothing_until_the_reader_wants_it() {
    for again in [Input::Shown, Input::RetryNow, Input::Begin] {
        let mut policy = live(0);
        assert_eq!(policy.on(Input::Expired, 0, MAX_RANDOM), Action::Close);
        assert_eq!(policy.link(0), Link::Expired);
        assert_eq!(policy.next_tick(0), None, "it waits for ever");
        let hidden = Input::Hidden { scarce: true };
        for input in [Input::Failed, Input::Offline, Input::Online, hidden, Input::Tick] {
            assert_eq!(policy.on(input, HIDDEN_MS, MAX_RANDOM), Action::Stay, "{input:?}");
            assert_eq!(policy.link(HIDDEN_MS), Link::Expired);
        }
        assert_eq!(policy.on(again, HIDDEN_MS, MAX_RANDOM), Action::Open);
        policy.on(Input::Opened, HIDDEN_MS, MAX_RANDOM);
        assert_eq!(policy.link(HIDDEN_MS), Link::Live);
    }
}

#[test]
fn a_token_that_is_still_no_good_changes_nothing() {
    let mut policy = live(0);
    policy.on(Input::Failed, 0, MAX_RANDOM);
    for now in [1, 2] {
        policy.on(Input::RetryNow, now, MAX_RANDOM);
        policy.on(Input::Opened, now, MAX_RANDOM);
        assert_eq!(policy.on(Input::Expired, now, MAX_RANDOM), Action::Close);
        assert_eq!(policy.link(now), Link::Expired);
    }
}

#[test]
fn a_page_that_is_left_and_shown_again_connects() {
    let mut policy = live(0);
    assert_eq!(policy.on(Input::Left, 0, MAX_RANDOM), Action::Close);
    assert_eq!(policy.on(Input::Shown, 60_000, MAX_RANDOM), Action::Open);
}

#[test]
fn the_end_is_the_end_until_a_new_beginning() {
    let mut policy = live(0);
    assert_eq!(policy.on(Input::Ended, 0, MAX_RANDOM), Action::Close);
    for input in [Input::Failed, Input::Shown, Input::Online, Input::RetryNow, Input::Tick] {
        assert_eq!(policy.on(input, 1_000_000, MAX_RANDOM), Action::Stay, "{input:?}");
    }
    assert_eq!(policy.next_tick(1_000_000), None);
    assert_eq!(policy.on(Input::Begin, 1_000_000, MAX_RANDOM), Action::Open);
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
        let mut policy = ConnectionPolicy::default();
        let mut now = 0;
        policy.on(Input::Begin, now, 0);
        for (input, later, jitter) in inputs {
            now += later;
            policy.on(input, now, jitter);
        }
        policy.on(Input::Shown, now, 0);
        policy.on(Input::Failed, now, 0);
        let at = policy.next_tick(now).expect("something is due");
        prop_assert!(at > now && at <= now + 1_000);
        let mut opened = false;
        while let Some(at) = policy.next_tick(now).filter(|_| !opened) {
            now = at;
            opened = policy.on(Input::Tick, now, 0) == Action::Open;
        }
        prop_assert!(opened);
    }
}
