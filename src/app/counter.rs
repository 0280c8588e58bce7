//! The message page of the counter.

use leptos::prelude::*;

use super::{PageContext, command::shell_word, live::LiveStream, page_context, snapshot::LiveData};
use crate::message::Snapshot;

/// The counter: a run of messages of its own for each visitor.
#[component]
pub fn CounterPage(
    /// The run that begins with this visit.
    snapshot: Snapshot,
) -> impl IntoView {
    let PageContext { server, base, .. } = page_context();
    let curl = format!("curl -N {}", shell_word(&format!("{server}/stream")));
    let address = base.address("/");
    let data = LiveData { snapshot, base, ..LiveData::default() };
    view! {
        <main class="stream">
            <header class="stream-head">
                <h1>"Counter"</h1>
                <p>"A short run of messages, live from the server, for you alone."</p>
            </header>
            <noscript>
                <p class="notice">
                    "Without JavaScript this page shows the messages there were when it was loaded. \
                     To listen live, use a terminal: "<code>{curl.clone()}</code>
                </p>
            </noscript>
            <LiveStream data address />
            <footer class="hint">
                <p>"The same stream, in a terminal: " <code>{curl}</code></p>
            </footer>
        </main>
    }
}
