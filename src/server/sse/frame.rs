//! The encoder of SSE frames (`text/event-stream`).
//!
//! The format is that of the HTML standard, section 9.2 (server-sent events). It replaces axum's
//! encoder, which drops events with empty data and panics on a line break in a field.

use std::{fmt::Write as _, time::Duration};

use crate::message::{EventId, PING, RESET, ResetReason, STALE_PING};

/// Appends an event.
///
/// CRLF, CR and LF in `data` each begin a new `data:` line, because each ends a line for a parser: so
/// no data can begin another field or event. A parser returns the data with LF for each line end, and
/// otherwise unchanged. `kind` is an event name of [`message`](crate::message).
pub(crate) fn event(buffer: &mut String, kind: &'static str, id: Option<EventId>, data: &str) {
    buffer.push_str("event: ");
    buffer.push_str(kind);
    buffer.push('\n');
    if let Some(id) = id {
        write_id(buffer, id);
    }
    let mut rest = data;
    while let Some(end) = rest.find(['\r', '\n']) {
        data_line(buffer, &rest[..end]);
        let line_end = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + line_end..];
    }
    data_line(buffer, rest);
    buffer.push('\n');
}

/// An upper bound for the bytes of an event's frame, close to its real size.
pub(crate) fn max_length(data: &str) -> usize {
    /// The field names, the event name, an id, and line ends.
    const OVERHEAD: usize = 96;
    let line_ends = data.bytes().filter(|byte| b"\r\n".contains(byte)).count();
    data.len() + line_ends * "data: \n".len() + OVERHEAD
}

/// Appends a ping with an id, which sets the reader's cursor: a connection that breaks before the next
/// message resumes at the right place. (Not a block without data, which browsers ignore: some other
/// parsers dispatch it as an empty event.)
pub(crate) fn cursor(buffer: &mut String, id: EventId) {
    event(buffer, PING, Some(id), "{}");
}

/// Appends `retry`, the pause before a browser reconnects, in milliseconds. It is the first field of the
/// event that is appended next.
pub(crate) fn retry(buffer: &mut String, pause: Duration) {
    // Writing to a String cannot fail.
    let _ = writeln!(buffer, "retry: {}", pause.as_millis());
}

/// Appends a reset. `oldest` is the id of the message that follows, if any.
pub(crate) fn reset(buffer: &mut String, reason: ResetReason, oldest: Option<EventId>) {
    let oldest = oldest.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
    let reason = reason.as_str();
    event(buffer, RESET, None, &format!(r#"{{"reason":"{reason}","oldest":{oldest}}}"#));
}

/// Appends a ping, the event that keeps an idle stream alive, and says whether the reader is `stale`.
pub(crate) fn ping(buffer: &mut String, stale: bool) {
    event(buffer, PING, None, if stale { STALE_PING } else { "{}" });
}

fn write_id(buffer: &mut String, id: EventId) {
    let _ = writeln!(buffer, "id: {id}");
}

fn data_line(buffer: &mut String, line: &str) {
    buffer.push_str("data: ");
    buffer.push_str(line);
    buffer.push('\n');
}

#[cfg(test)]
mod tests {
    use eventsource_stream::Eventsource as _;
    use futures::{StreamExt as _, executor::block_on, stream};
    use proptest::prelude::*;

    use super::*;
    use crate::message::NEW_MESSAGE;

    /// The events that a third-party parser finds in the bytes, in chunks of `size`.
    fn parse(bytes: &[u8], size: usize) -> Vec<eventsource_stream::Event> {
        let pieces =
            bytes.chunks(size).map(|piece| Ok::<_, std::convert::Infallible>(piece.to_vec()));
        let events = stream::iter(pieces).eventsource();
        block_on(events.map(|event| event.expect("a valid stream")).collect())
    }

    fn with_lf(data: &str) -> String {
        data.replace("\r\n", "\n").replace('\r', "\n")
    }

    /// Text with many parts that could break a line-based format.
    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("\r\n".to_owned()),
            Just("\r".to_owned()),
            Just("\n".to_owned()),
            Just("\0".to_owned()),
            Just("\u{feff}".to_owned()),
            Just("\u{2028}\u{85}".to_owned()),
            Just(" ".to_owned()),
            Just(":".to_owned()),
            Just("data: x".to_owned()),
            Just("id: 1-1\n\n".to_owned()),
            Just("\u{202e}".to_owned()),
            any::<String>(),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Invariant 4 of the design.
        #[test]
        fn a_parser_returns_the_same_messages(
            messages in prop::collection::vec((text(), any::<u64>(), any::<u64>()), 1..6),
            size in 1_usize..80,
        ) {
            let mut buffer = String::new();
            retry(&mut buffer, Duration::from_secs(15));
            for (data, millis, seq) in &messages {
                let id = EventId { millis: *millis, seq: *seq };
                event(&mut buffer, NEW_MESSAGE, Some(id), data);
            }
            let max: usize = messages.iter().map(|(data, ..)| max_length(data)).sum();
            prop_assert!(buffer.len() <= "retry: 15000\n".len() + max);
            let events = parse(buffer.as_bytes(), size);
            prop_assert_eq!(events.len(), messages.len());
            for (event, (data, millis, seq)) in events.iter().zip(&messages) {
                prop_assert_eq!(&event.event, NEW_MESSAGE);
                prop_assert_eq!(&event.id, &format!("{millis}-{seq}"));
                prop_assert_eq!(&event.data, &with_lf(data));
            }
        }
    }

    #[test]
    fn frames_have_the_documented_bytes() {
        let id = EventId { millis: 1_763_891_234_567, seq: 42 };
        let mut buffer = String::new();
        retry(&mut buffer, Duration::from_secs(15));
        cursor(&mut buffer, id);
        event(&mut buffer, NEW_MESSAGE, Some(id), "one\r\ntwo\rthree\n");
        event(&mut buffer, NEW_MESSAGE, Some(id), "");
        ping(&mut buffer, false);
        ping(&mut buffer, true);
        let expected = [
            "retry: 15000\n",
            "event: ping\nid: 1763891234567-42\ndata: {}\n\n",
            "event: new_message\nid: 1763891234567-42\ndata: one\ndata: two\ndata: three\ndata: \n\n",
            "event: new_message\nid: 1763891234567-42\ndata: \n\n",
            "event: ping\ndata: {}\n\n",
            "event: ping\ndata: {\"stale\":true}\n\n",
        ];
        assert_eq!(buffer, expected.concat());
    }
}
