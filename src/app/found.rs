//! The messages of a stream that match what a reader has typed, on a page of its own, which works without
//! JavaScript. The live page adds the hits of such pages to its own (`public/find.js`).

use leptos::prelude::*;

use super::{
    archive::log,
    find::find_address,
    page_context, stream_address,
    view::{View, view_links},
};
use crate::message::{EventId, Message, StreamName};

/// What is found in a part of a stream: the newest first, with a link to where it goes on.
#[component]
pub fn FoundPage(
    /// The stream.
    name: StreamName,
    /// What was typed.
    find: String,
    /// The messages that match, oldest first.
    messages: Vec<Message>,
    /// How many messages were examined.
    examined: usize,
    /// Where to go on with older messages.
    next: Option<EventId>,
    /// Whether this is the newest part.
    newest: bool,
    /// The view that the visitor has chosen.
    view: Option<View>,
) -> impl IntoView {
    let path = stream_address(&page_context().base, name.as_str());
    let address = find_address(&path, &find, view);
    let (hits, asked) = (messages.len(), !find.is_empty());
    let summary = asked.then(|| summary(hits, examined, newest, next.is_some()));
    let newer = (!newest).then(|| view! { <a href=address.clone()>"Newest"</a> });
    let older = next.map(|next| {
        let label = if hits == 0 { "Go on with older messages" } else { "Older" };
        view! { <a href=format!("{address}&before={next}") rel="next">{label}</a> }
    });
    let live = view.map(|view| format!("?view={}", view.as_str())).unwrap_or_default();
    let live = format!("{path}{live}");
    let live = move || view! { <a href=live.clone()>"Live"</a> };
    let heading = String::from(name);
    let again = (hits > 0).then(|| {
        let (older, newer) = (older.clone(), newer.clone());
        view! { <nav aria-label="More of the stream, again">{older} {newer} {live()}</nav> }
    });
    let log = (hits > 0).then(|| log(path, messages, None, None));
    let view_field =
        view.map(|view| view! { <input type="hidden" name="view" value=view.as_str() /> });

    view! {
        <main class="archive" data-examined=examined>
            <header class="stream-head">
                <h1>{heading}</h1>
                <p>"Find in this stream. Times are in UTC. " {view_links(&page_context().path)}</p>
            </header>
            <form class="finder" role="search">
                <label for="find">"Find"</label>
                <input
                    id="find"
                    name="find"
                    type="search"
                    value=find
                    autocomplete="off"
                    autocapitalize="none"
                    spellcheck="false"
                    aria-describedby="find-help"
                />
                {view_field}
                <button type="submit">"Find"</button>
                <p id="find-help">
                    <code>"-word"</code> " leaves messages out, " <code>"\"quotes\""</code>
                    " make a phrase."
                </p>
            </form>
            {summary.map(|summary| view! { <p>{summary}</p> })}
            <nav aria-label="More of the stream">{older} {newer} {live()}</nav>
            {log}
            {again}
        </main>
    }
}

/// What was examined, and what was found in it.
fn summary(hits: usize, examined: usize, newest: bool, more: bool) -> String {
    let messages = if newest { "newest messages" } else { "older messages" };
    let rest = if more { "" } else { " That is all there are." };
    match hits {
        0 => format!("None in the {examined} {messages} examined.{rest}"),
        _ => format!("{hits} found in the {examined} {messages} examined.{rest}"),
    }
}
