//! The message page of the counter.

use leptos::prelude::*;
use leptos_meta::{Meta, Title};

use super::{Visit, live::LiveStream};

/// The page at `/`.
#[component]
pub fn CounterPage() -> impl IntoView {
    // The list of routes is made without a visit; a request always has one.
    use_context::<Visit>().map(|Visit { host, snapshot }| {
        let curl = format!("curl -N {host}{}", snapshot.events);
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
                <LiveStream snapshot />
                <footer class="hint">
                    <p>"The same stream, in a terminal: " <code>{curl}</code></p>
                </footer>
            </main>
        }
    })
}
