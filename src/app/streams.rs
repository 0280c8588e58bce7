//! The page of all streams.

use leptos::prelude::*;

use super::{
    PageContext, Visitor, ansi,
    command::{Command, curl, shell_word, token_hint},
    page_context,
    sign_in::sign_in_address,
    snapshot::LiveData,
    stream_address,
    stream_list::LiveList,
    time::{datetime, day, day_in_words, time_of_day},
};
use crate::{
    base_path::BasePath,
    message::{EventId, Message, Snapshot, Summary},
};

/// The streams that the visitor may watch.
#[component]
pub fn StreamsPage(
    /// The streams.
    streams: Vec<Summary>,
    /// Whether there are more than these.
    more: bool,
    /// Where the live list continues.
    cursor: EventId,
    /// Whether the visitor may create one.
    may_publish: bool,
) -> impl IntoView {
    let PageContext { base, server, visitor, .. } = page_context();
    let address = base.address("/streams");
    let sign_in_page = sign_in_address(&base, &address);
    let sign_in = (visitor == Visitor::Anonymous).then(|| {
        view! {
            <p>
                <a href=sign_in_page.clone()>"Sign in"</a>
                " to see the streams that a token is for."
            </p>
        }
    });
    let make = may_publish.then(|| {
        let line = format!(
            "{} {}",
            curl(&visitor, "-d 'Hello'"),
            shell_word(&format!("{server}/streams/my-stream"))
        );
        view! {
            <p>"The first message creates a stream. From a terminal:"</p>
            <Command label="Create a stream" line />
            {token_hint(&visitor)}
        }
    });
    let snapshot =
        Snapshot { events: address.clone(), cursor: Some(cursor), ..Snapshot::default() };
    let data = LiveData { snapshot, base: base.clone(), ..LiveData::default() };
    let (some, none) = introduction(&visitor);
    let rows = streams.len();
    let zone = (rows > 0).then(|| view! { <p class="hint zone">"Times are in UTC."</p> });
    view! {
        <main class="listing">
            <h1>"Streams"</h1>
            <p class="some" hidden={rows == 0}>{some}</p>
            <p class="none" hidden={rows > 0}>{none}</p>
            {sign_in}
            {make}
            <p class="notice signed-out">
                "Your token has expired, or you have signed out in another tab. "
                <a href=sign_in_page.clone() target="_blank">"Sign in"</a>
                " in a tab of its own and come back: this list goes on where it stopped."
            </p>
            <p class="notice stale">
                "This page is connected, but the server cannot reach its database: the list may be out \
                 of date."
            </p>
            <LiveList data address />
            <ul class="streams" data-rows=rows.to_string()>
                {streams.into_iter().map(|summary| row(&base, &summary)).collect_view()}
            </ul>
            <p class="hint most" hidden=!more>
                "The list has at most 1000 streams: those with the newest activity."
            </p>
            {zone}
            {template(&base)}
        </main>
    }
}

/// What the page says of its list, and without streams.
fn introduction(visitor: &Visitor) -> (&'static str, &'static str) {
    match visitor {
        Visitor::Unrestricted => {
            ("The streams of this server, newest activity first.", "There are none yet.")
        }
        Visitor::Anonymous => (
            "The public streams of this server, newest activity first.",
            "There is no public stream yet.",
        ),
        Visitor::SignedIn(_) => (
            "The streams that you may watch, newest activity first.",
            "There is no stream yet that you may watch.",
        ),
    }
}

/// A row. The page's script (`stream_list.js`) writes the same contents into it.
fn row(base: &BasePath, summary: &Summary) -> impl IntoView + use<> {
    let Summary { name, messages, watchers, ended, last } = summary;
    let (state, state_in_words) = if *ended { ("ended", "Ended") } else { ("open", "Open") };
    let plural = if *messages == 1 { "" } else { "s" };
    let texts = [
        state_in_words.to_owned(),
        format!("{messages} message{plural}"),
        format!("{watchers} watching"),
    ];
    let last = last.as_ref().map(|Message { id, data }| {
        let time = time_of_day(id.millis);
        let when = format!("{}, {}", day_in_words(day(id.millis)), &time[..5]);
        (ansi::strip(data), datetime(id.millis), when)
    });
    row_view(stream_address(base, name.as_str()), name.to_string(), state, texts, last)
}

/// An empty row, which the script copies for a new stream. Its address lacks the name.
fn template(base: &BasePath) -> impl IntoView + use<> {
    let row = row_view(base.address("/streams/"), String::new(), "open", Default::default(), None);
    view! { <template id="stream-row">{row}</template> }
}

/// `last` is the text of the last message, and its time for programs and for people.
fn row_view(
    page: String,
    name: String,
    state: &'static str,
    [state_in_words, messages, watchers]: [String; 3],
    last: Option<(String, String, String)>,
) -> impl IntoView {
    let (is_empty, key) = (last.is_none(), name.clone());
    let (text, datetime, when) = last.unwrap_or_default();
    view! {
        <li data-state=state data-stream=key>
            <h2>
                <a href=page>{name}</a>
            </h2>
            <p class="facts">
                <span>{state_in_words}</span>
                <span>{messages}</span>
                <span>{watchers}</span>
            </p>
            <p class="last" hidden=is_empty>
                <span dir="auto">{text}</span>
                <time datetime=datetime>{when}</time>
            </p>
        </li>
    }
}
