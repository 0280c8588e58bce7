//! The health of the store: whether it can be written, and whether its file is sound.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::ffi::ErrorCode;

/// A disk that has not answered for so long is in trouble, though nothing has failed.
const STALLED: Duration = Duration::from_secs(10);

/// Shared by the writer, the check of the file and the handle; a cheap clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Why the last attempt to write failed.
    failed: Option<Arc<str>>,
    /// Since when the writer has waited for the disk.
    storing_since: Option<Instant>,
    /// Why what is written ahead cannot be moved into the file, if it cannot.
    unmoved: Option<Arc<str>>,
    /// What is damaged. It stays until the server is stopped.
    damaged: Option<Arc<str>>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        let state = self.state();
        let stalled = || {
            let waited = state.storing_since?.elapsed();
            let seconds = waited.as_secs();
            (waited > STALLED)
                .then(|| format!("the disk has not answered for {seconds} s, nor refused").into())
        };
        state.failed.clone().or_else(|| state.unmoved.clone()).or_else(stalled)
    }

    /// Whether the last attempt to write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// What is damaged in the file, if anything is known to be.
    pub(super) fn damaged(&self) -> Option<Arc<str>> {
        self.state().damaged.clone()
    }

    /// Notes that the writer begins, or ceases, to wait for the disk.
    pub(super) fn set_storing(&self, storing: bool) {
        self.state().storing_since = storing.then(Instant::now);
    }

    /// Notes why the last attempt to write failed, if it did; gives back what it was before.
    pub(super) fn set_failed(&self, failed: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.state().failed, failed)
    }

    /// Notes why what is written ahead cannot be moved into the file, if it cannot; gives back what
    /// it was before.
    pub(super) fn set_unmoved(&self, unmoved: Option<Arc<str>>) -> Option<Arc<str>> {
        std::mem::replace(&mut self.state().unmoved, unmoved)
    }

    /// Notes damage that an error tells of, which the store has met with while it was served.
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

/// Whether an error says that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// What went wrong, as far as it concerns the client. The log has the rest.
pub(super) fn what_happened(error: &rusqlite::Error) -> Arc<str> {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::SystemIoFailure) => "I/O error of the disk",
        Some(ErrorCode::ReadOnly) => "the disk cannot be written",
        Some(ErrorCode::CannotOpen) => "its file cannot be opened",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "its file is damaged",
        _ => "it failed",
    };
    format!("the store cannot be used: {what}").into()
}
