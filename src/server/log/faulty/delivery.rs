//! Delivers changes to one follower, with delays, gaps and breaks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Faults, Faulty};
use crate::server::log::{Change, follow::ChangeSender};

/// How long a follow may hide that it dropped a change.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// The engine's side of one follow.
pub(super) struct ChangeDelivery {
    pub(super) sender: Arc<ChangeSender>,
    pub(super) changes: mpsc::UnboundedReceiver<Change>,
    /// When the follow ends at the latest.
    pub(super) ends_at: Instant,
}

impl ChangeDelivery {
    /// Sends changes to the follower, with delays, until the follow ends.
    pub(super) async fn run(mut self, engine: Faulty) {
        // A dropped change shows by a later change, or else the follow ends.
        let mut hidden_until = None;
        loop {
            let ends_at = hidden_until.unwrap_or(self.ends_at).min(self.ends_at);
            let Ok(Some(change)) = timeout_at(ends_at, self.changes.recv()).await else { return };
            engine.delay().await;
            let (gap, breaking_changes) = {
                let mut state = engine.state();
                let Faults { dropped_changes, breaking_changes, .. } = state.faults;
                (state.happens(dropped_changes), state.happens(breaking_changes))
            };
            if gap {
                hidden_until.get_or_insert(Instant::now() + MAX_SILENCE);
                continue;
            }
            hidden_until = None;
            if !self.sender.send(change) || breaking_changes {
                return;
            }
        }
    }
}
