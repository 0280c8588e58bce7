//! Older messages, brought into the log where they belong: above it.

use std::sync::Arc;

use leptos::{ev::MouseEvent, html, prelude::*};

use super::{
    browser,
    content::{Following, content},
    days::{Line, lines},
    list::List,
    row::{RowContext, clock},
    snapshot,
    subscription::Subscription,
    text,
};
use crate::{
    feed::{Content, Feed, Row},
    message::{EventId, Message},
};

/// How many messages are asked for at a time.
const PAGE: usize = 100;

/// The older messages of a log, as far as the reader has asked for them.
///
/// They belong above one row, the first that the log had when they were asked for. When that row
/// has left the window they have left it too.
#[derive(Clone, Debug, Default)]
pub struct Older {
    above: Option<EventId>,
    /// Oldest first.
    messages: Vec<Arc<Message>>,
    /// Where those that are still older end, if there are any.
    before: Option<EventId>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Resting,
    Loading,
    Failed,
}

impl Older {
    fn fits(&self, feed: &Feed) -> bool {
        self.above.is_some() && self.above == first(feed)
    }

    /// The rows to show above those of the feed. They are keyed by their place in the stream.
    fn rows(&self, feed: &Feed) -> impl Iterator<Item = Row> {
        let messages = if self.fits(feed) { self.messages.as_slice() } else { &[] };
        messages.iter().map(|message| Row {
            key: message.id.seq,
            content: Content::Message(Arc::clone(message)),
        })
    }

    /// How many rows that is.
    pub fn count(&self, feed: &Feed) -> usize {
        self.rows(feed).count()
    }

    /// Where the messages end that are older than all that is shown, if the log holds any.
    fn before(&self, feed: &Feed) -> Option<EventId> {
        if self.fits(feed) { self.before } else { feed.older() }
    }

    fn state(&self, feed: &Feed) -> State {
        if self.fits(feed) { self.state } else { State::Resting }
    }

    /// Begins to load, unless that is under way or there is nothing to load: what to ask for.
    fn load(&mut self, feed: &Feed) -> Option<EventId> {
        if self.state(feed) == State::Loading {
            return None;
        }
        let before = self.before(feed)?;
        if !self.fits(feed) {
            *self = Self { above: first(feed), before: Some(before), ..Self::default() };
        }
        self.state = State::Loading;
        Some(before)
    }

    /// Takes in what came for `before`: messages, and where still older ones end.
    fn loaded(&mut self, before: EventId, page: Option<(Vec<Message>, Option<EventId>)>) {
        if self.before != Some(before) {
            return;
        }
        let Some((messages, next)) = page else {
            self.state = State::Failed;
            return;
        };
        self.messages.splice(..0, messages.into_iter().map(Arc::new));
        self.before = next;
        self.state = State::Resting;
    }

    /// The lines above the feed's, and the last day among them.
    pub fn lines(&self, feed: &Feed, local: fn(u64) -> u64) -> (Vec<Line>, Option<u64>) {
        lines(self.rows(feed), None, local)
    }
}

fn first(feed: &Feed) -> Option<EventId> {
    feed.rows().next()?.content.message().map(|message| message.id)
}

/// The link to older messages, and those it has brought. It is a plain link to a page of them
/// until the page has come to life.
#[component]
pub fn OlderMessages(
    /// What the reader has asked for.
    older: RwSignal<Older>,
    /// What the page knows.
    feed: RwSignal<Feed>,
    /// Whether the page has come to life.
    subscription: Subscription,
    /// The address of the stream.
    path: String,
    /// What its rows have in common.
    context: RowContext,
    /// The log around it.
    log: NodeRef<html::Div>,
) -> impl IntoView {
    let before = move || older.read().before(&feed.read());
    let lines = Signal::derive(move || older.read().lines(&feed.read(), clock(subscription)).0);
    let nothing = Signal::derive(move || before().is_none());
    let href = {
        let path = path.clone();
        text(move || before().map_or_else(String::new, |before| format!("{path}?before={before}")))
    };
    let load = move |event: MouseEvent| {
        if event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key() {
            return;
        }
        event.prevent_default();
        let asked = older.try_update(|older| older.load(&feed.read_untracked())).flatten();
        let Some(before) = asked else { return };
        let link = event_target(&event);
        let url = format!("{path}/messages?before={before}&limit={PAGE}");
        browser::get(&url, move |answer| {
            let page = answer.ok().and_then(|page| snapshot::page(&page));
            let no_more = page.as_ref().is_some_and(|(_, next)| next.is_none());
            let focused = browser::has_focus(&link);
            older.update(|older| older.loaded(before, page));
            if let Some(log) = log.get_untracked().filter(|_| no_more && focused) {
                browser::focus_in_place(&log);
            }
        });
    };
    let label = content(move || {
        let label = match older.read().state(&feed.read()) {
            State::Resting => "Older messages",
            State::Loading => "Loading…",
            State::Failed => "Older messages could not be loaded. Try again",
        };
        label.to_owned()
    });

    view! {
        <p class="older">
            <a href=href hidden=nothing on:click=load inner_html=label></a>
        </p>
        // What the reader asked for need not be read out as news.
        <ol aria-live="off" inner_html=Following(List { lines, context, subscription })></ol>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{Event, Reason, WINDOW},
        message::Snapshot,
    };

    fn message(seq: u64) -> Message {
        Message { id: EventId { millis: 1_795_392_000_000 + seq, seq }, data: String::new() }
    }

    fn id(seq: u64) -> EventId {
        message(seq).id
    }

    fn page(from: u64, to: u64) -> Vec<Message> {
        (from..=to).map(message).collect()
    }

    fn feed(from: u64, to: u64) -> Feed {
        let messages = page(from, to);
        Feed::new(Snapshot { messages, older: from > 1, ..Snapshot::default() })
    }

    fn shown(older: &Older, feed: &Feed) -> Vec<u64> {
        older.rows(feed).map(|row| row.key).collect()
    }

    #[test]
    fn pages_are_put_before_one_another() {
        let feed = feed(201, 300);
        let mut older = Older::default();
        assert_eq!(older.load(&feed), Some(id(201)));
        assert_eq!(older.load(&feed), None, "one page at a time");
        older.loaded(id(201), Some((page(101, 200), Some(id(101)))));
        assert_eq!(older.load(&feed), Some(id(101)));
        older.loaded(id(101), Some((page(1, 100), None)));
        assert_eq!(shown(&older, &feed), (1..=200).collect::<Vec<_>>());
        assert_eq!((older.before(&feed), older.load(&feed)), (None, None), "that is all");
    }

    #[test]
    fn a_failure_can_be_tried_again() {
        let feed = feed(11, 20);
        let mut older = Older::default();
        let before = older.load(&feed).expect("something older");
        older.loaded(before, None);
        assert_eq!((older.state(&feed), older.before(&feed)), (State::Failed, Some(before)));
        assert_eq!(older.load(&feed), Some(before));
        older.loaded(before, Some((page(1, 10), None)));
        assert_eq!(older.state(&feed), State::Resting);
        assert_eq!(shown(&older, &feed), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn they_go_with_the_row_below_them() {
        let mut feed = feed(11, 20);
        let mut older = Older::default();
        let before = older.load(&feed).expect("something older");
        older.loaded(before, Some((page(1, 10), None)));
        let window = u64::try_from(WINDOW).expect("small");
        (21..=11 + window).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(shown(&older, &feed), [] as [u64; 0], "no gap is shown as if it were none");
        assert_eq!(older.load(&feed), Some(id(12)));
        older.loaded(before, Some((page(1, 10), None)));
        assert_eq!(shown(&older, &feed), [] as [u64; 0], "an answer to an older question");
        older.loaded(id(12), Some((page(2, 11), Some(id(2)))));
        assert_eq!(shown(&older, &feed), (2..=11).collect::<Vec<_>>());
        feed.apply(Event::Reset(Reason::Deleted));
        assert_eq!((shown(&older, &feed), older.before(&feed)), (vec![], None));
    }
}
