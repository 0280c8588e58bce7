//! The unread count in the title of a tab in the background.

use leptos::prelude::*;

use super::{effect, subscription::Subscription};
use crate::feed::Feed;

/// Shows "(3) ci · Tidings" while the tab is hidden and 3 messages have arrived since, and the original
/// title while it is visible.
pub(super) fn show_unread_count(feed: RwSignal<Feed>, subscription: Subscription) {
    let mut title = None;
    // All there are to begin with.
    let (mut seen, mut shown) = (u64::MAX, 0);
    effect(move || {
        let count = feed.read().count();
        let title = title.get_or_insert_with(|| document().title());
        // The count restarts when the stream does.
        seen = if subscription.hidden() { seen.min(count) } else { count };
        let unread = count - seen;
        if unread != shown {
            let prefix = if unread > 0 { format!("({unread}) ") } else { String::new() };
            document().set_title(&format!("{prefix}{title}"));
            shown = unread;
        }
    });
}
