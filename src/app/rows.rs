//! The log of a page: its newest rows, newest at the bottom.

use leptos::{ev::KeyboardEvent, html, prelude::*};

use super::{
    content::{Following, content},
    days::{Line, lines},
    list::List,
    older::{Older, OlderMessages},
    row::{RowContext, clock},
    subscription::Subscription,
    text,
};
use crate::feed::Feed;

/// A log with more rows is long: the style sheet then leaves out those that are out of sight. Older
/// messages, which a reader has asked for and looks at, are not counted: rows would change their height
/// under the reader's eyes.
const LONG: usize = 100;

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
    /// What the rows have in common.
    context: RowContext,
) -> impl IntoView {
    let log = NodeRef::<html::Div>::new();
    let scrolled = move |_| {
        let away = log.get_untracked().is_some_and(|log| log.scroll_top() < 0);
        if away != feed.read_untracked().scrolled_away() {
            feed.update(|feed| feed.scroll_away(away));
        }
    };
    // A key is known before the browser moves: no row that comes in between can stop it.
    let keyed = move |event: KeyboardEvent| {
        let scrolls =
            log.get_untracked().is_some_and(|log| log.scroll_height() > log.client_height());
        if scrolls && ["ArrowUp", "PageUp", "Home"].contains(&event.key().as_str()) {
            feed.update(|feed| feed.scroll_away(true));
        }
    };
    let to_newest = move |_| {
        if let Some(log) = log.get_untracked() {
            log.set_scroll_top(0);
            let _ = log.focus();
            feed.update(|feed| feed.scroll_away(false));
        }
    };
    let nothing_new = Signal::derive(move || {
        let feed = feed.read();
        feed.paused() || !feed.scrolled_away() || feed.waiting() == 0
    });
    let older = RwSignal::new(Older::default());
    let dated = context.stream.is_some();
    let lines = Signal::derive(move || {
        let feed = feed.read();
        let rows = feed.rows().cloned();
        if !dated {
            return rows.map(Line::Row).collect::<Vec<_>>();
        }
        let local = clock(subscription);
        let (_, day) = older.read().lines(&feed, local);
        lines(rows, day, local).0
    });
    // What the page's script holds the page against.
    let shown = text(move || {
        let feed = feed.read();
        (feed.rows().count() + older.read().count(&feed)).to_string()
    });
    let class = text(move || {
        let is_long = feed.read().rows().len() > LONG;
        if is_long { "log long" } else { "log" }.to_owned()
    });
    let link = context.stream.as_ref().map(|stream| {
        let (path, context) = (format!("/streams/{stream}"), context.clone());
        view! { <OlderMessages older feed subscription path context log /> }
    });
    let empty = dated.then(|| view! { <p class="empty">"Nothing has been said yet."</p> });
    let zone = move || if subscription.hydrated() { "times are local" } else { "times in UTC" };

    view! {
        <div class="log-frame">
            <div
                class=class
                role="log"
                aria-label="Messages"
                tabindex="0"
                data-rows=shown
                node_ref=log
                on:scroll=scrolled
                on:keydown=keyed
            >
                <div>
                    {link}
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
                on:click=to_newest
                hidden=nothing_new
                inner_html=content(move || messages(feed.read().waiting(), "new "))
            ></button>
        </div>
        <p class="log-foot">
            <span inner_html=content(move || messages(feed.read().count(), ""))></span>
            <span inner_html=content(move || zone().to_owned())></span>
        </p>
    }
}

fn messages(count: u64, which: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {which}message{plural}")
}
