//! The pages. The server renders them; only the live part is an island that the browser hydrates, so
//! that neither the router nor the pages are in the wasm.

mod ansi;
pub mod archive;
mod browser;
pub mod chart;
pub mod command;
pub mod composer;
pub mod connection;
mod content;
pub mod counter;
pub mod days;
pub mod embed;
mod find;
pub mod found;
mod head;
mod island;
mod json;
pub mod layout;
mod links;
mod list;
pub mod live;
pub mod loader;
pub mod older;
pub mod problems;
pub mod refused;
mod rich;
pub mod row;
pub mod rows;
pub mod several;
pub mod sign_in;
pub mod site_header;
pub mod snapshot;
pub mod status;
pub mod stream;
pub mod stream_list;
pub mod streams;
pub mod subscription;
pub mod time;
mod title;
pub mod view;

use std::{pin::Pin, sync::Arc};

use leptos::prelude::*;
use leptos_router::{
    ParamSegment, SsrMode, StaticSegment,
    components::{Route, Router, Routes},
    hooks::{use_params_map, use_query_map},
};
use serde::Serialize;

use self::{
    archive::ArchivePage, counter::CounterPage, embed::StreamsAlone, found::FoundPage, head::head,
    layout::Layout, loader::Loader, problems::ProblemsPage, refused::RefusedPage,
    several::SeveralStreamsPage, sign_in::SignInPage, site_header::SiteHeader, stream::StreamPage,
    streams::StreamsPage, view::View,
};
use crate::{
    base_path::BasePath,
    message::{EventId, Message, Snapshot, StreamName, StreamNames, Summary},
};

/// Loads the page at an address. The server provides it as a context, so that the app need not know
/// the server.
pub type LoadPage =
    Arc<dyn Fn(Address) -> Pin<Box<dyn Future<Output = (PageContext, Page)> + Send>> + Send + Sync>;

/// The address of a page, as the router finds it. Names and ids in it may be malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `/`
    Counter,
    /// `/streams`
    Streams,
    /// `/streams/{name}`
    Stream {
        /// The name of the stream, or of several, separated by commas.
        name: String,
        /// `?before`: the messages before this id.
        before: Option<String>,
        /// `?at`: the message with this id, among its neighbours.
        at: Option<String>,
        /// `?find`: the messages that match what was typed, with `before` those before an id.
        find: Option<String>,
        /// `?view`: how to set the messages.
        view: Option<String>,
    },
    /// `/sign-in`
    SignIn {
        /// `?to`: the address to go to afterwards.
        to: Option<String>,
    },
    /// `/problems`
    Problems,
    /// None of these.
    Unknown,
}

/// What a page is rendered with, beside its content.
#[derive(Clone, Debug)]
pub struct PageContext {
    /// The path below which the server is reached. Every address begins with it.
    pub base: BasePath,
    /// The server, as the visitor wrote it: name and port, with `https://` before them where that is
    /// how to reach it, and the base path. Every command begins with it.
    pub server: String,
    /// The address of the page, with its query.
    pub path: String,
    /// The visitor.
    pub visitor: Visitor,
    /// Where the built files are.
    pub assets: Assets,
}

/// What a page needs beside its own text.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The style sheet.
    pub style: StyleSheet,
    /// The address of the module that loads the wasm.
    pub script: Arc<str>,
    /// The address of the wasm.
    pub wasm: Arc<str>,
}

/// How a page gets its style sheet.
#[derive(Clone, Debug)]
pub enum StyleSheet {
    /// From this address.
    Linked(Arc<str>),
    /// In the page itself.
    Inline(Arc<str>),
}

/// The visitor of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// The server requires no token.
    Unrestricted,
    /// The visitor has not signed in.
    Anonymous,
    /// The visitor has signed in, by the name in the token.
    SignedIn(String),
}

/// The content of a page.
#[derive(Clone, Debug)]
pub enum Page {
    /// The counter, as it is now.
    Counter(Snapshot),
    /// The streams there are, in the order to show them in.
    Streams {
        /// Those that the visitor may watch.
        streams: Vec<Summary>,
        /// Whether there are more than these.
        more: bool,
        /// Where the live list continues.
        cursor: EventId,
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
        /// The view that the visitor has chosen.
        view: Option<View>,
    },
    /// Several streams, as they are now.
    Several {
        /// Their names.
        names: StreamNames,
        /// The streams as one read of each found them.
        snapshot: Snapshot,
        /// The view that the visitor has chosen.
        view: Option<View>,
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
        /// The view that the visitor has chosen.
        view: Option<View>,
    },
    /// What a filter finds in a part of a stream.
    Found {
        /// The stream.
        name: StreamName,
        /// The filter as it was typed; without a word nothing was looked for.
        find: String,
        /// The messages that match, oldest first.
        messages: Vec<Message>,
        /// How many messages were examined.
        examined: usize,
        /// Where to go on with older messages, if there are any.
        next: Option<EventId>,
        /// Whether the part ends with the newest message.
        newest: bool,
        /// The view that the visitor has chosen.
        view: Option<View>,
    },
    /// The form to sign in with, at an address of its own, or in place of a page that this visitor
    /// may not see.
    SignIn {
        /// The address to go to afterwards: in place of a page, that page's.
        to: String,
        /// Why another page is not shown.
        notice: Option<String>,
        /// Why a token was refused.
        refused: Option<String>,
    },
    /// The problems, explained.
    Problems,
    /// Nothing, and why: an error page, whose status the server sets.
    Refused {
        /// What happened, in a few words.
        title: String,
        /// What it means, and what to do.
        detail: String,
    },
}

/// What was written and refused.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Draft {
    /// What was written.
    pub text: String,
    /// A sentence that says why it was refused.
    pub problem: String,
}

/// All pages: the router finds the address, the server loads the page, and one view renders it.
#[component]
pub fn App(
    /// For the reload under `cargo leptos watch`.
    options: LeptosOptions,
) -> impl IntoView {
    // The router may drop the owners of its routes before a page is loaded, and a context is looked up
    // from owner to owner: pages are rendered under this one.
    let owner = Owner::current().unwrap_or_default();
    let document = move |address| owner.with(|| document(options.clone(), address));
    let [counter, streams, stream, sign_in, problems, unknown] = [(); 6].map(|()| document.clone());

    view! {
        <Router>
            <Routes fallback=move || unknown(Address::Unknown)>
                <Route
                    path=StaticSegment("")
                    view=move || counter(Address::Counter)
                    ssr=SsrMode::Async
                />
                <Route
                    path=StaticSegment("streams")
                    view=move || streams(Address::Streams)
                    ssr=SsrMode::Async
                />
                <Route
                    path=(StaticSegment("streams"), ParamSegment("name"))
                    view=move || stream(requested_stream())
                    ssr=SsrMode::Async
                />
                <Route
                    path=StaticSegment("sign-in")
                    view=move || sign_in(Address::SignIn { to: parameter("to") })
                    ssr=SsrMode::Async
                />
                <Route
                    path=StaticSegment("problems")
                    view=move || problems(Address::Problems)
                    ssr=SsrMode::Async
                />
            </Routes>
        </Router>
    }
}

fn requested_stream() -> Address {
    let name = use_params_map().read_untracked().get("name").unwrap_or_default();
    Address::Stream {
        name,
        before: parameter("before"),
        at: parameter("at"),
        find: parameter("find"),
        view: parameter("view"),
    }
}

/// A parameter of the query.
fn parameter(name: &str) -> Option<String> {
    use_query_map().read_untracked().get(name)
}

/// The document of the page at an address. Empty where only a list of the routes is made.
fn document(options: LeptosOptions, address: Address) -> AnyView {
    let document = use_context::<LoadPage>().map(|load| {
        let page = load(address);
        Suspend::new(async move {
            let (context, page) = page.await;
            let (assets, base) = (context.assets.clone(), context.base.clone());
            let sign_in_to = match &page {
                Page::SignIn { to, .. } => Some(to.clone()),
                _ => None,
            };
            let layout = match &page {
                Page::Counter(_) | Page::Streams { .. } | Page::Problems => Layout::default(),
                _ => Layout::of_address(sign_in_to.as_ref().unwrap_or(&context.path)),
            };
            let list = matches!(page, Page::Streams { .. });
            provide_context(context);
            let (stream, view) = match &page {
                Page::Stream { name, view, .. }
                | Page::Archive { name, view, .. }
                | Page::Found { name, view, .. } => {
                    (Some(stream_address(&base, name.as_str())), *view)
                }
                Page::Several { names, view, .. } => {
                    (Some(stream_address(&base, &names.to_string())), *view)
                }
                _ => (None, None),
            };
            let live = match &page {
                Page::Counter(_) => Some(base.address("/")),
                Page::Streams { .. } => Some(base.address("/streams")),
                Page::Stream { .. } | Page::Several { .. } => {
                    stream.as_deref().map(|stream| layout.of(stream))
                }
                _ => None,
            };
            let has_header = match &page {
                Page::Stream { .. } | Page::Several { .. } => !layout.is_bare(),
                // In a frame the form to sign in with is alone too.
                _ => !layout.embed,
            };
            let header = has_header.then(|| view! { <SiteHeader sign_in_to /> });
            view! {
                <!DOCTYPE html>
                <html lang="en" data-view=view.map(View::as_str)>
                    <head>
                        <meta charset="utf-8" />
                        <meta name="viewport" content="width=device-width, initial-scale=1" />
                        <meta name="color-scheme" content="light dark" />
                        // Links made of numbers and addresses would change what is hydrated.
                        <meta
                            name="format-detection"
                            content="telephone=no, date=no, address=no, email=no, url=no"
                        />
                        {head(&base, &page, layout.embed)}
                        <link rel="icon" href=base.address("/favicon.svg") type="image/svg+xml" />
                        <Loader assets page=live stream list />
                        <AutoReload options />
                    </head>
                    <body>
                        {header}
                        {page_view(page, layout)}
                    </body>
                </html>
            }
        })
    });
    // One type, and not the code of a document for each route.
    document.into_any()
}

/// The page itself.
fn page_view(page: Page, layout: Layout) -> AnyView {
    match page {
        Page::Counter(snapshot) => view! { <CounterPage snapshot /> }.into_any(),
        Page::Streams { streams, more, cursor, may_publish } => {
            view! { <StreamsPage streams more cursor may_publish /> }.into_any()
        }
        Page::Stream { name, snapshot, .. } if layout.is_bare() => {
            view! { <StreamsAlone names=name.into() snapshot layout /> }.into_any()
        }
        Page::Several { names, snapshot, .. } if layout.is_bare() => {
            view! { <StreamsAlone names snapshot layout /> }.into_any()
        }
        Page::Several { names, snapshot, .. } => {
            view! { <SeveralStreamsPage names snapshot layout /> }.into_any()
        }
        Page::Stream { name, snapshot, watchers, may_publish, draft, .. } => {
            view! { <StreamPage name snapshot watchers may_publish draft /> }.into_any()
        }
        Page::Archive { name, messages, at, older, newer, end, view } => {
            view! { <ArchivePage name messages at older newer end view /> }.into_any()
        }
        Page::Found { name, find, messages, examined, next, newest, view } => {
            view! { <FoundPage name find messages examined next newest view /> }.into_any()
        }
        Page::SignIn { to, notice, refused } => {
            view! { <SignInPage to notice refused /> }.into_any()
        }
        Page::Problems => view! { <ProblemsPage /> }.into_any(),
        Page::Refused { title, detail } => view! { <RefusedPage title detail /> }.into_any(),
    }
}

/// Runs a function after hydration, and whenever signals change that it has read. All effects have one
/// type, so that the wasm holds their code once.
fn effect(run: impl FnMut() + 'static) {
    let run: Box<dyn FnMut()> = Box::new(run);
    Effect::new(run);
}

/// The address of the page of a stream; of several, if these are their names.
fn stream_address(base: &BasePath, name: &str) -> String {
    base.address(&format!("/streams/{name}"))
}

/// What this page is rendered with.
fn page_context() -> PageContext {
    expect_context()
}
