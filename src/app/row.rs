//! A line of a log, as it is shown: the HTML of a row.

use std::fmt::Write as _;

use super::{
    content::escape_into,
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
pub struct RowContext {
    /// The stream whose messages have addresses; none in the counter, which stores nothing.
    pub stream: Option<StreamName>,
    /// The pace of the stream, as in its snapshot.
    pub pace: u64,
    /// The message that the page is about.
    pub at: Option<EventId>,
}

/// How a moment reads on the clock that the page shows: UTC until it has come to life, so that
/// both sides render the same; then the reader's.
pub fn clock(subscription: Subscription) -> fn(u64) -> u64 {
    if subscription.hydrated() { in_readers_zone } else { utc }
}

/// How a moment reads on the clock of a page that is not alive.
pub(super) fn utc(millis: u64) -> u64 {
    millis
}

/// Appends a line as HTML: a date, or a row. The server writes a page with it, and the browser what
/// is added; what a message says is escaped.
pub(super) fn push_html(
    html: &mut String,
    line: &Line,
    context: &RowContext,
    local: fn(u64) -> u64,
) {
    let row = match line {
        Line::Day(day) => {
            let (date, words) = (day_as_datetime(*day), day_in_words(*day));
            let _ = write!(html, r#"<li class="day"><time datetime="{date}">{words}</time></li>"#);
            return;
        }
        Line::Row(row) => row,
    };
    let (class, said) = match &row.content {
        Content::Message(message) => ("message", message.data.as_str()),
        Content::End(message) => ("end", message.data.as_str()),
        Content::Lost => ("lost", "Messages were lost before this point."),
        Content::Deleted => ("lost", "The stream was deleted."),
    };
    let id = row.content.message().map(|message| message.id);
    let _ = write!(html, r#"<li class="{class}""#);
    if id.is_some() && id == context.at {
        *html += r#" id="at" aria-current="true""#;
    }
    // A time without an address is a link that leads nowhere, which is none.
    *html += "><a";
    if let (Some(stream), Some(id), "message") = (&context.stream, id, class) {
        let _ = write!(html, r#" href="{}""#, address_of(stream, id));
    }
    *html += "><time";
    if let Some(millis) = said_at(row, context) {
        let time = time_of_day(local(millis));
        let _ = write!(html, r#" datetime="{}">{time}"#, datetime(millis));
    } else {
        *html += ">";
    }
    *html += r#"</time></a><p dir="auto">"#;
    escape_into(said, html);
    *html += "</p></li>";
}

/// When a row was said, if it is a message.
pub(super) fn said_at(row: &Row, context: &RowContext) -> Option<u64> {
    let id = row.content.message()?.id;
    Some(id.millis.saturating_add(context.pace.saturating_mul(id.seq.saturating_sub(1))))
}

/// Where a message is found for as long as it is kept. The fragment brings it into sight.
fn address_of(stream: &StreamName, id: EventId) -> String {
    format!("/streams/{stream}?at={id}#at")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::Message;

    fn html(content: Content, at: Option<EventId>) -> String {
        let stream = "news".parse().ok();
        let mut html = String::new();
        let line = Line::Row(Row { key: 0, content });
        push_html(&mut html, &line, &RowContext { stream, pace: 0, at }, utc);
        html
    }

    fn message(data: &str) -> Arc<Message> {
        let id = EventId { millis: 1_763_891_234_567, seq: 42 };
        Arc::new(Message { id, data: data.to_owned() })
    }

    #[test]
    fn what_a_message_says_is_never_markup() {
        let data = "</p><script>alert(1)</script> &lt;";
        let html = html(Content::Message(message(data)), None);
        assert_eq!(
            html,
            r#"<li class="message"><a href="/streams/news?at=1763891234567-42#at"><time datetime="2025-11-23T09:47:14.567Z">09:47:14</time></a><p dir="auto">&lt;/p>&lt;script>alert(1)&lt;/script> &amp;lt;</p></li>"#
        );
    }

    #[test]
    fn a_row_without_an_address_leads_nowhere() {
        assert!(
            html(Content::End(message("bye")), None).starts_with(r#"<li class="end"><a><time "#)
        );
        assert!(html(Content::Lost, None).starts_with(r#"<li class="lost"><a><time></time></a>"#));
    }

    #[test]
    fn the_message_that_a_page_is_about_is_marked() {
        let message = message("this one");
        let id = message.id;
        let html = html(Content::Message(message), Some(id));
        assert!(html.starts_with(r#"<li class="message" id="at" aria-current="true"><a href"#));
    }
}
