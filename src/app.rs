//! The pages. They are rendered on the server; only the live part is an island that the browser
//! brings to life, so that no router and no page travels in the wasm.

pub mod chart;
pub mod connection;
pub mod counter;
pub mod live;
pub mod problems;
pub mod rows;
pub mod snapshot;
pub mod status;
pub mod subscription;
pub mod time;

use leptos::prelude::*;
use leptos_meta::{HashedStylesheet, Meta, MetaTags, Title, provide_meta_context};
use leptos_router::{
    SsrMode, StaticSegment,
    components::{Route, Router, Routes},
};

use self::{counter::CounterPage, problems::ProblemsPage};
use crate::message::Snapshot;

/// What the server tells a page about the visit it is rendered for.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The server's name and port, as the visitor wrote them.
    pub host: String,
    /// The counter, as it is now.
    pub snapshot: Snapshot,
}

/// The document around every page.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8" />
                <meta name="viewport" content="width=device-width, initial-scale=1" />
                <meta name="color-scheme" content="light dark" />
                <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
                <HashedStylesheet options=options.clone() />
                <AutoReload options=options.clone() />
                <HydrationScripts options islands=true />
                <MetaTags />
            </head>
            <body>
                <App />
            </body>
        </html>
    }
}

/// Every page: what they share, and which is where.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();

    view! {
        <Router>
            <header class="masthead">
                <a href="/" rel="home">
                    <img src="/favicon.svg" alt="" width="24" height="24" />
                    "Tidings"
                </a>
            </header>
            <Routes fallback=NotFoundPage>
                <Route path=StaticSegment("") view=CounterPage ssr=SsrMode::Async />
                <Route path=StaticSegment("problems") view=ProblemsPage ssr=SsrMode::Async />
            </Routes>
        </Router>
    }
}

/// A text that follows signals. All such texts have one type, so that the wasm holds the code that
/// changes a text once, and not once for each closure.
fn text(of: impl Fn() -> String + Send + Sync + 'static) -> Signal<String> {
    Signal::derive(of)
}

#[component]
fn NotFoundPage() -> impl IntoView {
    view! {
        <Title text="Nothing here · Tidings" />
        <Meta name="robots" content="noindex" />
        <main class="prose">
            <h1>"Nothing here"</h1>
            <p>"No page has this address. It may have been mistyped, or the page has gone."</p>
            <p>
                <a href="/">"Go to the counter"</a>
            </p>
        </main>
    }
}
