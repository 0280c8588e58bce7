//! What a page knows of its stream.
//!
//! A [`Feed`] is plain data: the page's subscription applies events to it, the page shows it. It
//! keeps a bounded window whatever the rate, so a tab may stay open for a year.

use std::{collections::VecDeque, sync::Arc};

use crate::message::{EventId, Message, Snapshot};

/// How many rows a page keeps; older ones leave from the top.
pub const WINDOW: usize = 500;

/// One thing the stream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// The last message.
    End(Message),
    /// The cursor is not in the log: what follows is everything there is.
    Reset(Reason),
}

/// Why a cursor is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stream was deleted. What follows belongs to another stream of the same name.
    Deleted,
    /// Anything else: the messages after it were trimmed, or the log is another one.
    Lost,
}

/// One row of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What no two rows of a feed have in common. Not the message's id: after a reset the log may
    /// bring messages that are still shown.
    pub key: u64,
    /// What the row says.
    pub content: Content,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A message.
    Message(Arc<Message>),
    /// The closing text.
    End(Arc<Message>),
    /// Messages were lost before this point.
    Lost,
    /// The stream was deleted.
    Deleted,
}

impl Content {
    /// The message behind it, if there is one.
    pub fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Message(message) | Self::End(message) => Some(message),
            Self::Lost | Self::Deleted => None,
        }
    }
}

/// The rows of a page, the cursor behind them, and what waits while the reader looks elsewhere.
///
/// The rows that are shown stay as they are while the reader has paused the page or has scrolled
/// away from the newest row: what arrives then waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each may be without the others")]
pub struct Feed {
    /// What is shown, at most [`WINDOW`] rows.
    rows: VecDeque<Row>,
    /// What arrived and is not shown yet, at most [`WINDOW`] rows.
    waiting: VecDeque<Row>,
    /// How many messages wait; may exceed what is kept of them.
    waiting_count: u64,
    paused: bool,
    scrolled_away: bool,
    cursor: Option<EventId>,
    /// Whether messages came before the first row.
    older: bool,
    /// Messages since the feed began, those it was rendered with included.
    count: u64,
    ended: bool,
    /// The key of the next row.
    next_key: u64,
}

impl Feed {
    /// The feed of a page rendered with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        let mut feed = Self { older: snapshot.older, ..Self::default() };
        for message in snapshot.messages {
            feed.apply(Event::Message(message));
        }
        if let Some(end) = snapshot.end {
            feed.apply(Event::End(end));
        }
        feed
    }

    /// Takes in what the stream said. An event that is here already changes nothing: a stream that
    /// is resumed may repeat, and repeating must do no harm.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Message(message) if self.is_new(message.id) => {
                self.cursor = Some(message.id);
                self.count += 1;
                self.push(Content::Message(Arc::new(message)));
            }
            Event::End(message) if self.is_new(message.id) => {
                self.cursor = Some(message.id);
                self.ended = true;
                self.push(Content::End(Arc::new(message)));
            }
            Event::Reset(Reason::Lost) => {
                self.cursor = None;
                self.push(Content::Lost);
            }
            Event::Reset(Reason::Deleted) => self.delete(),
            Event::Message(_) | Event::End(_) => {}
        }
    }

    /// Even a paused page shows nothing of what was deleted.
    fn delete(&mut self) {
        let (paused, scrolled_away) = (self.paused, self.scrolled_away);
        self.restart();
        self.push(Content::Deleted);
        (self.paused, self.scrolled_away) = (paused, scrolled_away);
    }

    fn is_new(&self, id: EventId) -> bool {
        self.cursor.is_none_or(|cursor| id.seq > cursor.seq)
    }

    fn push(&mut self, content: Content) {
        let row = Row { key: self.next_key, content };
        self.next_key += 1;
        if self.holds() {
            self.waiting_count += u64::from(matches!(row.content, Content::Message(_)));
            push_bounded(&mut self.waiting, row);
        } else {
            self.show(row);
        }
    }

    /// Pauses the page, or lets it go on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.release();
    }

    /// Notes whether the reader has scrolled away from the newest row.
    pub fn scroll_away(&mut self, scrolled_away: bool) {
        self.scrolled_away = scrolled_away;
        self.release();
    }

    fn holds(&self) -> bool {
        self.paused || self.scrolled_away
    }

    fn release(&mut self) {
        if self.holds() {
            return;
        }
        self.waiting_count = 0;
        for row in std::mem::take(&mut self.waiting) {
            self.show(row);
        }
    }

    fn show(&mut self, row: Row) {
        match push_bounded(&mut self.rows, row).map(|row| row.content) {
            Some(Content::Message(_)) => self.older = true,
            // What is older than this is of a log that is no more.
            Some(Content::Lost) => self.older = false,
            Some(Content::End(_) | Content::Deleted) | None => {}
        }
    }

    /// Forgets everything, for a stream that begins anew.
    pub fn restart(&mut self) {
        *self = Self { next_key: self.next_key, ..Self::default() };
    }

    /// The rows to show, oldest first.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> + ExactSizeIterator {
        self.rows.iter()
    }

    /// Where messages older than the first row end, if the log holds any: the id of that row.
    ///
    /// It tells of no older messages while rows of a log that is no more are shown: whoever asks
    /// for what came before them is told nothing.
    pub fn older(&self) -> Option<EventId> {
        let lost = self.rows.iter().chain(&self.waiting).any(|row| row.content == Content::Lost);
        let first = self.rows.front()?.content.message()?;
        (self.older && !lost).then_some(first.id)
    }

    /// How many messages wait to be shown.
    pub fn waiting(&self) -> u64 {
        self.waiting_count
    }

    /// Whether the reader has paused the page.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether the reader has scrolled away from the newest row.
    pub fn scrolled_away(&self) -> bool {
        self.scrolled_away
    }

    /// How many messages came, shown or not, since the feed began.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The id of the newest message here: where a subscription goes on.
    pub fn cursor(&self) -> Option<EventId> {
        self.cursor
    }

    /// Whether the stream has said its last.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// Adds a row, and gives the one that leaves for it.
fn push_bounded(rows: &mut VecDeque<Row>, row: Row) -> Option<Row> {
    let leaves = if rows.len() == WINDOW { rows.pop_front() } else { None };
    rows.push_back(row);
    leaves
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn message(seq: u64) -> Message {
        Message { id: EventId { millis: 1_763_891_234_567, seq }, data: format!("{seq}") }
    }

    fn shown(feed: &Feed) -> Vec<u64> {
        feed.rows().filter_map(|row| row.content.message()).map(|message| message.id.seq).collect()
    }

    #[test]
    fn the_window_is_bounded_and_keeps_the_newest() {
        let mut feed = Feed::default();
        (1..=20_000).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(shown(&feed), (19_501..=20_000).collect::<Vec<_>>());
        assert_eq!(feed.count(), 20_000);
    }

    #[test]
    fn what_arrives_in_a_pause_waits_and_is_then_shown() {
        let mut feed = Feed::default();
        feed.apply(Event::Message(message(1)));
        feed.pause(true);
        (2..=4).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!((shown(&feed), feed.waiting()), (vec![1], 3));
        assert_eq!(feed.cursor(), Some(message(4).id), "a paused feed still moves its cursor");
        feed.scroll_away(true);
        feed.pause(false);
        assert_eq!((shown(&feed), feed.waiting()), (vec![1], 3), "the reader is still elsewhere");
        feed.scroll_away(false);
        assert_eq!((shown(&feed), feed.waiting()), (vec![1, 2, 3, 4], 0));
    }

    #[test]
    fn what_waits_is_bounded_too() {
        let mut feed = Feed::default();
        feed.pause(true);
        (1..=2_000).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.waiting(), 2_000);
        feed.pause(false);
        assert_eq!(shown(&feed), (1_501..=2_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_reset_is_shown_and_starts_anew() {
        let mut feed = Feed::default();
        feed.apply(Event::Message(message(7)));
        feed.apply(Event::Reset(Reason::Lost));
        feed.apply(Event::Message(message(1)));
        let rows: Vec<_> = feed.rows().map(|row| row.content.clone()).collect();
        let (seven, one) =
            (Content::Message(message(7).into()), Content::Message(message(1).into()));
        assert_eq!(rows, [seven, Content::Lost, one]);
        assert_eq!(feed.cursor(), Some(message(1).id));
    }

    #[test]
    fn a_deleted_stream_leaves_nothing_and_may_begin_again() {
        let mut feed = Feed::new(Snapshot {
            messages: vec![message(7), message(8)],
            older: true,
            ..Snapshot::default()
        });
        let keys: HashSet<_> = feed.rows().map(|row| row.key).collect();
        feed.pause(true);
        feed.apply(Event::Message(message(9)));
        feed.apply(Event::Reset(Reason::Deleted));
        let rows: Vec<_> = feed.rows().map(|row| &row.content).collect();
        assert_eq!(rows, [&Content::Deleted], "a pause does not keep it");
        assert_eq!((feed.waiting(), feed.count(), feed.cursor(), feed.older()), (0, 0, None, None));
        feed.apply(Event::Message(message(1)));
        assert_eq!(feed.waiting(), 1, "the page is paused still");
        feed.pause(false);
        assert_eq!((shown(&feed), feed.cursor()), (vec![1], Some(message(1).id)));
        assert!(feed.rows().all(|row| !keys.contains(&row.key)));
    }

    #[test]
    fn older_messages_end_where_the_rows_begin() {
        let snapshot =
            |older| Snapshot { messages: vec![message(7)], older, ..Snapshot::default() };
        assert_eq!(Feed::new(snapshot(false)).older(), None);
        let mut feed = Feed::new(snapshot(true));
        assert_eq!(feed.older(), Some(message(7).id));
        feed.apply(Event::Reset(Reason::Lost));
        assert_eq!(feed.older(), None, "the log that held them is no more");

        let mut feed = Feed::new(snapshot(false));
        (8..=507).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.older(), Some(message(8).id), "what left the window is in the log");
    }

    #[test]
    fn what_is_older_than_a_loss_is_in_no_log() {
        let mut feed = Feed::new(Snapshot { messages: vec![message(7)], ..Snapshot::default() });
        feed.apply(Event::Reset(Reason::Lost));
        (1..=499).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.older(), None, "the first row is the loss");
        feed.apply(Event::Message(message(500)));
        assert_eq!((shown(&feed)[0], feed.older()), (1, None), "the first of the new log");
        feed.apply(Event::Message(message(501)));
        assert_eq!(feed.older(), Some(message(2).id));
    }

    #[test]
    fn no_two_rows_share_a_key() {
        let mut feed = Feed::default();
        for _ in 0..3 {
            feed.apply(Event::Message(message(7)));
            feed.apply(Event::Reset(Reason::Lost));
        }
        let before: HashSet<_> = feed.rows().map(|row| row.key).collect();
        assert_eq!(before.len(), 6);
        feed.restart();
        feed.apply(Event::Message(message(7)));
        assert!(feed.rows().all(|row| !before.contains(&row.key)), "a new run has rows of its own");
    }

    #[test]
    fn a_feed_ends_once() {
        let mut feed = Feed::default();
        feed.apply(Event::End(message(3)));
        feed.apply(Event::End(message(3)));
        assert!(feed.ended());
        assert_eq!(feed.rows().count(), 1);
    }

    proptest! {
        /// Invariant 3 of the design: whatever is cut and repeated, the page shows what was said.
        #[test]
        fn repeats_and_pauses_do_no_harm(steps in prop::collection::vec((0..60_u64, any::<bool>()), 1..40)) {
            let mut feed = Feed::default();
            let mut said = 0;
            for (go_on_from, pause) in steps {
                feed.pause(pause);
                // A resumed stream may begin anywhere up to the cursor, never after it.
                let from = go_on_from.min(said);
                for seq in from + 1..=from + 5 {
                    feed.apply(Event::Message(message(seq)));
                }
                said = said.max(from + 5);
            }
            feed.pause(false);
            prop_assert_eq!(shown(&feed), (1..=said).collect::<Vec<_>>());
        }
    }
}
