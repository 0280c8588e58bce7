//! A line of a log, as it is shown.

use leptos::prelude::*;

use super::{
    content::{Content, content},
    days::Line,
    subscription::Subscription,
    time::{datetime, day_as_datetime, day_in_words, in_readers_zone, time_of_day},
};
use crate::{
    feed,
    message::{EventId, StreamName},
};

/// What the rows of a log have in common.
#[derive(Clone, Debug)]
pub struct Style {
    /// The stream whose messages have addresses; none in the counter, which stores nothing.
    pub stream: Option<StreamName>,
    /// The pace of the stream, as in its snapshot.
    pub pace: u64,
    /// The message that the page is about.
    pub at: Option<EventId>,
}

/// How a moment reads on the clock that the page shows: UTC until it has come to life, so that
/// both sides render the same; then the reader's.
pub fn clock(subscription: Option<Subscription>) -> fn(u64) -> u64 {
    match subscription {
        Some(subscription) if subscription.hydrated() => in_readers_zone,
        _ => |millis| millis,
    }
}

/// Lines that change.
#[component]
pub fn Lines(
    /// The lines.
    lines: Signal<Vec<Line>>,
    /// What the rows have in common.
    style: Style,
    /// Whether the page has come to life.
    subscription: Subscription,
) -> impl IntoView {
    view! {
        <For each=move || lines.get() key=Line::key let:line>
            {line_view(&line, &style, Some(subscription))}
        </For>
    }
}

/// A line: a date, or a row. Both have the same elements, so that the wasm holds them once.
pub fn line_view(
    line: &Line,
    style: &Style,
    subscription: Option<Subscription>,
) -> impl IntoView + use<> {
    let row = match line {
        Line::Day(day) => {
            let words = day_in_words(*day);
            let date = Some(day_as_datetime(*day));
            return elements("day", None, date, content(move || words.clone()), None, false);
        }
        Line::Row(row) => row,
    };
    let message = row.content.message();
    let id = message.map(|message| message.id);
    let millis = id.map(|id| said_at(id, style.pace));
    let (class, said) = match &row.content {
        feed::Content::Message(message) => ("message", message.data.as_str()),
        feed::Content::End(message) => ("end", message.data.as_str()),
        feed::Content::Lost => ("lost", "Messages were lost before this point."),
        feed::Content::Deleted => ("lost", "The stream was deleted."),
    };
    let address = style.stream.as_ref().zip(id).filter(|_| class == "message");
    let address = address.map(|(stream, id)| address_of(stream, id));
    let time =
        content(move || millis.map_or_else(String::new, |at| time_of_day(clock(subscription)(at))));
    let about = id.is_some() && id == style.at;
    elements(class, address, millis.map(datetime), time, Some(said.to_owned()), about)
}

/// The elements of a line. A time without an address is a link that leads nowhere, which is none.
fn elements(
    class: &'static str,
    address: Option<String>,
    datetime: Option<String>,
    time: Content,
    said: Option<String>,
    about: bool,
) -> impl IntoView + use<> {
    let said = said.map(|said| view! { <p dir="auto">{said}</p> });
    view! {
        <li class=class id=about.then_some("at") aria-current=about.then_some("true")>
            <a href=address>
                <time datetime=datetime inner_html=time></time>
            </a>
            {said}
        </li>
    }
}

/// When a message was said.
fn said_at(id: EventId, pace: u64) -> u64 {
    id.millis.saturating_add(pace.saturating_mul(id.seq.saturating_sub(1)))
}

/// Where a message is found for as long as it is kept. The fragment brings it into sight.
fn address_of(stream: &StreamName, id: EventId) -> String {
    format!("/streams/{stream}?at={id}#at")
}
