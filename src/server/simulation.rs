//! Deterministic simulation testing: unmodified hubs, watchers and event streams over an engine with
//! fault injection.
//!
//! A seed determines a whole history: what is published, what is read, from which cursor, at which speed
//! and from which server, and which faults occur. Tokio's clock is paused, so that pauses take no real
//! time, and a history is reproducible. In every history each reader gets every acknowledged message,
//! once, in order, or a justified `reset`; soon after the faults end it has all messages; and the log
//! is never called in a loop without a pause.
//!
//! `HISTORIES=100000 cargo test simulation` runs more histories, `SEED=42 HISTORIES=1 cargo test
//! simulation` repeats one.

#![expect(clippy::print_stdout, reason = "cargo test shows the output of a test only on request")]

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
    history::{PlantedBug, run},
    tally::Tally,
};
use super::{hub::planted::HubBug, supervisor::panic_message};

/// Number of histories in a plain `cargo test`.
const HISTORIES: u64 = 10_000;
/// Number of histories within which an injected bug must be detected.
const HISTORIES_TO_FIND_BUG: u64 = 500;

/// A number from an environment variable.
fn env_number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|number| number.parse().ok())
}

/// Runs histories with consecutive seeds, one thread per processor, until one fails.
///
/// # Errors
/// The seed of the failed history, and its failure.
fn run_histories(
    first: u64,
    histories: u64,
    planted: Option<PlantedBug>,
) -> Result<Tally, (u64, String)> {
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
                (Ok(_), Err(error)) => *found = Err((seed, error)),
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
fn every_reader_gets_every_message_once_and_in_order_despite_faults_of_the_log() {
    let first = env_number("SEED").unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let histories = env_number("HISTORIES").unwrap_or(HISTORIES);
    println!("SEED={first}");
    match run_histories(first, histories, None) {
        Err((seed, error)) => panic!("{error}\nto repeat it: SEED={seed} HISTORIES=1"),
        Ok(tally) => {
            println!("{tally:#?}");
            assert!(
                histories < 1_000 || tally.covers_all_cases(),
                "the histories do not cover every case: {tally:?}"
            );
        }
    }
}

/// The simulation must detect the bugs that it is made for.
#[test]
fn injected_bugs_are_detected() {
    let planted = [
        PlantedBug::Hub(HubBug::NoGapCheck),
        PlantedBug::Hub(HubBug::NoRefollow),
        PlantedBug::RetryUnknownAsRefused,
    ];
    for planted in planted {
        let found = run_histories(1, HISTORIES_TO_FIND_BUG, Some(planted)).err();
        let (seed, error) = found.unwrap_or_else(|| panic!("{planted:?} is not detected"));
        println!("{planted:?}: {error} (SEED={seed})");
    }
}
