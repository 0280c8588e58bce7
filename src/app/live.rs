//! The live part of a message page: the one island that the browser brings to life.

use leptos::prelude::*;

use super::{
    chart::Chart,
    composer::Composer,
    island::counted,
    row::RowContext,
    rows::Rows,
    snapshot::{self, LiveData},
    status::{Status, state},
    subscription::Subscription,
    text, title,
};
use crate::feed::Feed;

/// A stream from its snapshot on: rendered by the server, live in the browser.
#[component]
pub fn LiveStream(
    /// What it begins with.
    given: LiveData,
) -> impl IntoView {
    let carrier = snapshot::element(&given);
    let address = given.stream.as_ref().map_or("/".to_owned(), |name| format!("/streams/{name}"));
    let not_live = given.snapshot.end.is_none().then(|| not_live(address));
    provide_context(given);
    view! {
        {carrier}
        {not_live}
        {counted(view! { <Live /> })}
    }
}

/// What a page says that is not live, because its wasm did not come to life or has died: the page's
/// script shows it at once, the style sheet by itself when the script does not run.
fn not_live(address: String) -> impl IntoView {
    view! {
        <div class="not-live">
            <p class="state" role="status">"Not live"</p>
            <p>"What comes now is not shown here. " <a href=address>"Reload the page"</a></p>
        </div>
    }
}

/// The island. What it begins with comes from the page around it; see [`snapshot`].
#[island]
pub fn Live() -> impl IntoView {
    let LiveData { snapshot, stream, composer, draft } = snapshot::given();
    let events = snapshot.events.clone();
    let context = RowContext { stream: stream.clone(), pace: snapshot.pace, at: None };
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
            <Chart feed alone=again />
            <Status subscription feed again />
            <Rows subscription feed context />
            {composer}
        </section>
    }
}
