//! Health of the store: whether it can be written, and whether its file is damaged.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::ffi::ErrorCode;

/// The store counts as unwritable when the disk has not answered for this time.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Shared by the writer, the check of the file and the engine; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug, Default)]
struct HealthState {
    /// Why the last attempt to write failed.
    write_error: Option<Arc<str>>,
    /// When the writer began to wait for the disk, while it waits.
    storing_since: Option<Instant>,
    /// Why the last checkpoint of the write-ahead log failed, if it did.
    checkpoint_error: Option<Arc<str>>,
    /// What is damaged. Kept until the server stops.
    damaged: Option<Arc<str>>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store cannot be written, if it cannot.
    pub(super) fn unwritable(&self) -> Option<Arc<str>> {
        let state = self.state();
        let stalled = || {
            let waited = state.storing_since?.elapsed();
            let seconds = waited.as_secs();
            (waited > STALL_TIMEOUT)
                .then(|| format!("the disk has not answered for {seconds} s").into())
        };
        state.write_error.clone().or_else(|| state.checkpoint_error.clone()).or_else(stalled)
    }

    /// Whether the last attempt to write failed.
    pub(super) fn has_write_error(&self) -> bool {
        self.state().write_error.is_some()
    }

    /// What is damaged in the file, if anything is known to be.
    pub(super) fn damaged(&self) -> Option<Arc<str>> {
        self.state().damaged.clone()
    }

    /// Records that the writer begins, or has ended, to wait for the disk.
    pub(super) fn set_storing(&self, storing: bool) {
        self.state().storing_since = storing.then(Instant::now);
    }

    /// Records why the last attempt to write failed, if it did; returns the previous value.
    pub(super) fn set_write_error(&self, write_error: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.state().write_error, write_error)
    }

    /// Records why the last checkpoint failed, if it did; returns the previous value.
    pub(super) fn set_checkpoint_error(
        &self,
        checkpoint_error: Option<Arc<str>>,
    ) -> Option<Arc<str>> {
        std::mem::replace(&mut self.state().checkpoint_error, checkpoint_error)
    }

    /// Records damage that an error of a read or write reports, and logs it once.
    pub(super) fn note_damage(&self, error: &rusqlite::Error) {
        if is_damage(error) && self.damaged().is_none() {
            tracing::error!(%error, "the store is damaged; restore it from a copy");
            self.set_damaged(format!("its file is damaged ({error})").into());
        }
    }

    pub(super) fn set_damaged(&self, damage: Arc<str>) {
        self.state().damaged = Some(damage);
    }
}

/// Whether an error reports that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A description of an error for clients. The details are logged only.
pub(super) fn error_summary(error: &rusqlite::Error) -> Arc<str> {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::SystemIoFailure) => "I/O error of the disk",
        Some(ErrorCode::ReadOnly) => "the disk is read-only",
        Some(ErrorCode::CannotOpen) => "its file cannot be opened",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "its file is damaged",
        _ => "it failed",
    };
    format!("the store cannot be used: {what}").into()
}
