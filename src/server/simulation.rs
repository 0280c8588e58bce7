//! Deterministic simulation: hubs, watchers and event streams as they are, over an engine with faults.
//!
//! A seed decides a whole history: what is published, what is read, from where, how fast and through which
//! server, and what goes wrong meanwhile. Time is tokio's, paused, so that a minute of pauses takes no
//! time, and so that a history is the same whenever it is run. Whatever happens, every reader gets
//! everything that was acknowledged, once, in order, or a truthful `reset`; soon after nothing goes
//! wrong any more it has all there is; and the log is never asked in a loop without a pause.
//!
//! `HISTORIES=100000 cargo test simulation` runs more of them, `SEED=42 HISTORIES=1 cargo test
//! simulation` one again.

#![expect(
    clippy::print_stdout,
    reason = "cargo test shows what a test says only if it is asked to"
)]

mod history;
mod publisher;
mod reader;
mod scenarios;
mod tally;
mod truth;

use std::{
    env, panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use self::{
    history::{Planted, run},
    tally::Tally,
};
use super::{hub::planted::HubBug, supervisor::panic_message};

/// How many histories a plain `cargo test` runs.
const HISTORIES: u64 = 10_000;
/// Within how many histories a planted bug has to be found.
const TO_FIND: u64 = 500;

/// A number that is given in the environment.
fn given(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|number| number.parse().ok())
}

/// Runs so many histories, as many at a time as there are processors, until one goes wrong; gives back
/// its seed, and what went wrong. Else what happened in them.
fn find(first: u64, histories: u64, planted: Option<Planted>) -> Result<Tally, (u64, String)> {
    let (next, found) = (AtomicU64::new(first), Mutex::new(Ok(Tally::default())));
    let work = || {
        while found.lock().is_ok_and(|found| found.is_ok()) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(histories) {
                return;
            }
            let outcome = panic::catch_unwind(|| run(seed, planted));
            let outcome = outcome.unwrap_or_else(|panic| Err(panic_message(&*panic)));
            let Ok(mut found) = found.lock() else { return };
            match (&mut *found, outcome) {
                (Ok(all), Ok(tally)) => all.add(&tally),
                (Ok(_), Err(why)) => *found = Err((seed, why)),
                (Err(_), _) => {}
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap_or_else(|_| Err((first, "a thread panicked".to_owned())))
}

#[test]
fn every_reader_gets_everything_once_and_in_order_whatever_the_log_does() {
    let first = given("SEED").unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let histories = given("HISTORIES").unwrap_or(HISTORIES);
    println!("SEED={first}");
    match find(first, histories, None) {
        Err((seed, why)) => panic!("{why}\nto see it again: SEED={seed} HISTORIES=1"),
        Ok(tally) => {
            println!("{tally:#?}");
            assert!(histories < 1_000 || tally.is_much(), "not much of a trial: {tally:?}");
        }
    }
}

/// The simulation is worth something only if it notices what it is there for.
#[test]
fn planted_bugs_are_found() {
    let planted = [
        Planted::Hub(HubBug::NoGapCheck),
        Planted::Hub(HubBug::OneFollow),
        Planted::UnknownTakenForRefused,
    ];
    for planted in planted {
        let found = find(1, TO_FIND, Some(planted)).err();
        let (seed, why) = found.unwrap_or_else(|| panic!("{planted:?} is not noticed"));
        println!("{planted:?}: {why} (SEED={seed})");
    }
}
