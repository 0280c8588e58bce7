//! Older messages on pages of their own: those before one message, or around one. Plain links.

use std::sync::Arc;

use leptos::prelude::*;

use super::{
    days::lines,
    find::find_address,
    page_context,
    row::{RowContext, push_html, utc},
    stream_address,
    view::{LogDetector, View, view_links},
};
use crate::{
    feed::{Row, RowContent},
    message::{EventId, Message, StreamName},
};

/// A page of older messages of a stream. It is not live.
#[component]
pub fn ArchivePage(
    /// The stream.
    name: StreamName,
    /// The messages, oldest first.
    messages: Vec<Message>,
    /// The message to highlight.
    at: Option<EventId>,
    /// Whether there are messages before these.
    older: bool,
    /// Whether there are messages after these.
    newer: bool,
    /// The end, where these are the last messages before it.
    end: Option<Message>,
    /// The view that the visitor has chosen.
    view: Option<View>,
) -> impl IntoView {
    let path = stream_address(&page_context().base, name.as_str());
    let query = view.map(|view| format!("&view={}", view.as_str())).unwrap_or_default();
    let first = messages.first().map(|message| message.id).filter(|_| older);
    let last = messages.last().map(|message| message.id).filter(|_| newer);
    let older = first.map(|id| view! { <a href=format!("{path}?before={id}{query}")>"Older"</a> });
    // The page around the last message shows the messages that follow it.
    let newer = last.map(|id| view! { <a href=format!("{path}?at={id}{query}#at")>"Newer"</a> });

    let heading = String::from(name);
    let empty = messages.is_empty() && end.is_none();
    let empty = empty.then(|| view! { <p>"There are no messages here."</p> });
    let find = view! { <a href=find_address(&path, "", view)>"Find"</a> };
    let log = log(path.clone(), messages, end, at);
    let live = view.map(|view| format!("?view={}", view.as_str())).unwrap_or_default();
    let live = move || view! { <a href=format!("{path}{live}")>"Live"</a> };

    view! {
        <main class="archive">
            <header class="stream-head">
                <h1>{heading}</h1>
                <p>
                    "Older messages of this stream. Times are in UTC. "
                    {view_links(&page_context().path)}
                </p>
            </header>
            <nav aria-label="Older and newer messages">
                {older.clone()} {newer.clone()} {find} {live()}
            </nav>
            {empty}
            {log}
            <nav aria-label="Older and newer messages, again">{older} {newer} {live()}</nav>
        </main>
    }
}

/// Messages, and the end, where they are the last ones before it. `path` is the address of the stream.
pub(super) fn log(
    path: String,
    messages: Vec<Message>,
    end: Option<Message>,
    at: Option<EventId>,
) -> impl IntoView {
    let texts = messages.iter().rev().map(|message| message.data.as_str());
    let class = if LogDetector::default().is_log(texts) { "log lines" } else { "log" };
    let ending = end.map(|end| RowContent::End(end.into()));
    let contents =
        messages.into_iter().map(|message| RowContent::Message(message.into())).chain(ending);
    let rows = (0..).zip(contents).map(|(key, content)| Row { key, stream: 0, content });
    let context = RowContext { pages: Arc::new(vec![path]), at };
    let mut html = String::new();
    for line in &lines(rows, None, utc).0 {
        push_html(&mut html, line, &context, utc);
    }
    view! {
        <div class=class>
            <ol aria-label="Messages" inner_html=html></ol>
        </div>
    }
}
