//! Older messages in place: loads them above the log of a live page.

use std::sync::Arc;

use leptos::{ev::MouseEvent, html, prelude::*};

use super::{
    browser,
    content::{Following, content, flag, text},
    days::{Line, lines},
    list::List,
    row::{RowContext, time_zone},
    snapshot,
    subscription::Subscription,
};
use crate::{
    feed::{Feed, Row, RowContent},
    message::{EventId, Message, SnapshotMessage},
};

/// The number of messages that are requested at a time.
const PAGE_SIZE: usize = 100;

/// The older messages of a log that the reader has loaded.
///
/// They belong directly above one row, the first row of the feed when they were requested. When that
/// row is evicted, they are too.
#[derive(Clone, Debug, Default)]
pub struct Older {
    /// The id of the row below them.
    above: Option<EventId>,
    /// Oldest first.
    messages: Vec<Arc<Message>>,
    /// The cursor of the next request, if the log holds still older messages: they end before it.
    before: Option<EventId>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Loading,
    Failed,
}

impl Older {
    /// Whether they still belong above the first row of the feed.
    fn is_current(&self, feed: &Feed) -> bool {
        self.above.is_some() && self.above == first_id(feed)
    }

    /// The rows to show above those of the feed. Their keys are the sequences of their messages.
    fn rows(&self, feed: &Feed) -> impl Iterator<Item = Row> {
        let messages = if self.is_current(feed) { self.messages.as_slice() } else { &[] };
        messages.iter().map(|message| Row {
            key: message.id.seq,
            stream: 0,
            content: RowContent::Message(Arc::clone(message)),
        })
    }

    /// The number of these rows.
    pub fn count(&self, feed: &Feed) -> usize {
        self.rows(feed).count()
    }

    /// The cursor of the next request, if the log holds messages older than all that are shown.
    fn before(&self, feed: &Feed) -> Option<EventId> {
        if self.is_current(feed) { self.before } else { feed.older_before() }
    }

    fn state(&self, feed: &Feed) -> State {
        if self.is_current(feed) { self.state } else { State::Idle }
    }

    /// Starts a request: returns its cursor, or `None` if one is under way or there is nothing to load.
    fn load(&mut self, feed: &Feed) -> Option<EventId> {
        if self.state(feed) == State::Loading {
            return None;
        }
        let before = self.before(feed)?;
        if !self.is_current(feed) {
            *self = Self { above: first_id(feed), before: Some(before), ..Self::default() };
        }
        self.state = State::Loading;
        Some(before)
    }

    /// Handles the response to the request for `before`: the messages and the next cursor, or `None` if
    /// it failed.
    fn receive(&mut self, before: EventId, page: Option<(Vec<SnapshotMessage>, Option<EventId>)>) {
        if self.before != Some(before) {
            return;
        }
        let Some((messages, next)) = page else {
            self.state = State::Failed;
            return;
        };
        self.messages.splice(..0, messages.into_iter().map(|it| Arc::new(it.message)));
        self.before = next;
        self.state = State::Idle;
    }

    /// The lines above those of the feed, and the last day among them.
    pub fn lines(&self, feed: &Feed, local: fn(u64) -> u64) -> (Vec<Line>, Option<u64>) {
        lines(self.rows(feed), None, local)
    }
}

fn first_id(feed: &Feed) -> Option<EventId> {
    feed.rows().next()?.content.message().map(|message| message.id)
}

/// The link that loads older messages, and the messages that it has loaded. Before hydration it is a
/// plain link to a page of older messages.
#[component]
pub fn OlderMessages(
    /// The messages that are loaded.
    older: RwSignal<Older>,
    /// The messages of the page.
    feed: RwSignal<Feed>,
    /// Tells whether the page is hydrated.
    subscription: Subscription,
    /// The address of the stream's page.
    page: String,
    /// The context of the rows.
    context: RowContext,
    /// The element of the log.
    log: NodeRef<html::Div>,
) -> impl IntoView {
    let before = move || older.read().before(&feed.read());
    let lines = Arc::new(move || older.read().lines(&feed.read(), time_zone(subscription)).0);
    let no_more = flag(move || before().is_none());
    let href = {
        let page = page.clone();
        text(move || before().map_or_else(String::new, |before| format!("{page}?before={before}")))
    };
    let load = move |event: MouseEvent| {
        if event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key() {
            return;
        }
        event.prevent_default();
        let request = older.try_update(|older| older.load(&feed.read_untracked())).flatten();
        let Some(before) = request else { return };
        let link = event_target(&event);
        let url = format!("{page}/messages?before={before}&limit={PAGE_SIZE}");
        browser::get(&url, move |result| {
            let page = result.ok().and_then(|page| snapshot::history_page(&page));
            let is_last = page.as_ref().is_some_and(|(_, next)| next.is_none());
            let focused = browser::has_focus(&link);
            older.update(|older| older.receive(before, page));
            if let Some(log) = log.get_untracked().filter(|_| is_last && focused) {
                browser::focus_without_scrolling(&log);
            }
        });
    };
    let label = content(move || {
        let label = match older.read().state(&feed.read()) {
            State::Idle => "Older messages",
            State::Loading => "Loading…",
            State::Failed => "Older messages could not be loaded. Try again",
        };
        label.to_owned()
    });

    view! {
        <p class="older">
            <a href=href hidden=no_more on:click:capture=load inner_html=label></a>
        </p>
        // Screen readers need not announce what the reader has requested.
        <ol aria-live="off" inner_html=Following(List { lines, context, subscription })></ol>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{Event, MAX_ROWS},
        message::{ResetReason, Snapshot},
    };

    fn message(seq: u64) -> Message {
        Message { id: EventId { millis: 1_795_392_000_000 + seq, seq }, data: String::new() }
    }

    fn id(seq: u64) -> EventId {
        message(seq).id
    }

    fn page(from: u64, to: u64) -> Vec<SnapshotMessage> {
        (from..=to).map(|seq| message(seq).into()).collect()
    }

    fn feed(from: u64, to: u64) -> Feed {
        let messages = page(from, to);
        Feed::new(Snapshot { messages, older: from > 1, ..Snapshot::default() })
    }

    fn shown(older: &Older, feed: &Feed) -> Vec<u64> {
        older.rows(feed).map(|row| row.key).collect()
    }

    #[test]
    fn each_page_is_put_above_the_last() {
        let feed = feed(201, 300);
        let mut older = Older::default();
        assert_eq!(older.load(&feed), Some(id(201)));
        assert_eq!(older.load(&feed), None, "one page at a time");
        older.receive(id(201), Some((page(101, 200), Some(id(101)))));
        assert_eq!(older.load(&feed), Some(id(101)));
        older.receive(id(101), Some((page(1, 100), None)));
        assert_eq!(shown(&older, &feed), (1..=200).collect::<Vec<_>>());
        assert_eq!((older.before(&feed), older.load(&feed)), (None, None), "that is all");
    }

    #[test]
    fn a_failed_request_can_be_repeated() {
        let feed = feed(11, 20);
        let mut older = Older::default();
        let before = older.load(&feed).expect("something older");
        older.receive(before, None);
        assert_eq!((older.state(&feed), older.before(&feed)), (State::Failed, Some(before)));
        assert_eq!(older.load(&feed), Some(before));
        older.receive(before, Some((page(1, 10), None)));
        assert_eq!(older.state(&feed), State::Idle);
        assert_eq!(shown(&older, &feed), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn older_messages_are_evicted_with_the_row_below_them() {
        let mut feed = feed(11, 20);
        let mut older = Older::default();
        let before = older.load(&feed).expect("something older");
        older.receive(before, Some((page(1, 10), None)));
        let window = u64::try_from(MAX_ROWS).expect("small");
        (21..=11 + window).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(shown(&older, &feed), [] as [u64; 0], "rows are not shown across a gap");
        assert_eq!(older.load(&feed), Some(id(12)));
        older.receive(before, Some((page(1, 10), None)));
        assert_eq!(
            shown(&older, &feed),
            [] as [u64; 0],
            "the response to an earlier request is ignored"
        );
        older.receive(id(12), Some((page(2, 11), Some(id(2)))));
        assert_eq!(shown(&older, &feed), (2..=11).collect::<Vec<_>>());
        feed.apply(Event::Reset(ResetReason::Deleted));
        assert_eq!((shown(&older, &feed), older.before(&feed)), (vec![], None));
    }
}
