//! The live part of a message page: the one island that the browser brings to life.

use leptos::prelude::*;

use super::{
    chart::Chart,
    rows::Rows,
    snapshot,
    status::{Status, state},
    subscription::Subscription,
    text,
};
use crate::{feed::Feed, message::Snapshot};

/// A stream from its snapshot on: rendered by the server, live in the browser.
#[component]
pub fn LiveStream(
    /// The stream as one read found it.
    snapshot: Snapshot,
) -> impl IntoView {
    let carrier = snapshot::element(&snapshot);
    provide_context(snapshot);
    view! {
        {carrier}
        <Live />
    }
}

/// The island. Its snapshot comes from the page around it; see [`snapshot`].
#[island]
pub fn Live() -> impl IntoView {
    let snapshot = snapshot::snapshot();
    let events = snapshot.events.clone();
    let pace = snapshot.pace;
    let feed = RwSignal::new(Feed::new(snapshot));
    let subscription = Subscription::new(events, feed);
    let state = text(move || state(subscription.link(), &feed.read()).0.to_owned());

    view! {
        <section class="live" aria-label="Stream" data-state=state>
            <Chart feed />
            <Status subscription feed />
            <Rows subscription feed pace />
        </section>
    }
}
