//! The status line of a stream: connection status, pause and retry buttons.

use leptos::prelude::*;

use super::{
    connection::ConnectionStatus,
    content::{content, flag, text},
    subscription::Subscription,
};
use crate::feed::Feed;

/// The state of the page: as the `data-state` for the style sheet, and as the text for the reader.
pub(super) fn state_and_label(
    status: ConnectionStatus,
    feed: &Feed,
) -> (&'static str, &'static str) {
    match status {
        ConnectionStatus::Ended => ("ended", "Ended"),
        ConnectionStatus::Reconnecting(_) => ("reconnecting", "Reconnecting"),
        ConnectionStatus::Offline(_) => ("offline", "Offline"),
        ConnectionStatus::Expired => ("expired", "Signed out"),
        ConnectionStatus::Stale => ("stale", "May be out of date"),
        _ if feed.paused() => ("paused", "Paused"),
        ConnectionStatus::Live => ("live", "Live"),
        ConnectionStatus::Connecting => ("connecting", "Connecting"),
        ConnectionStatus::Resting => ("resting", "Disconnected while hidden"),
    }
}

fn detail(status: ConnectionStatus, feed: &Feed) -> String {
    match status {
        ConnectionStatus::Reconnecting(seconds) if seconds > 0 => format!("in {seconds} s"),
        ConnectionStatus::Offline(seconds) if seconds > 0 => format!("retry in {seconds} s"),
        _ if feed.paused() => format!("{} waiting", feed.waiting()),
        _ => String::new(),
    }
}

/// The status line: the state, which screen readers announce when it changes; details, which change
/// too often to announce; and the buttons.
#[component]
pub fn Status(
    /// The source of the connection status.
    subscription: Subscription,
    /// The messages of the page.
    feed: RwSignal<Feed>,
    /// Whether the reader can pause the page.
    pausable: bool,
    /// Whether a stream that has ended can be watched again from its start.
    restartable: bool,
) -> impl IntoView {
    let status = move || subscription.status();
    let no_action = flag(move || {
        let closed = status() == ConnectionStatus::Expired
            || status() == ConnectionStatus::Ended && !restartable;
        !pausable || closed && !feed.read().paused()
    });
    // One button for all three actions, so that a change does not lose the keyboard's focus.
    let label = content(move || {
        let label = match status() {
            _ if feed.read().paused() => "Resume",
            ConnectionStatus::Ended => "Watch again",
            _ => "Pause",
        };
        label.to_owned()
    });
    let on_click = move |_| {
        let watch_again = subscription.ended() && !feed.read_untracked().paused();
        if watch_again {
            feed.update(Feed::restart);
            subscription.begin();
        } else {
            feed.update(|feed| feed.set_paused(!feed.paused()));
        }
    };

    view! {
        <div class="status">
            <p
                class="state"
                role="status"
                data-beat=text(move || subscription.beats().to_string())
                inner_html=content(move || state_and_label(status(), &feed.read()).1.to_owned())
            ></p>
            <span class="detail" inner_html=content(move || detail(status(), &feed.read()))></span>
            <button type="button" class="retry" on:click:capture=move |_| subscription.retry_now()>
                "Retry now"
            </button>
            <button
                type="button"
                hidden=no_action
                on:click:capture=on_click
                inner_html=label
            ></button>
        </div>
    }
}
