//! The log of a page: its newest rows, newest at the bottom.

use leptos::{html, prelude::*};

use super::{
    subscription::Subscription,
    text,
    time::{datetime, in_readers_zone, time_of_day},
};
use crate::{
    feed::{Content, Feed, Row},
    message::EventId,
};

/// The log.
///
/// It follows what arrives while the reader is at the bottom. Once the reader scrolls up the rows
/// stay as they are, whatever the rate, and a button tells how many messages wait. The browser
/// does the following: the box is filled from the bottom (`column-reverse`), where its scroll
/// position is 0, and above which it is negative. The first pixel counts: a row that came while the
/// browser still moves would stop it.
#[component]
pub fn Rows(
    /// What brings the rows, and tells whether the page has come to life.
    subscription: Subscription,
    /// What the page knows.
    feed: RwSignal<Feed>,
    /// The pace of the stream, as in its snapshot.
    pace: u64,
) -> impl IntoView {
    let log = NodeRef::<html::Div>::new();
    let scrolled = move |_| {
        let away = log.get_untracked().is_some_and(|log| log.scroll_top() < 0);
        if away != feed.read_untracked().scrolled_away() {
            feed.update(|feed| feed.scroll_away(away));
        }
    };
    let to_newest = move |_| {
        if let Some(log) = log.get_untracked() {
            log.set_scroll_top(0);
            let _ = log.focus();
        }
    };
    let nothing_new = Signal::derive(move || {
        let feed = feed.read();
        feed.paused() || !feed.scrolled_away() || feed.waiting() == 0
    });
    let rows = move || feed.read().rows().cloned().collect::<Vec<_>>();
    let zone = move || if subscription.hydrated() { "times are local" } else { "times in UTC" };

    view! {
        <div class="log-frame">
            <div class="log" role="log" aria-label="Messages" tabindex="0" node_ref=log on:scroll=scrolled>
                <ol>
                    <For each=rows key=|row| row.key let:row>
                        {row_view(&row, pace, subscription)}
                    </For>
                </ol>
            </div>
            <button type="button" class="newest" on:click=to_newest hidden=nothing_new>
                {text(move || messages(feed.read().waiting(), "new "))}
            </button>
        </div>
        <p class="log-foot">
            <span>{text(move || messages(feed.read().count(), ""))}</span>
            <span>{text(move || zone().to_owned())}</span>
        </p>
    }
}

fn messages(count: u64, which: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {which}message{plural}")
}

/// When a message was said.
fn said_at(id: EventId, pace: u64) -> u64 {
    id.millis.saturating_add(pace.saturating_mul(id.seq.saturating_sub(1)))
}

fn row_view(row: &Row, pace: u64, subscription: Subscription) -> impl IntoView + use<> {
    let class = match row.content {
        Content::Message(_) => "message",
        Content::End(_) => "end",
        Content::Lost => "lost",
    };
    let message = row.content.message();
    let millis = message.map(|message| said_at(message.id, pace));
    // UTC until the page has come to life, so that both sides render the same; then the reader's.
    let local = move |at| if subscription.hydrated() { in_readers_zone(at) } else { at };
    let text = message.map_or_else(
        || "Messages were lost before this point.".to_owned(),
        |message| message.data.clone(),
    );
    view! {
        <li class=class>
            <time datetime=millis.map(datetime)>{move || millis.map(|at| time_of_day(local(at)))}</time>
            <p dir="auto">{text}</p>
        </li>
    }
}
