//! The message page of the counter.

use leptos::{either::Either, prelude::*};
use leptos_meta::{Meta, Title};

use super::{
    Page, PageContext, command::shell_word, live::LiveStream, page, refused::RefusedPage,
    snapshot::LiveData,
};
use crate::message::Snapshot;

/// The page at `/`.
#[component]
pub fn CounterPage() -> impl IntoView {
    page(|PageContext { origin, page, .. }| match page {
        Page::Counter(snapshot) => Either::Left(view! { <Counter origin snapshot /> }),
        page => Either::Right(view! { <RefusedPage page /> }),
    })
}

#[component]
fn Counter(
    /// Where the server is.
    origin: String,
    /// The run that begins with this visit.
    snapshot: Snapshot,
) -> impl IntoView {
    let curl = format!("curl -N {}", shell_word(&format!("{origin}{}", snapshot.events)));
    let given = LiveData { snapshot, ..LiveData::default() };
    view! {
        <Title text="Counter · Tidings" />
        <Meta
            name="description"
            content="A live message page: the server speaks, the browsers listen, and nobody misses a word."
        />
        <main class="stream">
            <header class="stream-head">
                <h1>"Counter"</h1>
                <p>"A short run of messages, live from the server, for you alone."</p>
            </header>
            <noscript>
                <p class="notice">
                    "Without JavaScript this page shows what had been said when it was loaded. \
                     To listen live, use a terminal: "<code>{curl.clone()}</code>
                </p>
            </noscript>
            <LiveStream given />
            <footer class="hint">
                <p>"The same stream, in a terminal: " <code>{curl}</code></p>
            </footer>
        </main>
    }
}
