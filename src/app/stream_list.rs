//! The live part of the list of the streams: the island with the connection and its status.
//!
//! The rows are not in it: the server renders them, and a script that only this page has (`stream_list.js`)
//! updates them, so that no other page loads the code for it.

use leptos::prelude::*;

use super::{
    content::text,
    island::counted,
    live::not_live,
    snapshot::{self, LiveData},
    status::{Status, state_and_label},
    subscription::Subscription,
};
use crate::feed::Feed;

/// The status of the list, live after the cursor of its snapshot.
#[component]
pub fn LiveList(
    /// The snapshot to start from, without messages.
    data: LiveData,
    /// The address of the page.
    address: String,
) -> impl IntoView {
    let snapshot_element = snapshot::element(&data);
    provide_context(data);
    view! {
        {snapshot_element}
        {not_live("Changes", address, None)}
        {counted(view! { <ListStatus /> })}
    }
}

/// The island: connects, and shows the status of the connection.
#[island]
pub fn ListStatus() -> impl IntoView {
    let snapshot = snapshot::live_data().snapshot;
    let events = snapshot.events.clone();
    // Without rows: it holds the cursor.
    let feed = RwSignal::new(Feed::new(snapshot));
    let subscription = Subscription::new(events, feed);
    let state = text(move || state_and_label(subscription.status(), &feed.read()).0.to_owned());
    view! {
        <section class="live" aria-label="Connection" data-state=state>
            <Status subscription feed pausable=false restartable=false />
        </section>
    }
}
