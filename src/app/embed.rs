//! Streams alone: their messages and their status, for a frame in a page of another site (`?embed`), and
//! for a screen that is read from afar (`?wall`).
//!
//! Such a page has no form and no button that changes anything on the server, so that a page that covers
//! the frame cannot make a visitor publish (clickjacking). Links in a frame open in tabs of their own. The
//! heading leads to the page with everything else.

use leptos::prelude::*;

use super::{
    layout::Layout,
    live::LiveStream,
    page_context,
    several::{columns, columns_of, name_links},
    sign_in::sign_in_address,
    snapshot::LiveData,
    stream::stale,
    stream_address,
};
use crate::message::{Snapshot, StreamNames};

/// One stream, or several: their newest messages, then live.
#[component]
pub fn StreamsAlone(
    /// The streams.
    names: StreamNames,
    /// The streams as one read of each found them.
    snapshot: Snapshot,
    /// How the page is laid out.
    layout: Layout,
) -> impl IntoView {
    let base = page_context().base;
    let page = stream_address(&base, &names.to_string());
    let address = layout.of(&page);
    // In the frame itself: a browser may keep a token for this frame alone.
    let sign_in = sign_in_address(&base, &address);
    let number = columns_of(layout, &names);
    let columns = number.is_some().then(|| columns(&base, &names));
    let class = match (layout.wall, names.single()) {
        (false, Some(_)) => "stream stored embedded",
        (false, None) => "stream stored embedded several",
        (true, Some(_)) => "stream stored embedded wall",
        (true, None) => "stream stored embedded wall several",
    };
    let leave = layout.wall.then(|| {
        let page = Layout { wall: false, ..layout }.of(&page);
        view! { <a class="leave" href=page>"Leave the wall"</a> }
    });
    let heading = name_links(&base, names);
    let data = LiveData { snapshot, base, ..LiveData::default() };
    view! {
        <main class=class data-columns=number>
            <h1>{heading}</h1>
            <noscript>
                <p class="notice">
                    "Without JavaScript this shows the messages there were when it was loaded."
                </p>
            </noscript>
            <p class="notice signed-out">
                "Your token has expired, or you have signed out. "
                <a href=sign_in target="_self">"Sign in"</a>
            </p>
            {stale()}
            {columns}
            <LiveStream data address target="_self" />
            {leave}
        </main>
    }
}
