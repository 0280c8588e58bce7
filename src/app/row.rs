//! A line of a log, as it is shown.

use leptos::{either::Either, prelude::*};

use super::{
    days::Line,
    subscription::Subscription,
    time::{datetime, day_as_datetime, day_in_words, in_readers_zone, time_of_day},
};
use crate::{
    feed::{Content, Row},
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

/// A line: a date, or a row.
pub fn line_view(
    line: &Line,
    style: &Style,
    subscription: Option<Subscription>,
) -> impl IntoView + use<> {
    match line {
        Line::Day(day) => Either::Left(view! {
            <li class="day">
                <time datetime=day_as_datetime(*day)>{day_in_words(*day)}</time>
            </li>
        }),
        Line::Row(row) => Either::Right(row_view(row, style, subscription)),
    }
}

fn row_view(row: &Row, style: &Style, subscription: Option<Subscription>) -> impl IntoView + use<> {
    let class = match row.content {
        Content::Message(_) => "message",
        Content::End(_) => "end",
        Content::Lost | Content::Deleted => "lost",
    };
    let message = row.content.message();
    let id = message.map(|message| message.id);
    let millis = id.map(|id| said_at(id, style.pace));
    let time = view! {
        <time datetime=millis
            .map(datetime)>{move || millis.map(|at| time_of_day(clock(subscription)(at)))}</time>
    };
    let is_message = matches!(row.content, Content::Message(_));
    let time = match (&style.stream, id) {
        (Some(stream), Some(id)) if is_message => {
            Either::Left(view! { <a href=address(stream, id)>{time}</a> })
        }
        _ => Either::Right(time),
    };
    let text = match &row.content {
        Content::Message(message) | Content::End(message) => message.data.clone(),
        Content::Lost => "Messages were lost before this point.".to_owned(),
        Content::Deleted => "The stream was deleted.".to_owned(),
    };
    let about = id.is_some() && id == style.at;
    view! {
        <li class=class id=about.then_some("at") aria-current=about.then_some("true")>
            {time}
            <p dir="auto">{text}</p>
        </li>
    }
}

/// When a message was said.
fn said_at(id: EventId, pace: u64) -> u64 {
    id.millis.saturating_add(pace.saturating_mul(id.seq.saturating_sub(1)))
}

/// Where a message is found for as long as it is kept. The fragment brings it into sight.
pub fn address(stream: &StreamName, id: EventId) -> String {
    format!("/streams/{stream}?at={id}#at")
}
