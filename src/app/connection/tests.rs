use proptest::prelude::*;

use super::*;

const MAX_RANDOM: u8 = u8::MAX;

fn live(now: u64) -> ConnectionPolicy {
    let mut policy = ConnectionPolicy::default();
    assert_eq!(policy.handle(Input::Begin, now, MAX_RANDOM), Action::Open);
    assert_eq!(policy.status(now), ConnectionStatus::Connecting);
    assert_eq!(policy.handle(Input::Opened, now, MAX_RANDOM), Action::Keep);
    assert_eq!(policy.status(now), ConnectionStatus::Live);
    policy
}

#[test]
fn a_lost_connection_is_reopened_after_a_pause() {
    let mut policy = live(0);
    assert_eq!(policy.handle(Input::Failed, 5_000, MAX_RANDOM), Action::Close);
    assert_eq!(policy.status(5_000), ConnectionStatus::Reconnecting(2));
    assert_eq!(policy.next_tick(5_000), Some(6_000), "a countdown ticks each second");
    assert_eq!(policy.handle(Input::Tick, 6_999, MAX_RANDOM), Action::Keep);
    assert_eq!(policy.handle(Input::Tick, 7_000, MAX_RANDOM), Action::Open);
    assert_eq!(policy.status(7_000), ConnectionStatus::Reconnecting(0));
    policy.handle(Input::Opened, 7_100, MAX_RANDOM);
    assert_eq!(policy.status(7_100), ConnectionStatus::Live);
}

#[test]
fn pauses_double_up_to_a_limit_and_a_stable_connection_resets_them() {
    let mut policy = live(0);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        policy.handle(Input::Failed, now, MAX_RANDOM);
        let State::Waiting { until } = policy.state else { panic!("{policy:?}") };
        pauses.push(until - now);
        now = until;
        assert_eq!(policy.handle(Input::Tick, now, MAX_RANDOM), Action::Open);
    }
    assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
    policy.handle(Input::Opened, now, MAX_RANDOM);
    policy.note_heard(now + STABLE_AFTER_MS);
    policy.handle(Input::Failed, now + STABLE_AFTER_MS, 0);
    assert_eq!(policy.state, State::Waiting { until: now + STABLE_AFTER_MS + 500 });
}

#[test]
fn a_connection_that_closes_at_once_does_not_reset_the_pauses() {
    let mut policy = live(0);
    let mut now = 0;
    let mut connections = 0;
    while now < 30_000 {
        policy.handle(Input::Failed, now + 100, MAX_RANDOM);
        let State::Waiting { until } = policy.state else { panic!("{policy:?}") };
        now = until;
        assert_eq!(policy.handle(Input::Tick, now, MAX_RANDOM), Action::Open);
        policy.handle(Input::Opened, now, MAX_RANDOM);
        assert_eq!(policy.status(now), ConnectionStatus::Live);
        connections += 1;
    }
    assert_eq!(connections, 4, "after 2, 4, 8 and 16 s");
    policy.handle(Input::Failed, now + STABLE_AFTER_MS - 1, MAX_RANDOM);
    assert_eq!(policy.status(now + STABLE_AFTER_MS - 1), ConnectionStatus::Reconnecting(30));
}

#[test]
fn a_silent_connection_is_closed() {
    let mut policy = live(0);
    policy.note_heard(10_000);
    assert_eq!(policy.next_tick(10_000), Some(47_500));
    assert_eq!(policy.handle(Input::Tick, 47_499, MAX_RANDOM), Action::Keep);
    assert_eq!(policy.handle(Input::Tick, 47_500, MAX_RANDOM), Action::Close);
}

#[test]
fn a_server_that_cannot_reach_its_store_is_shown_until_it_can() {
    let mut policy = live(0);
    let hears = |policy: &mut ConnectionPolicy, stale| {
        assert_eq!(policy.handle(Input::Heard { stale }, 0, MAX_RANDOM), Action::Keep);
        policy.status(0)
    };
    assert_eq!(hears(&mut policy, true), ConnectionStatus::Stale);
    assert_eq!(hears(&mut policy, true), ConnectionStatus::Stale);
    assert_eq!(hears(&mut policy, false), ConnectionStatus::Live);
    assert_eq!(hears(&mut policy, true), ConnectionStatus::Stale);
    policy.handle(Input::Failed, 0, MAX_RANDOM);
    assert_eq!(policy.status(0), ConnectionStatus::Reconnecting(2));
    policy.handle(Input::RetryNow, 0, MAX_RANDOM);
    policy.handle(Input::Opened, 0, MAX_RANDOM);
    assert_eq!(policy.status(0), ConnectionStatus::Live, "another server may have accepted");
}

#[test]
fn an_attempt_that_hangs_is_abandoned() {
    let mut policy = ConnectionPolicy::default();
    policy.handle(Input::Begin, 0, MAX_RANDOM);
    assert_eq!(policy.next_tick(0), Some(CONNECT_TIMEOUT_MS));
    assert_eq!(policy.handle(Input::Tick, CONNECT_TIMEOUT_MS, MAX_RANDOM), Action::Close);
}

#[test]
fn the_reader_can_reconnect_at_once() {
    let mut policy = live(0);
    policy.handle(Input::Failed, 0, MAX_RANDOM);
    assert_eq!(policy.handle(Input::RetryNow, 1, MAX_RANDOM), Action::Open);
    assert_eq!(
        policy.handle(Input::RetryNow, 2, MAX_RANDOM),
        Action::Open,
        "also while an attempt hangs"
    );
}

#[test]
fn a_connection_whose_ping_is_overdue_is_replaced_after_a_sleep() {
    let mut policy = live(0);
    policy.handle(Input::Hidden { scarce: false }, 0, MAX_RANDOM);
    assert_eq!(policy.handle(Input::Shown, SUSPECT_AFTER_MS - 1, MAX_RANDOM), Action::Keep);
    assert_eq!(policy.handle(Input::Shown, SUSPECT_AFTER_MS, MAX_RANDOM), Action::Open);
}

#[test]
fn a_new_network_opens_a_new_connection() {
    let mut policy = live(0);
    assert_eq!(policy.handle(Input::Online, 1, MAX_RANDOM), Action::Open);
}

#[test]
fn offline_is_shown_until_the_network_is_back() {
    let mut policy = live(0);
    assert_eq!(policy.handle(Input::Offline, 0, MAX_RANDOM), Action::Close);
    assert_eq!(policy.status(0), ConnectionStatus::Offline(2));
    assert_eq!(
        policy.handle(Input::Tick, 2_000, MAX_RANDOM),
        Action::Open,
        "the browser may be wrong"
    );
    policy.handle(Input::Failed, 2_000, MAX_RANDOM);
    assert_eq!(policy.handle(Input::Online, 2_500, MAX_RANDOM), Action::Open);
    assert_eq!(policy.status(2_500), ConnectionStatus::Reconnecting(0));
}

#[test]
fn a_hidden_tab_closes_its_connection_where_connections_are_scarce() {
    let mut policy = live(0);
    policy.handle(Input::Hidden { scarce: true }, 0, MAX_RANDOM);
    assert_eq!(policy.next_tick(0), Some(HIDDEN_TIMEOUT_MS));
    assert_eq!(policy.handle(Input::Tick, HIDDEN_TIMEOUT_MS, MAX_RANDOM), Action::Close);
    assert_eq!(policy.status(HIDDEN_TIMEOUT_MS), ConnectionStatus::Resting);
    assert_eq!(policy.next_tick(HIDDEN_TIMEOUT_MS), None);
    assert_eq!(policy.handle(Input::Shown, HIDDEN_TIMEOUT_MS, MAX_RANDOM), Action::Open);
}

#[test]
fn a_hidden_tab_stays_live_where_connections_are_not_scarce_or_it_is_shown_in_time() {
    let mut policy = live(0);
    policy.handle(Input::Hidden { scarce: false }, 0, MAX_RANDOM);
    assert_eq!(policy.handle(Input::Tick, HIDDEN_TIMEOUT_MS, MAX_RANDOM), Action::Keep);
    policy.handle(Input::Hidden { scarce: true }, HIDDEN_TIMEOUT_MS, MAX_RANDOM);
    policy.handle(Input::Shown, HIDDEN_TIMEOUT_MS + 1, MAX_RANDOM);
    assert_eq!(policy.handle(Input::Tick, 3 * HIDDEN_TIMEOUT_MS, MAX_RANDOM), Action::Keep);
}

#[test]
fn a_signed_out_page_reconnects_only_when_the_reader_acts() {
    for again in [Input::Shown, Input::RetryNow, Input::Begin] {
        let mut policy = live(0);
        assert_eq!(policy.handle(Input::Expired, 0, MAX_RANDOM), Action::Close);
        assert_eq!(policy.status(0), ConnectionStatus::Expired);
        assert_eq!(policy.next_tick(0), None, "it waits without a limit");
        let hidden = Input::Hidden { scarce: true };
        for input in [Input::Failed, Input::Offline, Input::Online, hidden, Input::Tick] {
            assert_eq!(
                policy.handle(input, HIDDEN_TIMEOUT_MS, MAX_RANDOM),
                Action::Keep,
                "{input:?}"
            );
            assert_eq!(policy.status(HIDDEN_TIMEOUT_MS), ConnectionStatus::Expired);
        }
        assert_eq!(policy.handle(again, HIDDEN_TIMEOUT_MS, MAX_RANDOM), Action::Open);
        policy.handle(Input::Opened, HIDDEN_TIMEOUT_MS, MAX_RANDOM);
        assert_eq!(policy.status(HIDDEN_TIMEOUT_MS), ConnectionStatus::Live);
    }
}

#[test]
fn a_retry_with_an_expired_token_stays_signed_out() {
    let mut policy = live(0);
    policy.handle(Input::Failed, 0, MAX_RANDOM);
    for now in [1, 2] {
        policy.handle(Input::RetryNow, now, MAX_RANDOM);
        policy.handle(Input::Opened, now, MAX_RANDOM);
        assert_eq!(policy.handle(Input::Expired, now, MAX_RANDOM), Action::Close);
        assert_eq!(policy.status(now), ConnectionStatus::Expired);
    }
}

#[test]
fn a_page_that_comes_back_from_the_cache_connects() {
    let mut policy = live(0);
    assert_eq!(policy.handle(Input::Left, 0, MAX_RANDOM), Action::Close);
    assert_eq!(policy.handle(Input::Shown, 60_000, MAX_RANDOM), Action::Open);
}

#[test]
fn an_ended_stream_stays_closed_until_it_is_begun_again() {
    let mut policy = live(0);
    assert_eq!(policy.handle(Input::Ended, 0, MAX_RANDOM), Action::Close);
    for input in [Input::Failed, Input::Shown, Input::Online, Input::RetryNow, Input::Tick] {
        assert_eq!(policy.handle(input, 1_000_000, MAX_RANDOM), Action::Keep, "{input:?}");
    }
    assert_eq!(policy.next_tick(1_000_000), None);
    assert_eq!(policy.handle(Input::Begin, 1_000_000, MAX_RANDOM), Action::Open);
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Opened),
        any::<bool>().prop_map(|stale| Input::Heard { stale }),
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
    /// After any inputs, a visible page whose stream has not ended reconnects by itself, if it gets
    /// its ticks when they are due.
    #[test]
    fn the_policy_never_stops_reconnecting(
        inputs in prop::collection::vec((input(), 0..60_000_u64, any::<u8>()), 0..50),
    ) {
        let mut policy = ConnectionPolicy::default();
        let mut now = 0;
        policy.handle(Input::Begin, now, 0);
        for (input, elapsed, jitter) in inputs {
            now += elapsed;
            policy.handle(input, now, jitter);
        }
        policy.handle(Input::Shown, now, 0);
        policy.handle(Input::Failed, now, 0);
        let at = policy.next_tick(now).expect("a tick is due");
        prop_assert!(at > now && at <= now + 1_000);
        let mut opened = false;
        while let Some(at) = policy.next_tick(now).filter(|_| !opened) {
            now = at;
            opened = policy.handle(Input::Tick, now, 0) == Action::Open;
        }
        prop_assert!(opened);
    }
}
