//! The HTML of a line of a log.

use std::{fmt::Write as _, sync::Arc};

use super::{
    days::Line,
    json::push_json,
    rich::push_text,
    subscription::Subscription,
    time::{datetime, day_as_datetime, day_in_words, in_readers_zone, time_of_day},
};
use crate::{
    feed::{Row, RowContent},
    message::{EventId, name_in_address},
};

/// What the rows of a log have in common.
#[derive(Clone, Debug)]
pub struct RowContext {
    /// The address of the page of each stream, which messages have permanent links to. None for the
    /// counter, which stores nothing. Rows of several streams show the name of theirs.
    pub pages: Arc<Vec<String>>,
    /// The message to highlight.
    pub at: Option<EventId>,
}

/// The time zone that the page shows, as a function from UTC to local milliseconds: UTC before
/// hydration, so that server and browser render the same; then the reader's.
pub fn time_zone(subscription: Subscription) -> fn(u64) -> u64 {
    if subscription.hydrated() { in_readers_zone } else { utc }
}

/// The time zone of a page that is not hydrated.
pub(super) fn utc(millis: u64) -> u64 {
    millis
}

/// Appends a line as HTML: a date, or a row. The server uses it for the page, the browser for new lines.
/// The text of messages is escaped.
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
    let (class, text) = match &row.content {
        RowContent::Message(message) => ("message", message.data.as_str()),
        RowContent::End(message) => ("end", message.data.as_str()),
        RowContent::Lost => ("lost", "Messages were lost before this point."),
        RowContent::Deleted => ("lost", "The stream was deleted."),
    };
    let id = row.content.message().map(|message| message.id);
    let page = context.pages.get(row.stream);
    let named = page.filter(|_| context.pages.len() > 1);
    let _ = write!(html, r#"<li class="{class}""#);
    if named.is_some() {
        // The style sheet has a colour and a column for each.
        *html += r#" data-stream=""#;
        *html += &row.stream.to_string();
        *html += "\"";
    }
    if id.is_some() && id == context.at {
        *html += r#" id="at" aria-current="true""#;
    }
    // Without an address it is an `<a>` without `href`, which is not a link.
    *html += "><a";
    if let (Some(page), Some(id), "message") = (page, id, class) {
        let _ = write!(html, r#" href="{}""#, permalink(page, id));
    }
    *html += "><time";
    if let Some(millis) = message_time(row) {
        let time = time_of_day(local(millis));
        let _ = write!(html, r#" datetime="{}">{time}"#, datetime(millis));
    } else {
        *html += ">";
    }
    *html += "</time></a>";
    if let Some(page) = named {
        *html += r#"<a class="from" href=""#;
        *html += page;
        *html += "\">";
        *html += name_in_address(page);
        *html += "</a>";
    }
    if class != "message" || !push_json(text, html) {
        *html += r#"<p dir="auto">"#;
        push_text(text, html);
        *html += "</p>";
    }
    *html += "</li>";
}

/// The time of a row in milliseconds since the Unix epoch, if it is a message or the end.
pub(super) fn message_time(row: &Row) -> Option<u64> {
    row.content.message().map(|message| message.id.millis)
}

/// The permanent link to a message, valid while the message is kept. The browser scrolls to the fragment.
fn permalink(page: &str, id: EventId) -> String {
    format!("{page}?at={id}#at")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn html(content: RowContent, at: Option<EventId>) -> String {
        html_of(&["/streams/news"], Row { key: 0, stream: 0, content }, at)
    }

    fn html_of(pages: &[&str], row: Row, at: Option<EventId>) -> String {
        let pages = Arc::new(pages.iter().map(ToString::to_string).collect());
        let mut html = String::new();
        push_html(&mut html, &Line::Row(row), &RowContext { pages, at }, utc);
        html
    }

    fn message(data: &str) -> Arc<Message> {
        let id = EventId { millis: 1_763_891_234_567, seq: 42 };
        Arc::new(Message { id, data: data.to_owned() })
    }

    #[test]
    fn the_text_of_a_message_is_escaped() {
        let data = "</p><script>alert(1)</script> &lt;";
        let html = html(RowContent::Message(message(data)), None);
        assert_eq!(
            html,
            r#"<li class="message"><a href="/streams/news?at=1763891234567-42#at"><time datetime="2025-11-23T09:47:14.567Z">09:47:14</time></a><p dir="auto">&lt;/p>&lt;script>alert(1)&lt;/script> &amp;lt;</p></li>"#
        );
    }

    #[test]
    fn a_row_without_an_address_is_not_a_link() {
        assert!(
            html(RowContent::End(message("bye")), None).starts_with(r#"<li class="end"><a><time "#)
        );
        assert!(
            html(RowContent::Lost, None).starts_with(r#"<li class="lost"><a><time></time></a>"#)
        );
    }

    #[test]
    fn a_row_of_several_streams_names_its_own() {
        let row = |content| Row { key: 0, stream: 1, content };
        let pages = ["/t/streams/a", "/t/streams/b"];
        let html = html_of(&pages, row(RowContent::Message(message("hello"))), None);
        assert_eq!(
            html,
            r#"<li class="message" data-stream="1"><a href="/t/streams/b?at=1763891234567-42#at"><time datetime="2025-11-23T09:47:14.567Z">09:47:14</time></a><a class="from" href="/t/streams/b">b</a><p dir="auto">hello</p></li>"#
        );
        assert!(
            html_of(&pages, row(RowContent::Deleted), None).contains(r#">b</a><p dir="auto">The"#)
        );
    }

    #[test]
    fn the_highlighted_message_is_marked() {
        let message = message("this one");
        let id = message.id;
        let html = html(RowContent::Message(message), Some(id));
        assert!(html.starts_with(r#"<li class="message" id="at" aria-current="true"><a href"#));
    }
}
