//! The encoder of SSE frames (`text/event-stream`).
//!
//! The format is that of the HTML standard, section 9.2 (server-sent events). It replaces axum's
//! encoder, which drops events with empty data and panics on a line break in a field.

use std::{fmt::Write as _, time::Duration};

use crate::message::{EventId, PING, RESET, ResetReason, STALE_PING, StreamName};

/// Appends an event.
///
/// CRLF, CR and LF in `data` each begin a new `data:` line, because each ends a line for a parser: so
/// no data can begin another field or event. A parser returns the data with LF for each line end, and
/// otherwise unchanged. `kind` is an event name of [`message`](crate::message).
pub(crate) fn event(buffer: &mut String, kind: &'static str, id: Option<EventId>, data: &str) {
    head(buffer, kind, id);
    encode_data(buffer, data);
}

/// Appends an event whose data many readers share, already encoded by [`encode_data`]. Only the id is a
/// reader's own.
pub(crate) fn shared(
    buffer: &mut String,
    kind: &'static str,
    id: Option<EventId>,
    encoded_data: &str,
) {
    head(buffer, kind, id);
    buffer.push_str(encoded_data);
}

fn head(buffer: &mut String, kind: &'static str, id: Option<EventId>) {
    buffer.push_str("event: ");
    buffer.push_str(kind);
    buffer.push('\n');
    if let Some(id) = id {
        write_id(buffer, id);
    }
}

/// Appends data as the last fields of an event, and its end.
pub(crate) fn encode_data(buffer: &mut String, data: &str) {
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

/// An encoded frame, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The event name.
    pub(crate) kind: &'a str,
    /// The id; empty if it has none.
    pub(crate) id: &'a str,
    /// The data lines, and the empty line that ends the frame.
    pub(crate) data: &'a str,
}

/// Splits the first frame off frames that [`event`] has encoded; returns it and the others. The data of a
/// message cannot end it, because each of its lines begins with a field name.
pub(crate) fn split_first(frames: &str) -> Option<(Frame<'_>, &str)> {
    let (kind, rest) = frames.strip_prefix("event: ")?.split_once('\n')?;
    let (id, rest) = match rest.strip_prefix("id: ") {
        Some(rest) => rest.split_once('\n')?,
        None => ("", rest),
    };
    let mut end = 0;
    while !rest[end..].starts_with('\n') {
        end += rest[end..].find('\n')? + 1;
    }
    let (data, rest) = rest.split_at(end + 1);
    Some((Frame { kind, id, data }, rest))
}

/// Appends the fields before the data of a frame of several streams. Its id lists the cursor of each, the
/// one of its own stream first.
pub(crate) fn head_of_several<'a>(
    buffer: &mut String,
    kind: &str,
    cursors: impl Iterator<Item = (&'a StreamName, EventId)>,
) {
    buffer.push_str("event: ");
    buffer.push_str(kind);
    let mut before = "\nid: ";
    for (stream, id) in cursors {
        let _ = write!(buffer, "{before}{stream}={id}");
        before = ",";
    }
    buffer.push('\n');
}

/// Appends an encoded reset of one of several streams, with the stream's name.
pub(crate) fn reset_of_several(buffer: &mut String, stream: &StreamName, reset: &[u8]) {
    let reset = str::from_utf8(reset).unwrap_or_default();
    let Some((head, members)) = reset.split_once('{') else { return };
    let _ = write!(buffer, "{head}{{\"stream\":\"{stream}\",{members}");
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

        #[test]
        fn frames_are_split_where_they_end(
            messages in prop::collection::vec((text(), any::<Option<u64>>()), 0..6),
        ) {
            let (mut buffer, mut ends) = (String::new(), Vec::new());
            for (data, seq) in &messages {
                let id = seq.map(|seq| EventId { millis: 1, seq });
                event(&mut buffer, NEW_MESSAGE, id, data);
                ends.push(buffer.len());
            }
            let mut frames = buffer.as_str();
            for ((_, seq), end) in messages.iter().zip(ends) {
                let (frame, rest) = split_first(frames).expect("a frame");
                prop_assert_eq!(rest, &buffer[end..]);
                prop_assert_eq!(frame.kind, NEW_MESSAGE);
                prop_assert_eq!(frame.id, seq.map_or(String::new(), |seq| format!("1-{seq}")));
                prop_assert!(buffer[..end].ends_with(frame.data));
                frames = rest;
            }
            prop_assert_eq!(split_first(frames), None);
        }
    }

    #[test]
    fn frames_of_several_streams_have_the_documented_bytes() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<StreamName>().expect("a name"));
        let id = |seq| EventId { millis: 1_763_891_234_567, seq };
        let mut one = String::new();
        event(&mut one, NEW_MESSAGE, Some(id(42)), "x\ny");
        let (frame, _) = split_first(&one).expect("a frame");
        let mut buffer = String::new();
        let cursors = [(&b, id(42)), (&a, id(7)), (&c, id(1))];
        head_of_several(&mut buffer, frame.kind, cursors.into_iter());
        buffer.push_str(frame.data);
        let mut one = String::new();
        reset(&mut one, ResetReason::Trimmed, None);
        reset_of_several(&mut buffer, &b, one.as_bytes());
        let expected = [
            "event: new_message\nid: b=1763891234567-42,a=1763891234567-7,c=1763891234567-1\ndata: x\ndata: y\n\n",
            "event: reset\ndata: {\"stream\":\"b\",\"reason\":\"trimmed\",\"oldest\":null}\n\n",
        ];
        assert_eq!(buffer, expected.concat());
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
