//! The unread count in the title of a tab in the background.

use leptos::prelude::*;

use super::subscription::Subscription;
use crate::feed::Feed;

/// Shows "(3) ci · Tidings" while the tab is hidden and 3 messages have arrived since, and the original
/// title while it is visible.
pub(super) fn show_unread_count(feed: RwSignal<Feed>, subscription: Subscription) {
    Effect::new(move |previous: Option<(String, u64, u64)>| {
        let count = feed.read().count();
        let (title, seen, shown) = previous.unwrap_or_else(|| (document().title(), count, 0));
        // The count restarts when the stream does.
        let seen = if subscription.hidden() { seen.min(count) } else { count };
        let unread = count - seen;
        if unread != shown {
            let prefix = if unread > 0 { format!("({unread}) ") } else { String::new() };
            document().set_title(&format!("{prefix}{title}"));
        }
        (title, seen, unread)
    });
}
