//! The title of a page whose tab is in the background: it counts what arrived.

use leptos::prelude::*;

use super::subscription::Subscription;
use crate::feed::Feed;

/// Shows "(3) ci · Tidings" while nobody looks, and the title as it was when someone does.
pub(super) fn count(feed: RwSignal<Feed>, subscription: Subscription) {
    Effect::new(move |before: Option<(String, u64, u64)>| {
        let count = feed.read().count();
        let (title, seen, shown) = before.unwrap_or_else(|| (document().title(), count, 0));
        // A stream that began anew counts anew.
        let seen = if subscription.hidden() { seen.min(count) } else { count };
        let missed = count - seen;
        if missed != shown {
            let count = if missed > 0 { format!("({missed}) ") } else { String::new() };
            document().set_title(&format!("{count}{title}"));
        }
        (title, seen, missed)
    });
}
