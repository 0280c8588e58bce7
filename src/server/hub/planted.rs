//! Bugs that a simulation plants here, to show that it would find them.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HubBug {
    /// A tail does not look whether a change follows what it has.
    NoGapCheck,
    /// A follow that has ended is not taken up again.
    OneFollow,
}

thread_local! {
    /// A history has a thread for itself.
    static PLANTED: Cell<Option<HubBug>> = const { Cell::new(None) };
}

/// Plants a bug in all hubs of this thread, or removes it.
pub(crate) fn plant(bug: Option<HubBug>) {
    PLANTED.set(bug);
}

pub(super) fn is_planted(bug: HubBug) -> bool {
    PLANTED.get() == Some(bug)
}
