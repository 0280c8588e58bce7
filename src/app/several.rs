//! The message page of several streams: merged in the order in which their messages arrive, or a column
//! for each.

use leptos::prelude::*;

use super::{
    PageContext,
    command::{Command, curl, shell_word, token_hint},
    layout::Layout,
    live::LiveStream,
    page_context,
    sign_in::sign_in_address,
    snapshot::LiveData,
    stream::notices,
    stream_address,
    view::view_links,
};
use crate::{
    base_path::BasePath,
    message::{Snapshot, StreamName, StreamNames},
};

/// Several streams: their newest messages, then live.
#[component]
pub fn SeveralStreamsPage(
    /// The streams.
    names: StreamNames,
    /// The streams as one read of each found them.
    snapshot: Snapshot,
    /// How the page is laid out.
    layout: Layout,
) -> impl IntoView {
    let PageContext { base, server, path, visitor, .. } = page_context();
    let events = format!("{server}/streams/{names}/events");
    let listen = format!("{} {}", curl(&visitor, "-N"), shell_word(&events));
    let page = stream_address(&base, &names.to_string());
    let address = layout.of(&page);
    let sign_in = sign_in_address(&base, &address);
    let streams = base.address("/streams");
    let (other, other_label) = if layout.side_by_side {
        (Layout { side_by_side: false, ..layout }, "Merged")
    } else {
        (Layout { side_by_side: true, ..layout }, "Side by side")
    };
    let (other, wall) = (other.of(&page), Layout { wall: true, ..layout }.of(&page));
    let columns = layout.side_by_side.then(|| columns(&base, &names));
    let number = columns_of(layout, &names);
    let heading = name_links(&base, names);
    let token = token_hint(&visitor);
    let data = LiveData { snapshot, base, ..LiveData::default() };
    view! {
        <main class="stream stored several" data-columns=number>
            <header class="stream-head">
                <h1>{heading}</h1>
                <p>
                    "The newest messages of each stream, and then those that arrive. Older ones are on \
                     the page of each stream."
                </p>
            </header>
            {notices(listen.clone(), sign_in)}
            {columns}
            <LiveStream data address />
            <footer class="more">
                <details>
                    <summary>"Use a terminal"</summary>
                    {token}
                    <p>"Listen: the same events that this page receives."</p>
                    <Command label="Listen" line=listen />
                </details>
                <a href=other>{other_label}</a>
                <a href=wall>"For a wall"</a>
                {view_links(&path)}
                <a href=streams>"All streams"</a>
            </footer>
        </main>
    }
}

/// The number of columns of a page of several streams that are side by side.
pub(super) fn columns_of(layout: Layout, names: &StreamNames) -> Option<String> {
    let names = names.as_slice();
    (layout.side_by_side && names.len() > 1).then(|| names.len().to_string())
}

/// The head of the columns: the name of each stream.
pub(super) fn columns(base: &BasePath, names: &StreamNames) -> impl IntoView + use<> {
    // They are in the heading too, in the same order.
    let name = |(index, name): (usize, &StreamName)| {
        view! { <a href=stream_address(base, name.as_str()) data-stream=index.to_string()>{name.to_string()}</a> }
    };
    let names = names.as_slice().iter().enumerate().map(name).collect_view();
    view! { <nav class="columns" aria-label="Columns">{names}</nav> }
}

/// The names of streams, each a link to its page.
pub(super) fn name_links(base: &BasePath, names: StreamNames) -> impl IntoView + use<> {
    let link = |(index, name): (usize, StreamName)| {
        let separator = (index > 0).then_some(", ");
        view! {
            {separator}
            <a href=stream_address(base, name.as_str())>{name.to_string()}</a>
        }
    };
    names.into_iter().enumerate().map(link).collect_view()
}
