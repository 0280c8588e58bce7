//! The pages. They are rendered on the server; only the live part is an island that the browser
//! brings to life, so that no router and no page travels in the wasm.

pub mod archive;
mod browser;
pub mod chart;
pub mod command;
pub mod composer;
pub mod connection;
mod content;
pub mod counter;
pub mod days;
mod island;
mod list;
pub mod live;
pub mod loader;
pub mod masthead;
pub mod older;
pub mod problems;
pub mod refused;
pub mod row;
pub mod rows;
pub mod sign_in;
pub mod snapshot;
pub mod status;
pub mod stream;
pub mod streams;
pub mod subscription;
pub mod time;
mod title;

use std::sync::Arc;

use leptos::prelude::*;
use leptos_meta::{MetaTags, provide_meta_context};
use leptos_router::{
    ParamSegment, SsrMode, StaticSegment,
    components::{Route, Router, Routes},
};
use serde::Serialize;

use self::{
    counter::CounterPage,
    loader::Loader,
    masthead::SiteHeader,
    problems::ProblemsPage,
    refused::{RefusedPage, SignInAddress},
    stream::StreamAddress,
    streams::StreamsPage,
};
use crate::message::{EventId, Message, Snapshot, StreamName, Summary};

/// What the server tells a page about the visit it is rendered for.
#[derive(Clone, Debug)]
pub struct PageContext {
    /// Where the server is, as the visitor wrote it: name and port, with `https://` before them
    /// where that is how to reach it. Every command begins with it.
    pub origin: String,
    /// Who is asking.
    pub visitor: Visitor,
    /// Where the built files are.
    pub assets: Assets,
    /// What the page shows.
    pub page: Page,
}

/// What a page needs beside its own text.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The style sheet.
    pub style: StyleSheet,
    /// The path of the module that loads the wasm.
    pub script: Arc<str>,
    /// The path of the wasm.
    pub wasm: Arc<str>,
}

/// How a page gets its style sheet.
#[derive(Clone, Debug)]
pub enum StyleSheet {
    /// From this path.
    Linked(Arc<str>),
    /// In the page itself.
    Inline(Arc<str>),
}

/// Who is asking for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Anyone: this server asks nobody who they are.
    Anyone,
    /// Someone who has not signed in.
    Guest,
    /// Someone with a token, by the name that it gives them.
    Named(String),
}

/// What a page shows. Its address chooses the view; all that it says comes from here.
#[derive(Clone, Debug)]
pub enum Page {
    /// The counter, as it is now.
    Counter(Snapshot),
    /// The streams there are, in the order to show them in.
    Streams {
        /// Those that the visitor may watch.
        streams: Vec<Summary>,
        /// Whether there are streams that the visitor may publish to.
        may_publish: bool,
    },
    /// A stream, as it is now.
    Stream {
        /// Its name.
        name: StreamName,
        /// The stream as one read found it.
        snapshot: Snapshot,
        /// How many readers are connected.
        watchers: usize,
        /// Whether the visitor may publish to it, and end it.
        may_publish: bool,
        /// What its composer sent without JavaScript, and was refused.
        draft: Option<Draft>,
    },
    /// A part of what a stream was.
    Archive {
        /// The stream.
        name: StreamName,
        /// The messages, oldest first.
        messages: Vec<Message>,
        /// The one that the page is about.
        at: Option<EventId>,
        /// Whether there are messages before these.
        older: bool,
        /// Whether there are messages after these.
        newer: bool,
        /// The end, where these are the last messages before it.
        end: Option<Message>,
    },
    /// The form to sign in with, at an address of its own, or in place of a page that this visitor
    /// may not see.
    SignIn {
        /// The path to go to afterwards: in place of a page, that page's.
        to: String,
        /// Why a token was refused, or why the page is not shown.
        problem: Option<String>,
    },
    /// Nothing, and why: an error page, whose status the server sets.
    Refused {
        /// What happened, in a few words.
        title: String,
        /// What it means, and what to do.
        detail: String,
    },
    /// What needs nothing from the server.
    Text,
}

/// What was written and refused.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Draft {
    /// What was written.
    pub text: String,
    /// A sentence that says why it was refused.
    pub problem: String,
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
                // Links made of numbers and addresses would change what is hydrated.
                <meta
                    name="format-detection"
                    content="telephone=no, date=no, address=no, email=no, url=no"
                />
                <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
                {page(|PageContext { assets, page, .. }| {
                    let page = match page {
                        Page::Counter(_) => Some("/".to_owned()),
                        Page::Stream { name, .. } => Some(format!("/streams/{name}")),
                        _ => None,
                    };
                    view! { <Loader assets page /> }
                })}
                <AutoReload options />
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
            <SiteHeader />
            <Routes fallback=NoPage>
                <Route path=StaticSegment("") view=CounterPage ssr=SsrMode::Async />
                <Route path=StaticSegment("streams") view=StreamsPage ssr=SsrMode::Async />
                <Route
                    path=(StaticSegment("streams"), ParamSegment("name"))
                    view=StreamAddress
                    ssr=SsrMode::Async
                />
                <Route path=StaticSegment("sign-in") view=SignInAddress ssr=SsrMode::Async />
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

/// A view of what this visit shows. A request always has one; where there is none, a list of
/// routes is being made.
fn page<View: IntoView>(view: impl FnOnce(PageContext) -> View) -> Option<View> {
    use_context::<PageContext>().map(view)
}

#[component]
fn NoPage() -> impl IntoView {
    page(|PageContext { page, .. }| view! { <RefusedPage page /> })
}
