//! Health of the database: why it cannot be written, if it cannot.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the writer and the engine; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Option<Arc<str>>>>);

impl Health {
    /// Why the database cannot be written, if it cannot.
    pub(super) fn unwritable(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records why the database cannot be written, or that it can.
    pub(super) fn set(&self, reason: Option<Arc<str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
