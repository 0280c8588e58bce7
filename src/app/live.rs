//! The live part of a message page: the island that is hydrated and follows the event stream.

use std::sync::Arc;

use leptos::{prelude::*, server_fn::ServerFn as _};

use super::{
    chart::Chart,
    composer::{Composer, Publish},
    content::text,
    island::counted,
    row::RowContext,
    rows::Rows,
    snapshot::{self, LiveData},
    status::{Status, state_and_label},
    subscription::Subscription,
    title,
};
use crate::feed::Feed;

/// A stream from its snapshot on: rendered by the server, then live in the browser.
#[component]
pub fn LiveStream(
    /// The snapshot to start from.
    data: LiveData,
    /// The address of the page.
    address: String,
    /// Where the link that loads the page again opens.
    #[prop(optional)]
    target: Option<&'static str>,
) -> impl IntoView {
    let snapshot_element = snapshot::element(&data);
    let not_live = (!data.snapshot.has_ended()).then(|| not_live("New messages", address, target));
    provide_context(data);
    view! {
        {snapshot_element}
        {not_live}
        {counted(view! { <Live /> })}
    }
}

/// The notice on a page that is not live and so does not show `what`, because hydration or the wasm has
/// failed: the page's script shows it at once; if the script does not run, the style sheet shows it after a
/// while.
pub(super) fn not_live(
    what: &'static str,
    address: String,
    target: Option<&'static str>,
) -> impl IntoView {
    view! {
        <div class="not-live">
            <p class="state" role="status">"Not live"</p>
            <p>{what}" are not shown here. " <a href=address target=target>"Reload the page"</a></p>
        </div>
    }
}

/// The island. It reads its snapshot from the page around it; see [`snapshot`].
#[island]
pub fn Live() -> impl IntoView {
    let data = snapshot::live_data();
    let LiveData { snapshot, base, stream, draft } = data;
    let events = snapshot.events.clone();
    let feed = Feed::new(snapshot);
    let context = RowContext { pages: Arc::clone(feed.pages()), at: None };
    let restartable = context.pages.is_empty();
    let feed = RwSignal::new(feed);
    let subscription = Subscription::new(events, feed);
    title::show_unread_count(feed, subscription);
    let composer = stream.map(|stream| {
        let action = base.address(Publish::url());
        view! { <Composer action stream=stream.as_str() draft /> }
    });
    let state = text(move || state_and_label(subscription.status(), &feed.read()).0.to_owned());

    view! {
        <section class="live" aria-label="Stream" data-state=state>
            <Chart feed single_is_enough=restartable />
            <Status subscription feed pausable=true restartable />
            <Rows subscription feed context />
            {composer}
        </section>
    }
}
