//! Bugs that the simulation injects into the hub, to show that it detects them (mutation testing).

use std::cell::Cell;

/// A bug of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HubBug {
    /// A tail does not check whether a change follows its last message.
    NoGapCheck,
    /// A follow that has ended is not restarted.
    NoRefollow,
}

thread_local! {
    /// Per thread, because each history runs on one thread.
    static PLANTED: Cell<Option<HubBug>> = const { Cell::new(None) };
}

/// Injects a bug into all hubs of this thread, or removes it.
pub(crate) fn plant(bug: Option<HubBug>) {
    PLANTED.set(bug);
}

pub(super) fn is_planted(bug: HubBug) -> bool {
    PLANTED.get() == Some(bug)
}
