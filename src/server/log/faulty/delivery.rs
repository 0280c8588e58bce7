//! How a follow is told what happens.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Faults, Faulty};
use crate::server::log::{Change, follow::ChangeSender};

/// How long a follow may hide that it left something out.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// A follow as the engine sees it.
pub(super) struct Delivery {
    pub(super) feed: Arc<ChangeSender>,
    pub(super) told: mpsc::UnboundedReceiver<Change>,
    /// When it ends at the latest.
    pub(super) ends: Instant,
}

impl Delivery {
    /// Tells the follower what happens, sooner or later, until the follow ends.
    pub(super) async fn run(mut self, engine: Faulty) {
        // What is left out is shown by a later change, or else by the end.
        let mut hidden_until = None;
        loop {
            let ends = hidden_until.unwrap_or(self.ends).min(self.ends);
            let Ok(Some(change)) = timeout_at(ends, self.told.recv()).await else { return };
            engine.delay().await;
            let (gap, breaks) = {
                let mut state = engine.state();
                let Faults { gaps, breaks, .. } = state.faults;
                (state.happens(gaps), state.happens(breaks))
            };
            if gap {
                hidden_until.get_or_insert(Instant::now() + MAX_SILENCE);
                continue;
            }
            hidden_until = None;
            if !self.feed.tell(change) || breaks {
                return;
            }
        }
    }
}
