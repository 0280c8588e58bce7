//! What goes on in the background: the sweep of old messages, and the check of a file that is served
//! meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    check::{Found, Pace, Stop, check, size},
    file::Location,
    health::Health,
    retention,
    wal::Purged,
    write::{Command, PROBE},
};

/// How often old messages are looked for.
pub(super) const SWEEP: Duration = Duration::from_mins(1);
/// How soon after something was deleted: what is deleted together goes together.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// After how many steps of removing it is purging's turn, and the other way round: while much is
/// published neither of them may come to an end.
const TURN: usize = 64;

/// How long the write-ahead log may become while the file is checked, in bytes: so much, and such a
/// part of the file, which takes the longer to check the larger it is.
const MAX_WAL: u64 = 256 * 1024 * 1024;
const MAX_WAL_SHARE: u64 = 4;
/// After how long a check that was given up begins anew: longer each time.
const RETRY: Duration = Duration::from_mins(1);
const MAX_RETRY: Duration = Duration::from_hours(1);

/// Has the writer look for old messages now and then, soon after something was deleted, and more
/// often whether a store in trouble has recovered.
pub(super) async fn sweep(writer: mpsc::WeakSender<Command>, health: Health, deleted: Arc<Notify>) {
    let mut purged = Purged::Done;
    loop {
        let pause =
            if health.trouble().is_some() || purged == Purged::Busy { PROBE } else { SWEEP };
        // Trouble may begin in the middle of a long pause.
        let mut waited = Duration::ZERO;
        while waited < pause && (waited < PROBE || health.trouble().is_none()) {
            if timeout(PROBE, deleted.notified()).await.is_ok() {
                sleep(BUSY_PAUSE).await;
                break;
            }
            waited += PROBE;
        }
        loop {
            let mut more = false;
            for _ in 0..TURN {
                // The writer is gone when the log is.
                let Some(left) = remove(&writer).await else { return };
                more = left;
                if !more {
                    break;
                }
            }
            for _ in 0..TURN {
                let Some(came) = purge(&writer).await else { return };
                purged = came;
                if purged != Purged::More {
                    break;
                }
            }
            if !more && purged != Purged::More {
                break;
            }
        }
    }
}

/// Has the writer remove a part of what is too old; tells whether there is more. None once the writer
/// is gone.
async fn remove(writer: &mpsc::WeakSender<Command>) -> Option<bool> {
    let (command, done) = Command::write(0, |batch| retention::step(batch).map(Ok));
    writer.upgrade()?.send(command).await.ok()?;
    Some(matches!(done.await, Ok(Ok(true))))
}

/// Has the writer purge a part of the files. None once it is gone.
async fn purge(writer: &mpsc::WeakSender<Command>) -> Option<Purged> {
    let (done, answer) = oneshot::channel();
    writer.upgrade()?.send(Command::Purge { done }).await.ok()?;
    Some(answer.await.unwrap_or(Purged::Done))
}

/// Checks a file that is served meanwhile. Damage is not survived in silence: it is in the log, in the
/// metrics, and makes the server not ready, until it is restored from a copy.
pub(super) async fn check_file(
    location: Location,
    health: Health,
    stop: Stop,
    connections: TaskTracker,
) {
    let mut retry = RETRY;
    loop {
        let checking = (location.clone(), stop.clone());
        let checked = connections.spawn_blocking(move || {
            let (location, stop) = checking;
            // A store that is about to be closed gets no further connection.
            if stop.is_asked_for() {
                return Ok(Found::Stopped);
            }
            let connection = location.open_to_read()?;
            let max_wal = MAX_WAL.max(size(&connection)? / MAX_WAL_SHARE);
            let pace = Pace::Background { stop, wal: location.wal().unwrap_or_default(), max_wal };
            check(&connection, "it is served meanwhile", pace)
        });
        match checked.await {
            Ok(Ok(Found::Sound)) => break,
            Ok(Ok(Found::Damaged(what))) => {
                tracing::error!(damage = what, "the store is damaged; restore it from a copy");
                health.set_damaged(format!("its file is damaged ({what})").into());
                break;
            }
            Ok(Ok(Found::Stopped)) if stop.is_asked_for() => break,
            Ok(Ok(Found::Stopped)) => {
                tracing::info!(
                    again_in_seconds = retry.as_secs(),
                    "the check of the store is given up for now: too much was written meanwhile"
                );
                sleep(retry).await;
                retry = MAX_RETRY.min(retry * 2);
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
    // What is supervised does not return.
    std::future::pending::<()>().await;
}
