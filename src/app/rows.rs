//! The log of a live page: its rows with the newest at the bottom, and automatic scrolling.

use std::sync::Arc;

use leptos::{attr::custom::custom_attribute, ev::KeyboardEvent, html::Div, prelude::*};

use super::{
    content::{Following, content, flag, html, text},
    days::{Line, lines},
    list::List,
    older::{Older, OlderMessages},
    row::{RowContext, time_zone},
    subscription::Subscription,
    view::LogDetector,
};
use crate::feed::Feed;

/// The number of rows above which the style sheet does not render rows that are out of view. Older
/// messages are not counted: the reader is looking at them, and rows would change their height.
const LONG_LOG_ROWS: usize = 100;

/// The log.
///
/// It scrolls with new messages while the reader is at the bottom. Once the reader scrolls up, the rows
/// do not change at any rate, and a button shows the number of messages that wait. The browser keeps the
/// log at the bottom: the box is filled from the bottom (`column-reverse`), where its scroll position is
/// 0, and negative above. One pixel counts as scrolled: a row that arrives during a scroll would stop it.
#[component]
pub fn Rows(
    /// The source of the heartbeats; tells whether the page is hydrated.
    subscription: Subscription,
    /// The messages of the page.
    feed: RwSignal<Feed>,
    /// The context of the rows.
    context: RowContext,
) -> impl IntoView {
    let log = NodeRef::<Div>::new();
    let on_scroll = move |_| {
        let away = log.get_untracked().is_some_and(|log| log.scroll_top() < 0);
        if away != feed.read_untracked().scrolled_away() {
            feed.update(|feed| feed.set_scrolled_away(away));
        }
    };
    // The key event comes before the browser scrolls, so that no row in between can stop the scrolling.
    let on_keydown = move |event: KeyboardEvent| {
        let scrolls =
            log.get_untracked().is_some_and(|log| log.scroll_height() > log.client_height());
        if scrolls && ["ArrowUp", "PageUp", "Home"].contains(&event.key().as_str()) {
            feed.update(|feed| feed.set_scrolled_away(true));
        }
    };
    let to_newest = move |_| {
        if let Some(log) = log.get_untracked() {
            log.set_scroll_top(0);
            let _ = log.focus();
            feed.update(|feed| feed.set_scrolled_away(false));
        }
    };
    let nothing_new = flag(move || {
        let feed = feed.read();
        feed.paused() || !feed.scrolled_away() || feed.waiting() == 0
    });
    let older = RwSignal::new(Older::default());
    let has_dates = !context.pages.is_empty();
    let lines = Arc::new(move || {
        let feed = feed.read();
        let rows = feed.rows().cloned();
        if !has_dates {
            return rows.map(Line::Row).collect::<Vec<_>>();
        }
        let local = time_zone(subscription);
        let (_, day) = older.read().lines(&feed, local);
        lines(rows, day, local).0
    });
    // The page's script compares the number of rows in the page with this one.
    let row_count = text(move || {
        let feed = feed.read();
        (feed.rows().count() + older.read().count(&feed)).to_string()
    });
    let detector = LogDetector::default();
    let class = text(move || {
        let feed = feed.read();
        let messages = feed.rows().rev().filter_map(|row| row.content.message());
        let is_log = detector.is_log(messages.map(|message| message.data.as_str()));
        let class = match (is_log, feed.rows().len() > LONG_LOG_ROWS) {
            (false, false) => "log",
            (false, true) => "log long",
            (true, false) => "log lines",
            (true, true) => "log long lines",
        };
        class.to_owned()
    });
    // Those of several streams are on the page of each.
    let single = if let [page] = context.pages.as_slice() { Some(page.clone()) } else { None };
    let older_link = single.map(|page| {
        let context = context.clone();
        view! { <OlderMessages older feed subscription page context log /> }
    });
    let empty = has_dates.then(|| view! { <p class="empty">"There are no messages yet."</p> });
    let foot = html(move || {
        let zone = if subscription.hydrated() { "times are local" } else { "times in UTC" };
        format!("<span>{}</span><span>{zone}</span>", messages(feed.read().count(), ""))
    });

    view! {
        <div class="log-frame">
            <div
                // An attribute like others; `class=` can follow only signals.
                {..custom_attribute("class", class)}
                role="log"
                aria-label="Messages"
                tabindex="0"
                data-rows=row_count
                node_ref=log
                on:scroll:capture=on_scroll
                on:keydown:capture=on_keydown
            >
                <div>
                    {older_link}
                    <ol
                        data-beat=text(move || subscription.beats().to_string())
                        inner_html=Following(List { lines, context, subscription })
                    ></ol>
                    {empty}
                </div>
            </div>
            <button
                type="button"
                class="newest"
                on:click:capture=to_newest
                hidden=nothing_new
                inner_html=content(move || messages(feed.read().waiting(), "new "))
            ></button>
        </div>
        <p class="log-foot" inner_html=foot></p>
    }
}

fn messages(count: u64, which: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {which}message{plural}")
}
