//! A parser of event streams (HTML standard, section 9.2.6, *Interpreting an event stream*).

use std::collections::VecDeque;

/// An event as a browser would dispatch it, but for the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The `event:` field; empty where there is none.
    pub(super) kind: String,
    pub(super) data: String,
    /// The `id:` of its own block; empty where there is none. (A browser keeps the one before. Here a
    /// cursor that a reset has replaced would come back with the next ping.)
    pub(super) id: String,
}

/// A line or an event is longer than any that a server of Tidings sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Parses the bytes of a stream as they arrive.
#[derive(Debug)]
pub(super) struct Parser {
    /// The most bytes of a line, and of the data of an event.
    max: usize,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// Whether the last line ended with CR, so that a following LF belongs to it.
    after_cr: bool,
    /// Whether the next line is the first, which may begin with a byte order mark.
    is_first: bool,
    kind: String,
    /// The data lines so far, each with a line end.
    data: String,
    id: String,
    events: VecDeque<Event>,
}

impl Parser {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            after_cr: false,
            is_first: true,
            kind: String::new(),
            data: String::new(),
            id: String::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes more bytes; [`next`](Self::next) then returns the events that are complete.
    ///
    /// # Errors
    /// When a line or an event is too long.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| b"\r\n".contains(byte));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > self.max {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            // Line ends are ASCII, so that a line decodes as it would within the whole stream.
            self.end_line(&String::from_utf8_lossy(&line))?;
        }
        Ok(())
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn end_line(&mut self, line: &str) -> Result<(), TooLong> {
        let is_first = std::mem::take(&mut self.is_first);
        let line = if is_first { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" if self.data.len() + value.len() >= self.max => return Err(TooLong),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // `retry` is for clients without a back-off of their own. An empty field is a comment.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let (kind, mut data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        let id = std::mem::take(&mut self.id);
        // A block without data is no event.
        if data.pop().is_some() {
            self.events.push_back(Event { kind, data, id });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use eventsource_stream::Eventsource as _;
    use futures::{StreamExt as _, executor::block_on, stream};
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece).expect("short lines");
            events.extend(std::iter::from_fn(|| parser.next()));
        }
        events
    }

    fn event(kind: &str, data: &str, id: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    /// The examples of the standard, and what it says in prose (but for the id of a block without one).
    #[test]
    fn events_are_those_of_the_standard() {
        for (text, events) in [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![event("", "YHOO\n+2\n10", "")]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                vec![
                    event("", "first event", "1"),
                    event("", "second event", ""),
                    event("", " third event", ""),
                ],
            ),
            ("data\n\ndata\ndata\n\ndata:\n", vec![event("", "", ""), event("", "\n", "")]),
            ("data:test\n\ndata: test\n\n", vec![event("", "test", ""), event("", "test", "")]),
            ("event: add\ndata: 7\n\ndata: 8\n\n", vec![event("add", "7", ""), event("", "8", "")]),
            ("id: 4\n\ndata: a\n\n", vec![event("", "a", "")]),
            (
                "id: 4\ndata: a\n\nevent: ping\ndata: {}\n\n",
                vec![event("", "a", "4"), event("ping", "{}", "")],
            ),
            ("id: 4\nid: 5\0\ndata: a\n\n", vec![event("", "a", "4")]),
            ("\u{feff}data: bom\n\n\u{feff}data: no\n\n", vec![event("", "bom", "")]),
            ("event: x\n\ndata: y\n\n", vec![event("", "y", "")]),
            (
                "data: a\r\rdata: b\r\n\r\ndata: c\n\r",
                vec![event("", "a", ""), event("", "b", ""), event("", "c", "")],
            ),
            ("datum: x\nDATA: y\nretry: 10\nretry: x\ndata: z: 1\n\n", vec![event("", "z: 1", "")]),
            (
                "data: nul \0 and \u{85}\u{2028}\n\n",
                vec![event("", "nul \0 and \u{85}\u{2028}", "")],
            ),
            ("data: incomplete", vec![]),
        ] {
            assert_eq!(parse(&[text.as_bytes()]), events, "{text:?}");
        }
        assert_eq!(
            parse(&[b"data: caf\xe9 \xf0\x9f\n\n"]),
            [event("", "caf\u{fffd} \u{fffd}", "")]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let endless_line = vec![b'x'; 2000];
        assert_eq!(Parser::new(1000).push(&endless_line), Err(TooLong));
        let endless_event = "data: 0123456789\n".repeat(200);
        assert_eq!(Parser::new(1000).push(endless_event.as_bytes()), Err(TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Any bytes, in any pieces.
        #[test]
        fn events_do_not_depend_on_how_the_bytes_arrive(
            parts in prop::collection::vec(
                prop::sample::select(vec!["data", "id", "event", ":", " ", "\r", "\n", "\r\n", "\0", "é", "\u{feff}", "x"]),
                0..60,
            ),
            size in 1..9_usize,
        ) {
            let text = parts.concat();
            let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(parse(&pieces), parse(&[text.as_bytes()]));
        }

        #[test]
        fn arbitrary_bytes_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            parse(&[&bytes]);
        }

        /// Another parser finds the same, in streams such as servers send.
        #[test]
        fn another_parser_agrees(
            messages in prop::collection::vec(("[a-z]{0,5}", "[^\r\n\0]{0,20}", "[^\r\n]{0,20}", "[^\r\n]{0,20}"), 0..6),
            line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            size in 1..20_usize,
        ) {
            let mut text = format!(": hello{line_end}");
            for (kind, id, first, second) in &messages {
                let lines = [format!("event: {kind}"), format!("id: {id}"), format!("data: {first}"), format!("data: {second}"), String::new()];
                for line in lines {
                    text += &(line + line_end);
                }
            }
            // The other one waits for what follows a CR.
            text += ":\n";
            let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
            let others = pieces.iter().map(|piece| Ok::<_, Infallible>(piece.to_vec()));
            let others: Vec<_> = block_on(stream::iter(others).eventsource().collect());
            let others = others.into_iter().map(|event| {
                let event = event.expect("a valid stream");
                (event.event, event.data, event.id)
            });
            let found = parse(&pieces).into_iter().map(|Event { kind, data, id }| {
                (if kind.is_empty() { "message".to_owned() } else { kind }, data, id)
            });
            prop_assert_eq!(found.collect::<Vec<_>>(), others.collect::<Vec<_>>());
        }
    }
}
