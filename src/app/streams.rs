//! The page of all streams.

use leptos::{either::Either, prelude::*};
use leptos_meta::{Meta, Title};

use super::{
    Page, Visit,
    command::Command,
    page,
    refused::RefusedPage,
    time::{datetime, day, day_in_words, time_of_day},
};
use crate::message::{Message, Summary};

/// The page at `/streams`.
#[component]
pub fn StreamsPage() -> impl IntoView {
    page(|Visit { host, page }| match page {
        Page::Streams(streams) => Either::Left(view! { <Streams host streams /> }),
        page => Either::Right(view! { <RefusedPage page /> }),
    })
}

#[component]
fn Streams(
    /// The server's name and port.
    host: String,
    /// The streams there are.
    streams: Vec<Summary>,
) -> impl IntoView {
    let command = format!("curl -d 'Hello' {host}/streams/my-stream");
    let introduction = if streams.is_empty() {
        "There are none yet. The first message makes one; from a terminal:"
    } else {
        "What is being said on this server, newest first. The first message makes a stream; from a \
         terminal:"
    };
    let times = (!streams.is_empty()).then(|| view! { <p class="hint">"Times are in UTC."</p> });
    view! {
        <Title text="Streams · Tidings" />
        <Meta name="description" content="The streams there are, newest activity first." />
        <main class="listing">
            <h1>"Streams"</h1>
            <p>{introduction}</p>
            <Command label="Make a stream" line=command />
            <ul>{streams.iter().map(summary_view).collect_view()}</ul>
            {times}
        </main>
    }
}

fn summary_view(summary: &Summary) -> impl IntoView + use<> {
    let Summary { name, messages, watchers, ended, last } = summary;
    let state = if *ended { "ended" } else { "open" };
    let state_in_words = if *ended { "Ended" } else { "Open" };
    let plural = if *messages == 1 { "" } else { "s" };
    view! {
        <li data-state=state>
            <h2>
                <a href=format!("/streams/{name}")>{name.to_string()}</a>
            </h2>
            <p class="facts">
                <span>{state_in_words}</span>
                <span>{format!("{messages} message{plural}")}</span>
                <span>{format!("{watchers} watching")}</span>
            </p>
            {last.as_ref().map(last_view)}
        </li>
    }
}

fn last_view(last: &Message) -> impl IntoView + use<> {
    let millis = last.id.millis;
    let when = format!("{}, {}", day_in_words(day(millis)), &time_of_day(millis)[..5]);
    view! {
        <p class="last">
            <span dir="auto">{last.data.clone()}</span>
            <time datetime=datetime(millis)>{when}</time>
        </p>
    }
}
