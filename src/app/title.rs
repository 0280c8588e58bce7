//! The title of a page whose tab is in the background: it counts what arrived.

use leptos::prelude::*;

use super::subscription::Subscription;
use crate::feed::Feed;

/// Shows "(3) ci · Tidings" while nobody looks, and the title as it was when someone does.
pub(super) fn count(feed: RwSignal<Feed>, subscription: Subscription) {
    let missed = Memo::new(move |before: Option<&(u64, u64)>| {
        let count = feed.read().count();
        let seen = match before {
            // A stream that began anew counts anew.
            Some((seen, _)) if subscription.hidden() => count.min(*seen),
            _ => count,
        };
        (seen, count - seen)
    });
    Effect::new(move |before: Option<(String, u64)>| {
        let (_, missed) = missed.get();
        let (title, shown) = before.unwrap_or_else(|| (document().title(), 0));
        if missed != shown {
            let count = if missed > 0 { format!("({missed}) ") } else { String::new() };
            document().set_title(&format!("{count}{title}"));
        }
        (title, missed)
    });
}
