//! What the reader is told of the connection, and can do about it.

use leptos::prelude::*;

use super::{connection::Link, content::content, subscription::Subscription, text};
use crate::feed::Feed;

/// The state of the page: in one word, for the style, and as the reader is told.
pub(super) fn state(link: Link, feed: &Feed) -> (&'static str, &'static str) {
    match link {
        Link::Ended => ("ended", "Ended"),
        Link::Reconnecting(_) => ("reconnecting", "Reconnecting"),
        Link::Offline(_) => ("offline", "Offline"),
        Link::Expired => ("expired", "Signed out"),
        _ if feed.paused() => ("paused", "Paused"),
        Link::Live => ("live", "Live"),
        Link::Connecting => ("connecting", "Connecting"),
        Link::Resting => ("resting", "Resting while hidden"),
    }
}

fn detail(link: Link, feed: &Feed) -> String {
    match link {
        Link::Reconnecting(seconds) if seconds > 0 => format!("in {seconds} s"),
        Link::Offline(seconds) if seconds > 0 => format!("retry in {seconds} s"),
        _ if feed.paused() => format!("{} waiting", feed.waiting()),
        _ => String::new(),
    }
}

/// The status line: a word that is read out when it changes, details that change too often for
/// that, and the buttons that fit the moment.
#[component]
pub fn Status(
    /// Where the connection stands.
    subscription: Subscription,
    /// What the page knows.
    feed: RwSignal<Feed>,
    /// Whether a stream that has ended can be watched again from its beginning.
    again: bool,
) -> impl IntoView {
    let link = move || subscription.link();
    let nothing_to_do = Signal::derive(move || {
        let over = link() == Link::Expired || link() == Link::Ended && !again;
        over && !feed.read().paused()
    });
    // One button for all three, so that what changes never takes the keyboard's focus with it.
    let label = content(move || {
        let label = match link() {
            _ if feed.read().paused() => "Resume",
            Link::Ended => "Watch again",
            _ => "Pause",
        };
        label.to_owned()
    });
    let act = move |_| {
        let watch_again = subscription.ended() && !feed.read_untracked().paused();
        if watch_again {
            feed.update(Feed::restart);
            subscription.begin();
        } else {
            feed.update(|feed| feed.pause(!feed.paused()));
        }
    };

    view! {
        <div class="status">
            <p
                class="state"
                role="status"
                data-beat=text(move || subscription.beats().to_string())
                inner_html=content(move || state(link(), &feed.read()).1.to_owned())
            ></p>
            <span class="detail" inner_html=content(move || detail(link(), &feed.read()))></span>
            <button type="button" class="retry" on:click=move |_| subscription.retry_now()>
                "Retry now"
            </button>
            <button
                type="button"
                hidden=nothing_to_do
                on:click=act
                inner_html=label
            ></button>
        </div>
    }
}
