//! The bounded buffer of messages behind a page.
//!
//! A [`Feed`] is plain data: the page's subscription applies events to it, the page shows it. It
//! keeps at most [`MAX_ROWS`] rows at any rate, so that a tab may stay open for a year. It is of one
//! stream, or of several that are shown together, in the order in which their messages arrive.

use std::{collections::VecDeque, mem, sync::Arc};

use crate::message::{EventId, Message, ResetReason, Snapshot, SnapshotMessage, name_in_address};

/// The most rows a page keeps; the oldest are evicted.
pub const MAX_ROWS: usize = 500;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// The last message, which ends the stream.
    End(Message),
    /// The cursor is not in the log: all messages of the log follow.
    Reset(ResetReason),
}

/// One row of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique among the rows of a feed. Not the message's id: after a reset the log may send messages
    /// again that are still shown.
    pub key: u64,
    /// The index of its stream; 0 where there is only one.
    pub stream: usize,
    /// What the row shows.
    pub content: RowContent,
}

/// What a row shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowContent {
    /// A message.
    Message(Arc<Message>),
    /// The closing text.
    End(Arc<Message>),
    /// Messages were lost before this point.
    Lost,
    /// The stream was deleted.
    Deleted,
}

impl RowContent {
    /// The message or closing text in it, if there is one.
    pub fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Message(message) | Self::End(message) => Some(message),
            Self::Lost | Self::Deleted => None,
        }
    }
}

/// The rows of a page, the cursors of its subscription, and the rows that wait to be shown.
///
/// While the reader has paused the page or has scrolled away from the newest row, the rows that are
/// shown do not change: new rows wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The rows that are shown, at most [`MAX_ROWS`].
    rows: VecDeque<Row>,
    /// The rows that arrived and are not shown yet, at most [`MAX_ROWS`].
    waiting: VecDeque<Row>,
    paused: bool,
    scrolled_away: bool,
    /// Whether the log holds messages before the first row.
    older: bool,
    /// The address of the page of each stream; none of the counter.
    pages: Arc<Vec<String>>,
    /// The streams: one, or several that are shown together.
    streams: Vec<StreamState>,
    /// The key of the next row.
    next_key: u64,
}

/// What a feed knows of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StreamState {
    cursor: Option<EventId>,
    /// The messages since the feed began, those of the snapshot included.
    count: u64,
    /// The messages that arrived and are not shown yet, evicted ones included.
    waiting: u64,
    ended: bool,
}

impl Default for Feed {
    /// The empty feed of one stream.
    fn default() -> Self {
        Self::new(Snapshot::default())
    }
}

impl Feed {
    /// The feed of a page rendered with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        let mut streams = vec![StreamState { cursor: snapshot.cursor, ..StreamState::default() }];
        while streams.len() < snapshot.pages.len() {
            streams.push(StreamState::default());
        }
        let mut feed = Self {
            rows: VecDeque::new(),
            waiting: VecDeque::new(),
            paused: false,
            scrolled_away: false,
            older: snapshot.older,
            pages: Arc::new(snapshot.pages),
            streams,
            next_key: 0,
        };
        for SnapshotMessage { message, stream, end } in snapshot.messages {
            feed.apply_to(stream, if end { Event::End(message) } else { Event::Message(message) });
        }
        feed
    }

    /// Applies an event of the only stream: see [`Feed::apply_to`].
    pub fn apply(&mut self, event: Event) {
        self.apply_to(0, event);
    }

    /// Applies an event of the stream with this index. Idempotent: a message with an id at or before the
    /// cursor is ignored, because a stream that is resumed may repeat messages.
    pub fn apply_to(&mut self, index: usize, event: Event) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let cursor = stream.cursor;
        let is_new = |id: EventId| cursor.is_none_or(|cursor| id.seq > cursor.seq);
        let content = match event {
            Event::Message(message) if is_new(message.id) => {
                stream.cursor = Some(message.id);
                stream.count += 1;
                RowContent::Message(Arc::new(message))
            }
            Event::End(message) if is_new(message.id) => {
                stream.cursor = Some(message.id);
                stream.ended = true;
                RowContent::End(Arc::new(message))
            }
            Event::Message(_) | Event::End(_) => return,
            Event::Reset(ResetReason::Deleted) => {
                *stream = StreamState::default();
                return self.show_deletion(index);
            }
            Event::Reset(_) => {
                // Another log of the same name follows, which may be open again.
                (stream.cursor, stream.ended) = (None, false);
                RowContent::Lost
            }
        };
        if self.paused || self.scrolled_away {
            stream.waiting += u64::from(matches!(content, RowContent::Message(_)));
            let row = self.row(index, content);
            push_bounded(&mut self.waiting, row);
        } else {
            let row = self.row(index, content);
            self.show(row);
        }
    }

    fn row(&mut self, stream: usize, content: RowContent) -> Row {
        self.next_key += 1;
        Row { key: self.next_key, stream, content }
    }

    /// Removes all rows of a stream, also from a paused page, and shows that it was deleted.
    fn show_deletion(&mut self, index: usize) {
        for rows in [&mut self.rows, &mut self.waiting] {
            for row in mem::take(rows) {
                if row.stream != index {
                    push_bounded(rows, row);
                }
            }
        }
        self.older = false;
        let row = self.row(index, RowContent::Deleted);
        self.show(row);
    }

    /// Pauses or resumes the page.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.show_waiting();
    }

    /// Records whether the reader has scrolled away from the newest row.
    pub fn set_scrolled_away(&mut self, scrolled_away: bool) {
        self.scrolled_away = scrolled_away;
        self.show_waiting();
    }

    fn show_waiting(&mut self) {
        if self.paused || self.scrolled_away {
            return;
        }
        for stream in &mut self.streams {
            stream.waiting = 0;
        }
        for row in mem::take(&mut self.waiting) {
            self.show(row);
        }
    }

    fn show(&mut self, row: Row) {
        match push_bounded(&mut self.rows, row).map(|row| row.content) {
            Some(RowContent::Message(_)) => self.older = true,
            // Messages before this row belong to a log that no longer exists.
            Some(RowContent::Lost) => self.older = false,
            Some(RowContent::End(_) | RowContent::Deleted) | None => {}
        }
    }

    /// Clears the feed of one stream, which starts again. Keys stay unique.
    pub fn restart(&mut self) {
        *self = Self { next_key: self.next_key, ..Self::default() };
    }

    /// The rows to show, oldest first.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> + ExactSizeIterator {
        self.rows.iter()
    }

    /// The id of the first row, if the log holds messages before it.
    ///
    /// `None` while rows of a log that no longer exists are kept: the current log has nothing before
    /// them.
    pub fn older_before(&self) -> Option<EventId> {
        let lost = self.rows.iter().chain(&self.waiting).any(|row| row.content == RowContent::Lost);
        let first = self.rows.front()?.content.message()?;
        (self.older && !lost).then_some(first.id)
    }

    /// The number of messages that wait to be shown.
    pub fn waiting(&self) -> u64 {
        self.streams.iter().map(|stream| stream.waiting).sum()
    }

    /// Whether the reader has paused the page.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether the reader has scrolled away from the newest row.
    pub fn scrolled_away(&self) -> bool {
        self.scrolled_away
    }

    /// The number of messages since the feed began, shown or not.
    pub fn count(&self) -> u64 {
        self.streams.iter().map(|stream| stream.count).sum()
    }

    /// Moves the cursor of a single stream after an event without a row.
    pub fn advance(&mut self, id: EventId) {
        if let [stream] = &mut self.streams[..]
            && stream.cursor.is_none_or(|cursor| id.seq > cursor.seq)
        {
            stream.cursor = Some(id);
        }
    }

    /// Whether several streams are shown together.
    pub fn is_merged(&self) -> bool {
        self.streams.len() > 1
    }

    /// The address of the page of each stream; none of the counter.
    pub fn pages(&self) -> &Arc<Vec<String>> {
        &self.pages
    }

    /// The index of the stream with this name, which a single one does not have on the wire. Events of a
    /// stream that is not shown have no effect.
    pub fn index_of(&self, name: &str) -> usize {
        let mut index = 0;
        while self.is_merged()
            && self.pages.get(index).is_some_and(|page| name_in_address(page) != name)
        {
            index += 1;
        }
        index
    }

    /// The cursor that a subscription resumes from: the id of the newest message; of several streams the
    /// ids by name, without those that have none. Empty if there is none.
    pub fn cursor(&self) -> String {
        let mut cursor = String::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let Some(id) = stream.cursor else { continue };
            if !cursor.is_empty() {
                cursor.push(',');
            }
            if let Some(page) = self.pages.get(index).filter(|_| self.is_merged()) {
                cursor.push_str(name_in_address(page));
                cursor.push('=');
            }
            cursor.push_str(&id.to_string());
        }
        cursor
    }

    /// Whether all streams have ended.
    pub fn ended(&self) -> bool {
        self.streams.iter().all(|stream| stream.ended)
    }
}

/// Adds a row, and returns the row that it evicts.
fn push_bounded(rows: &mut VecDeque<Row>, row: Row) -> Option<Row> {
    let evicted = if rows.len() == MAX_ROWS { rows.pop_front() } else { None };
    rows.push_back(row);
    evicted
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
    fn messages_that_arrive_during_a_pause_wait_and_are_then_shown() {
        let mut feed = Feed::default();
        feed.apply(Event::Message(message(1)));
        feed.set_paused(true);
        (2..=4).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!((shown(&feed), feed.waiting()), (vec![1], 3));
        assert_eq!(
            feed.cursor(),
            message(4).id.to_string(),
            "a paused feed still moves its cursor"
        );
        feed.set_scrolled_away(true);
        feed.set_paused(false);
        assert_eq!(
            (shown(&feed), feed.waiting()),
            (vec![1], 3),
            "the reader is still scrolled away"
        );
        feed.set_scrolled_away(false);
        assert_eq!((shown(&feed), feed.waiting()), (vec![1, 2, 3, 4], 0));
    }

    #[test]
    fn the_rows_that_wait_are_bounded() {
        let mut feed = Feed::default();
        feed.set_paused(true);
        (1..=2_000).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.waiting(), 2_000);
        feed.set_paused(false);
        assert_eq!(shown(&feed), (1_501..=2_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_reset_is_shown_and_restarts_the_cursor() {
        let mut feed = Feed::default();
        feed.apply(Event::Message(message(7)));
        feed.apply(Event::Reset(ResetReason::UnknownCursor));
        feed.apply(Event::Message(message(1)));
        let rows: Vec<_> = feed.rows().map(|row| row.content.clone()).collect();
        let (seven, one) =
            (RowContent::Message(message(7).into()), RowContent::Message(message(1).into()));
        assert_eq!(rows, [seven, RowContent::Lost, one]);
        assert_eq!(feed.cursor(), message(1).id.to_string());
    }

    #[test]
    fn a_deleted_stream_leaves_no_messages_and_may_be_created_again() {
        let mut feed = Feed::new(Snapshot {
            messages: vec![message(7).into(), message(8).into()],
            older: true,
            ..Snapshot::default()
        });
        let keys: HashSet<_> = feed.rows().map(|row| row.key).collect();
        feed.set_paused(true);
        feed.apply(Event::Message(message(9)));
        feed.apply(Event::Reset(ResetReason::Deleted));
        let rows: Vec<_> = feed.rows().map(|row| &row.content).collect();
        assert_eq!(rows, [&RowContent::Deleted], "also during a pause");
        assert_eq!(
            (feed.waiting(), feed.count(), feed.cursor(), feed.older_before()),
            (0, 0, String::new(), None)
        );
        feed.apply(Event::Message(message(1)));
        assert_eq!(feed.waiting(), 1, "the page is still paused");
        feed.set_paused(false);
        assert_eq!((shown(&feed), feed.cursor()), (vec![1], message(1).id.to_string()));
        assert!(feed.rows().all(|row| !keys.contains(&row.key)));
    }

    #[test]
    fn older_messages_end_before_the_first_row() {
        let snapshot =
            |older| Snapshot { messages: vec![message(7).into()], older, ..Snapshot::default() };
        assert_eq!(Feed::new(snapshot(false)).older_before(), None);
        let mut feed = Feed::new(snapshot(true));
        assert_eq!(feed.older_before(), Some(message(7).id));
        feed.apply(Event::Reset(ResetReason::UnknownCursor));
        assert_eq!(feed.older_before(), None, "the log that held them no longer exists");

        let mut feed = Feed::new(snapshot(false));
        (8..=507).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.older_before(), Some(message(8).id), "an evicted message is in the log");
    }

    #[test]
    fn messages_from_before_a_loss_are_not_offered() {
        let mut feed =
            Feed::new(Snapshot { messages: vec![message(7).into()], ..Snapshot::default() });
        feed.apply(Event::Reset(ResetReason::UnknownCursor));
        (1..=499).for_each(|seq| feed.apply(Event::Message(message(seq))));
        assert_eq!(feed.older_before(), None, "the first row is the loss");
        feed.apply(Event::Message(message(500)));
        assert_eq!((shown(&feed)[0], feed.older_before()), (1, None), "the first of the new log");
        feed.apply(Event::Message(message(501)));
        assert_eq!(feed.older_before(), Some(message(2).id));
    }

    #[test]
    fn no_two_rows_share_a_key() {
        let mut feed = Feed::default();
        for _ in 0..3 {
            feed.apply(Event::Message(message(7)));
            feed.apply(Event::Reset(ResetReason::UnknownCursor));
        }
        let keys: HashSet<_> = feed.rows().map(|row| row.key).collect();
        assert_eq!(keys.len(), 6);
        feed.restart();
        feed.apply(Event::Message(message(7)));
        assert!(feed.rows().all(|row| !keys.contains(&row.key)), "a restart does not reuse keys");
    }

    #[test]
    fn a_feed_ends_once() {
        let mut feed = Feed::default();
        feed.apply(Event::End(message(3)));
        feed.apply(Event::End(message(3)));
        assert!(feed.ended());
        assert_eq!(feed.rows().count(), 1);
    }

    fn pages() -> Vec<String> {
        ["a", "b", "c"].map(|name| format!("/t/streams/{name}")).into()
    }

    /// A feed of the streams a, b and c, and what it shows: the index of the stream and the sequence.
    fn several() -> Feed {
        Feed::new(Snapshot { pages: pages(), ..Snapshot::default() })
    }

    fn shown_of_several(feed: &Feed) -> Vec<(usize, u64)> {
        let message = |row: &Row| Some((row.stream, row.content.message()?.id.seq));
        feed.rows().filter_map(message).collect()
    }

    #[test]
    fn several_streams_are_resumed_and_ended_each_by_itself() {
        let mut feed = several();
        assert_eq!(feed.cursor(), "");
        assert_eq!(["a", "b", "c", "d", ""].map(|name| feed.index_of(name)), [0, 1, 2, 3, 3]);
        for (stream, seq) in [(1, 5), (0, 3), (1, 5), (1, 6), (0, 2)] {
            feed.apply_to(stream, Event::Message(message(seq)));
        }
        assert_eq!(shown_of_several(&feed), [(1, 5), (0, 3), (1, 6)], "each has its own cursor");
        assert_eq!(feed.cursor(), "a=1763891234567-3,b=1763891234567-6");
        feed.apply_to(0, Event::Reset(ResetReason::UnknownCursor));
        assert_eq!(feed.cursor(), "b=1763891234567-6");
        for stream in 0..3 {
            assert!(!feed.ended());
            feed.apply_to(stream, Event::End(message(9)));
        }
        assert!(feed.ended());
        feed.apply_to(3, Event::Message(message(10)));
        assert_eq!(feed.count(), 3, "there is no fourth stream");
    }

    #[test]
    fn a_deleted_stream_leaves_the_rows_of_the_others() {
        let mut feed = several();
        feed.apply_to(0, Event::Message(message(1)));
        feed.apply_to(1, Event::Message(message(2)));
        feed.set_paused(true);
        feed.apply_to(0, Event::Message(message(3)));
        feed.apply_to(1, Event::Message(message(4)));
        assert_eq!((feed.count(), feed.waiting()), (4, 2));
        feed.apply_to(0, Event::Reset(ResetReason::Deleted));
        let rows: Vec<_> = feed.rows().map(|row| (row.stream, row.content.clone())).collect();
        assert_eq!(rows, [(1, RowContent::Message(message(2).into())), (0, RowContent::Deleted)]);
        assert_eq!((feed.count(), feed.waiting()), (2, 1), "the numbers are those of the others");
        feed.set_paused(false);
        assert_eq!(shown_of_several(&feed), [(1, 2), (1, 4)]);
        assert_eq!(feed.cursor(), "b=1763891234567-4");
    }

    #[test]
    fn a_snapshot_of_several_streams_has_the_cursor_of_each() {
        let message = |stream, seq, end| SnapshotMessage { message: message(seq), stream, end };
        let messages = vec![message(2, 7, false), message(0, 1, false), message(2, 8, true)];
        let feed = Feed::new(Snapshot { pages: pages(), messages, ..Snapshot::default() });
        assert_eq!(shown_of_several(&feed), [(2, 7), (0, 1), (2, 8)]);
        assert_eq!(
            (feed.cursor().as_str(), feed.ended()),
            ("a=1763891234567-1,c=1763891234567-8", false)
        );
    }

    proptest! {
        /// Invariant 3 of the design: after any cuts and repeats, the page shows every message once.
        #[test]
        fn repeats_and_pauses_lose_and_duplicate_nothing(
            steps in prop::collection::vec((0..60_u64, any::<bool>()), 1..40),
        ) {
            let mut feed = Feed::default();
            let mut newest = 0;
            for (resume_from, pause) in steps {
                feed.set_paused(pause);
                // A resumed stream may start anywhere up to the cursor, never after it.
                let from = resume_from.min(newest);
                for seq in from + 1..=from + 5 {
                    feed.apply(Event::Message(message(seq)));
                }
                newest = newest.max(from + 5);
            }
            feed.set_paused(false);
            prop_assert_eq!(shown(&feed), (1..=newest).collect::<Vec<_>>());
        }
    }
}
