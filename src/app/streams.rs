//! The page of all streams.

use leptos::prelude::*;

use super::{
    PageContext, Visitor, ansi,
    command::{Command, curl, shell_word, token_hint},
    page_context,
    sign_in::sign_in_address,
    stream_address,
    time::{datetime, day, day_in_words, time_of_day},
};
use crate::{
    base_path::BasePath,
    message::{Message, Summary},
};

/// The streams that the visitor may watch.
#[component]
pub fn StreamsPage(
    /// The streams.
    streams: Vec<Summary>,
    /// Whether the visitor may create one.
    may_publish: bool,
) -> impl IntoView {
    let PageContext { base, server, visitor, .. } = page_context();
    let introduction = introduction(&visitor, streams.is_empty());
    let sign_in = (visitor == Visitor::Anonymous).then(|| {
        view! {
            <p>
                <a href=sign_in_address(&base, &base.address("/streams"))>"Sign in"</a>
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
    let times = (!streams.is_empty()).then(|| view! { <p class="hint">"Times are in UTC."</p> });
    view! {
        <main class="listing">
            <h1>"Streams"</h1>
            <p>{introduction}</p>
            {sign_in}
            {make}
            <ul>{streams.into_iter().map(|summary| summary_view(&base, summary)).collect_view()}</ul>
            {times}
        </main>
    }
}

fn introduction(visitor: &Visitor, none: bool) -> &'static str {
    match (visitor, none) {
        (Visitor::Unrestricted, false) => "The streams of this server, newest activity first.",
        (Visitor::Unrestricted, true) => "There are none yet.",
        (Visitor::Anonymous, false) => "The public streams of this server, newest activity first.",
        (Visitor::Anonymous, true) => "There is no public stream yet.",
        (Visitor::SignedIn(_), false) => "The streams that you may watch, newest activity first.",
        (Visitor::SignedIn(_), true) => "There is no stream yet that you may watch.",
    }
}

fn summary_view(base: &BasePath, summary: Summary) -> impl IntoView + use<> {
    let Summary { name, messages, watchers, ended, last } = summary;
    let page = stream_address(base, name.as_str());
    let state = if ended { "ended" } else { "open" };
    let state_in_words = if ended { "Ended" } else { "Open" };
    let plural = if messages == 1 { "" } else { "s" };
    view! {
        <li data-state=state>
            <h2>
                <a href=page>{name.to_string()}</a>
            </h2>
            <p class="facts">
                <span>{state_in_words}</span>
                <span>{format!("{messages} message{plural}")}</span>
                <span>{format!("{watchers} watching")}</span>
            </p>
            {last.map(last_view)}
        </li>
    }
}

fn last_view(Message { id, data }: Message) -> impl IntoView {
    let millis = id.millis;
    let when = format!("{}, {}", day_in_words(day(millis)), &time_of_day(millis)[..5]);
    view! {
        <p class="last">
            <span dir="auto">{ansi::strip(&data)}</span>
            <time datetime=datetime(millis)>{when}</time>
        </p>
    }
}
