//! The live part of a message page: the one island that the browser brings to life.

use leptos::prelude::*;

use super::{
    chart::Chart,
    composer::Composer,
    row::Style,
    rows::Rows,
    snapshot::{self, Given},
    status::{Status, state},
    subscription::Subscription,
    text, title,
};
use crate::feed::Feed;

/// A stream from its snapshot on: rendered by the server, live in the browser.
#[component]
pub fn LiveStream(
    /// What it begins with.
    given: Given,
) -> impl IntoView {
    let carrier = snapshot::element(&given);
    provide_context(given);
    view! {
        {carrier}
        <Live />
    }
}

/// The island. What it begins with comes from the page around it; see [`snapshot`].
#[island]
pub fn Live() -> impl IntoView {
    let Given { snapshot, stream, composer, draft } = snapshot::given();
    let events = snapshot.events.clone();
    let style = Style { stream: stream.clone(), pace: snapshot.pace, at: None };
    let feed = RwSignal::new(Feed::new(snapshot));
    let subscription = Subscription::new(events, feed);
    title::count(feed, subscription);
    let again = stream.is_none();
    let composer = stream
        .filter(|_| composer)
        .map(|stream| view! { <Composer stream=stream.as_str() draft /> });
    let state = text(move || state(subscription.link(), &feed.read()).0.to_owned());

    view! {
        <section class="live" aria-label="Stream" data-state=state>
            <Chart feed />
            <Status subscription feed again />
            <Rows subscription feed style />
            {composer}
        </section>
    }
}
