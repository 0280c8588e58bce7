//! The message page of a stream.

use leptos::prelude::*;
use leptos_meta::{Meta, Title};

use super::{
    Draft, archive::ArchivePage, command::Command, composer::EndForm, live::LiveStream, page,
    refused::RefusedPage, snapshot::Given,
};
use crate::{
    app::{Page, Visit},
    message::{Snapshot, StreamName},
};

/// What is at `/streams/{name}`: the stream as it is now, or a part of what it was.
#[component]
pub fn StreamAddress() -> impl IntoView {
    page(|Visit { host, page }| match page {
        Page::Stream { name, snapshot, watchers, draft } => {
            view! { <StreamPage host name snapshot watchers draft /> }.into_any()
        }
        Page::Archive { name, messages, at, older, newer, end } => {
            view! { <ArchivePage name messages at older newer end /> }.into_any()
        }
        page => view! { <RefusedPage page /> }.into_any(),
    })
}

/// A stream: what was said in it, live.
#[component]
fn StreamPage(
    /// The server's name and port.
    host: String,
    /// The stream.
    name: StreamName,
    /// The stream as one read found it.
    snapshot: Snapshot,
    /// How many readers were connected.
    watchers: usize,
    /// What was refused.
    draft: Option<Draft>,
) -> impl IntoView {
    let path = format!("{host}/streams/{name}");
    let publish = format!("curl -d 'Hello' {path}");
    let listen = format!("curl -N {path}/events");
    let title = format!("{name} · Tidings");
    let description = format!("The stream “{name}”, live: what is published appears here at once.");
    let given = Given { snapshot, stream: Some(name.clone()), draft };
    view! {
        <Title text=title />
        <Meta name="description" content=description />
        <main class="stream stored">
            <header class="stream-head">
                <h1>{name.to_string()}</h1>
                <p>{watching(watchers)}</p>
            </header>
            <noscript>
                <p class="notice">
                    "Without JavaScript this page shows what had been said when it was loaded. \
                     To listen live, use a terminal: "<code>{listen.clone()}</code>
                </p>
            </noscript>
            <LiveStream given />
            <p class="hint beginning">
                "The first message begins the stream. From a terminal: " <code>{publish.clone()}</code>
            </p>
            <footer class="more">
                <details>
                    <summary>"Use a terminal"</summary>
                    <p>"Publish: the body is the message."</p>
                    <Command label="Publish" line=publish />
                    <p>"Listen: the same events that this page receives."</p>
                    <Command label="Listen" line=listen />
                </details>
                <EndForm stream=name.as_str() />
                <a href="/streams">"All streams"</a>
            </footer>
        </main>
    }
}

fn watching(watchers: usize) -> String {
    match watchers {
        0 => "Nobody else was watching when this page was loaded.".to_owned(),
        1 => "One reader was watching when this page was loaded.".to_owned(),
        _ => format!("{watchers} readers were watching when this page was loaded."),
    }
}
