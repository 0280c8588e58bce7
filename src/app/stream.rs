//! The message page of a stream.

use leptos::{prelude::*, server_fn::ServerFn as _};

use super::{
    Draft, PageContext,
    command::{Command, curl, shell_word, token_hint},
    composer::{End, EndForm},
    find::find_link,
    layout::Layout,
    live::LiveStream,
    page_context,
    sign_in::sign_in_address,
    snapshot::LiveData,
    stream_address,
    view::view_links,
};
use crate::message::{Snapshot, StreamName};

/// A stream: its newest messages, then live.
#[component]
pub fn StreamPage(
    /// The stream.
    name: StreamName,
    /// The stream as one read found it.
    snapshot: Snapshot,
    /// How many readers were connected.
    watchers: usize,
    /// Whether the visitor may publish to it, and end it.
    may_publish: bool,
    /// What was refused.
    draft: Option<Draft>,
) -> impl IntoView {
    let PageContext { base, server, path, visitor, .. } = page_context();
    let url = format!("{server}/streams/{name}");
    let listen = format!("{} {}", curl(&visitor, "-N"), shell_word(&format!("{url}/events")));
    let publish = format!("{} {}", curl(&visitor, "-d 'Hello'"), shell_word(&url));
    let publish = may_publish.then_some(publish);
    let beginning = publish.clone().map(first_message_hint);
    let publish = publish.map(|line| {
        view! {
            <p>"Publish: the body is the message."</p>
            <Command label="Publish" line />
        }
    });
    let action = base.address(End::url());
    let end = may_publish.then(|| view! { <EndForm action stream=name.as_str() /> });
    let token = token_hint(&visitor);
    // A visitor who was signed out meanwhile keeps the text that was refused.
    let has_composer = may_publish || draft.is_some();
    let heading = name.to_string();
    let address = stream_address(&base, name.as_str());
    let find = find_link(&base, &address);
    let sign_in = sign_in_address(&base, &address);
    let streams = base.address("/streams");
    let notify = base.address("/notify.js");
    let wall = Layout { wall: true, ..Layout::default() }.of(&address);
    let mut snapshot = snapshot;
    snapshot.events.push_str("?watchers");
    let data = LiveData { snapshot, base, stream: has_composer.then_some(name), draft };
    view! {
        <main class="stream stored">
            <header class="stream-head">
                <h1>{heading}</h1>
                <p class="watchers">{watching(watchers)}</p>
                {find}
            </header>
            {notices(listen.clone(), sign_in)}
            <LiveStream data address />
            {beginning}
            <footer class="more">
                <details>
                    <summary>"Use a terminal"</summary>
                    {token}
                    {publish}
                    <p>"Listen: the same events that this page receives."</p>
                    <Command label="Listen" line=listen />
                </details>
                {end}
                {notify_button(notify)}
                <a href=wall>"For a wall"</a>
                {view_links(&path)}
                <a href=streams>"All streams"</a>
            </footer>
        </main>
    }
}

/// Shown where they apply: without JavaScript, signed out, out of date. `listen` is a command, `sign_in` an
/// address.
pub(super) fn notices(listen: String, sign_in: String) -> impl IntoView {
    view! {
        <noscript>
            <p class="notice">
                "Without JavaScript this page shows the messages there were when it was loaded. \
                 To listen live, use a terminal: "<code>{listen}</code>
            </p>
        </noscript>
        <p class="notice signed-out">
            "Your token has expired, or you have signed out in another tab. "
            <a href=sign_in target="_blank">"Sign in"</a>
            " in a tab of its own and come back: this page goes on where it stopped."
        </p>
        {stale()}
    }
}

/// Shown while the server cannot reach its database.
pub(super) fn stale() -> impl IntoView {
    view! {
        <p class="notice stale">
            "This page is connected, but the server cannot reach its database: new messages may be \
             missing. They appear here as soon as the server can read them."
        </p>
    }
}

/// Turns the browser's notifications on and off; the style sheet shows one of its two labels, and none of
/// it without JavaScript. `module`: the script that notifies.
fn notify_button(module: String) -> impl IntoView {
    view! {
        <span class="notifications">
            <button type="button" class="notify" data-module=module>
                <span>"Notify me of new messages"</span>
                <span>"Stop notifying me"</span>
            </button>
            <span class="notify-note" role="alert"></span>
        </span>
    }
}

/// Shown until the first message.
fn first_message_hint(publish: String) -> impl IntoView {
    view! {
        <p class="hint beginning">
            "The first message begins the stream. From a terminal: " <code>{publish}</code>
        </p>
    }
}

/// Rendered before this page is connected, and so about other readers. The page's script (`page.js`)
/// replaces it by the number now.
fn watching(watchers: usize) -> String {
    match watchers {
        0 => "No other reader was connected when this page was loaded.".to_owned(),
        1 => "One reader was connected when this page was loaded.".to_owned(),
        _ => format!("{watchers} readers were connected when this page was loaded."),
    }
}
