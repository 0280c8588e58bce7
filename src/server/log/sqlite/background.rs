//! Background tasks: the retention sweep, and the integrity check of a file that is already in use.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    check::{CheckMode, CheckResult, StopSignal, check, size},
    file::Location,
    health::Health,
    retention,
    wal::PurgeProgress,
    write::{Command, PROBE_INTERVAL},
};

/// How often the sweep removes old messages.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How soon after a deletion the sweep runs, so that it handles several deletions at once.
const DELETE_DELAY: Duration = Duration::from_millis(200);
/// The sweep alternates between removing messages and purging the files after this number of steps:
/// under load either of them may never finish.
const STEPS_PER_TURN: usize = 64;

/// The background check stops when the write-ahead log exceeds this number of bytes and this share of
/// the file (one part in four): a larger file takes longer to check.
const MAX_WAL_BYTES: u64 = 256 * 1024 * 1024;
const MAX_WAL_SHARE: u64 = 4;
/// The pause before a stopped check is retried; it doubles up to the maximum.
const CHECK_RETRY: Duration = Duration::from_mins(1);
const MAX_CHECK_RETRY: Duration = Duration::from_hours(1);

/// Makes the writer remove old messages: at intervals, soon after a deletion, and more often while the
/// store cannot be written, to detect that it can again.
pub(super) async fn sweep(writer: mpsc::WeakSender<Command>, health: Health, deleted: Arc<Notify>) {
    let mut purged = PurgeProgress::Done;
    loop {
        let pause = if health.unwritable().is_some() || purged == PurgeProgress::Busy {
            PROBE_INTERVAL
        } else {
            SWEEP_INTERVAL
        };
        // The store may become unwritable during a long pause.
        let mut waited = Duration::ZERO;
        while waited < pause && (waited < PROBE_INTERVAL || health.unwritable().is_none()) {
            if timeout(PROBE_INTERVAL, deleted.notified()).await.is_ok() {
                sleep(DELETE_DELAY).await;
                break;
            }
            waited += PROBE_INTERVAL;
        }
        loop {
            let mut more = false;
            for _ in 0..STEPS_PER_TURN {
                // The writer ends with the log.
                let Some(is_more) = remove_step(&writer).await else { return };
                more = is_more;
                if !more {
                    break;
                }
            }
            for _ in 0..STEPS_PER_TURN {
                let Some(progress) = purge_step(&writer).await else { return };
                purged = progress;
                if purged != PurgeProgress::More {
                    break;
                }
            }
            if !more && purged != PurgeProgress::More {
                break;
            }
        }
    }
}

/// Makes the writer remove some of the old messages; returns whether there are more. None once the
/// writer has ended.
async fn remove_step(writer: &mpsc::WeakSender<Command>) -> Option<bool> {
    let (command, done) = Command::write(0, |batch| retention::step(batch).map(Ok));
    writer.upgrade()?.send(command).await.ok()?;
    Some(matches!(done.await, Ok(Ok(true))))
}

/// Makes the writer purge a part of the files. None once it has ended.
async fn purge_step(writer: &mpsc::WeakSender<Command>) -> Option<PurgeProgress> {
    let (done, answer) = oneshot::channel();
    writer.upgrade()?.send(Command::Purge { done }).await.ok()?;
    Some(answer.await.unwrap_or(PurgeProgress::Done))
}

/// Checks a file that is already in use. Damage is logged, shown in the metrics, and makes the server
/// not ready until the store is restored from a copy.
pub(super) async fn check_file(
    location: Location,
    health: Health,
    stop: StopSignal,
    connections: TaskTracker,
) {
    let mut retry = CHECK_RETRY;
    loop {
        let checking = (location.clone(), stop.clone());
        let checked = connections.spawn_blocking(move || {
            let (location, stop) = checking;
            // While the store closes, no connection is opened.
            if stop.is_requested() {
                return Ok(CheckResult::Stopped);
            }
            let connection = location.open_to_read()?;
            let max_wal = MAX_WAL_BYTES.max(size(&connection)? / MAX_WAL_SHARE);
            let mode =
                CheckMode::Background { stop, wal: location.wal().unwrap_or_default(), max_wal };
            check(&connection, "the server already uses it", mode)
        });
        match checked.await {
            Ok(Ok(CheckResult::Intact)) => break,
            Ok(Ok(CheckResult::Damaged(what))) => {
                tracing::error!(damage = what, "the store is damaged; restore it from a copy");
                health.set_damaged(format!("its file is damaged ({what})").into());
                break;
            }
            Ok(Ok(CheckResult::Stopped)) if stop.is_requested() => break,
            Ok(Ok(CheckResult::Stopped)) => {
                tracing::info!(
                    again_in_seconds = retry.as_secs(),
                    "the write-ahead log grew too long: the check of the store is stopped and retried"
                );
                sleep(retry).await;
                retry = MAX_CHECK_RETRY.min(retry * 2);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the store cannot be checked");
                break;
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
                break;
            }
        }
    }
    // A supervised task must not return.
    std::future::pending::<()>().await;
}
