//! Cursors (`Last-Event-ID`): one parser for every endpoint.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, request::Parts},
};

use super::query::parameters;
use crate::{
    message::{EventId, StreamNames},
    problem,
    server::{error::Problem, log::ReadCursor},
};

pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The query parameter with the same meaning, for clients that cannot set a header.
pub(crate) const PARAMETER: &str = "last_event_id";

/// Parses a place in a stream: `earliest`, `latest`, or after the message with an id. An empty text,
/// which clients without an id send, and `0-0` mean the beginning.
///
/// # Errors
/// When the text is none of these.
pub(crate) fn parse_cursor(text: &str) -> Result<ReadCursor, Problem> {
    let detail =
        "A cursor is an id that the stream sent, like 1763891234567-42, or earliest, or latest.";
    parse_word(text)
        .or_else(|| text.parse().ok().map(after))
        .ok_or_else(|| Problem::new(problem::MALFORMED_CURSOR, detail))
}

fn parse_word(text: &str) -> Option<ReadCursor> {
    match text {
        "" | "earliest" => Some(ReadCursor::Earliest),
        "latest" => Some(ReadCursor::Latest),
        _ => None,
    }
}

fn after(id: EventId) -> ReadCursor {
    if id == EventId::BEGINNING { ReadCursor::Earliest } else { ReadCursor::Id(id) }
}

/// Parses a place in each of several streams: `earliest` or `latest` for all, or the ids by name, as
/// their event stream sends them: `b=1763891234567-42,a=1763891230000-7`. A stream that is missing
/// begins at its beginning: the reader has none of its messages. A name that is not among `streams` is
/// ignored, so that a reader can leave a stream out and resume the others.
///
/// # Errors
/// When the text is none of these, or names a stream twice.
fn parse_cursors(text: &str, streams: &StreamNames) -> Result<Vec<ReadCursor>, Problem> {
    let streams = streams.as_slice();
    if let Some(word) = parse_word(text) {
        return Ok(vec![word; streams.len()]);
    }
    let detail = "The cursor of several streams is an id that their event stream sent, like \
                  b=1763891234567-42,a=1763891230000-7, or earliest, or latest.";
    let malformed = || Problem::new(problem::MALFORMED_CURSOR, detail);
    let mut cursors = vec![ReadCursor::Earliest; streams.len()];
    let mut names = Vec::new();
    for entry in text.split(',') {
        let (name, id) = entry.split_once('=').ok_or_else(malformed)?;
        let name = name.parse().map_err(|_| malformed())?;
        let id = id.parse().map_err(|_| malformed())?;
        if let Some(index) = streams.iter().position(|stream| *stream == name) {
            cursors[index] = after(id);
        }
        if names.contains(&name) {
            return Err(malformed());
        }
        names.push(name);
    }
    Ok(cursors)
}

/// The cursor of a watcher's request: the `Last-Event-ID` header, else the query parameter, else the
/// beginning. The header wins, because a browser that reconnects repeats the old URL and adds the
/// header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// `None` when the header is malformed: the watcher has a cursor, but an unknown one.
    pub(crate) position: Option<ReadCursor>,
    from_header: bool,
}

impl Cursor {
    /// Whether the watcher has a cursor from an earlier connection.
    pub(crate) fn is_resumed(self) -> bool {
        is_resumed(self.position)
    }

    /// Rejects a cursor that the stream cannot have sent. `Ok(None)`, an unknown cursor, if it comes
    /// from the header, because a browser cannot react to an error.
    ///
    /// # Errors
    /// `MALFORMED_CURSOR` with this detail, if the cursor comes from the query.
    pub(crate) fn refuse(self, detail: &str) -> Result<Option<ReadCursor>, Problem> {
        if self.from_header {
            Ok(None)
        } else {
            Err(Problem::new(problem::MALFORMED_CURSOR, detail))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Cursor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        CursorText::from_request_parts(parts, state).await?.parse()
    }
}

/// The cursor of a watcher's request as text, whose form depends on the number of streams.
pub(crate) struct CursorText {
    /// `None` when the header is not text.
    text: Option<String>,
    from_header: bool,
}

impl CursorText {
    /// The cursor in the header, or else the one in the query.
    fn new(headers: &HeaderMap, parameter: Option<String>) -> Self {
        match headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) {
            Some(value) => Self { text: value.to_str().ok().map(str::to_owned), from_header: true },
            None => Self { text: Some(parameter.unwrap_or_default()), from_header: false },
        }
    }

    /// Parses the cursor in a single stream.
    ///
    /// # Errors
    /// When it is malformed and comes from the query.
    pub(crate) fn parse(&self) -> Result<Cursor, Problem> {
        let position = self.parse_with(parse_cursor)?;
        Ok(Cursor { position, from_header: self.from_header })
    }

    /// Parses the cursor in each of several streams. All are unknown (`None`) if a header is malformed.
    ///
    /// # Errors
    /// When it is malformed and comes from the query.
    pub(crate) fn parse_all(
        &self,
        streams: &StreamNames,
    ) -> Result<Vec<Option<ReadCursor>>, Problem> {
        let cursors = self.parse_with(|text| parse_cursors(text, streams))?;
        Ok(match cursors {
            Some(cursors) => cursors.into_iter().map(Some).collect(),
            None => vec![None; streams.as_slice().len()],
        })
    }

    fn parse_with<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        match self.text.as_deref().map(parse) {
            Some(Ok(parsed)) => Ok(Some(parsed)),
            Some(Err(problem)) if !self.from_header => Err(problem),
            Some(Err(_)) | None => Ok(None),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CursorText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [parameter] = parameters(parts, [PARAMETER]).await?;
        Ok(Self::new(&parts.headers, parameter))
    }
}

/// The query parameters of an event stream.
pub(crate) struct WatchParams {
    pub(crate) cursor: CursorText,
    /// `?watchers`: whether the reader is told the number of watchers.
    pub(crate) watchers: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for WatchParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [parameter, watchers] = parameters(parts, [PARAMETER, "watchers"]).await?;
        if watchers.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(Problem::new(problem::MALFORMED_QUERY, "Send watchers without a value."));
        }
        let cursor = CursorText::new(&parts.headers, parameter);
        Ok(Self { cursor, watchers: watchers.is_some() })
    }
}

/// Whether a cursor is from an earlier connection.
pub(crate) fn is_resumed(position: Option<ReadCursor>) -> bool {
    matches!(position, None | Some(ReadCursor::Id(_)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> StreamNames {
        text.parse().expect("names")
    }

    fn id(millis: u64, seq: u64) -> ReadCursor {
        ReadCursor::Id(EventId { millis, seq })
    }

    #[test]
    fn each_stream_has_its_own_cursor() {
        let begin = ReadCursor::Earliest;
        for (text, expected) in [
            ("", [begin; 3]),
            ("earliest", [begin; 3]),
            ("latest", [ReadCursor::Latest; 3]),
            ("b=1-2", [begin, id(1, 2), begin]),
            ("c=5-6,a=1-2,b=3-4", [id(1, 2), id(3, 4), id(5, 6)]),
            ("b=0-0,a=1-2", [id(1, 2), begin, begin]),
            ("d=1-2,c=3-4", [begin, begin, id(3, 4)]),
        ] {
            assert_eq!(
                parse_cursors(text, &names("a,b,c")).ok(),
                Some(expected.to_vec()),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_cursors_of_several_streams_are_refused() {
        for text in [
            "1-2",
            "a",
            "a=",
            "a=1",
            "=1-2",
            "a=1-2,",
            ",a=1-2",
            "a=1-2,,b=1-2",
            "a=1-2,a=1-2",
            "d=1-2,d=3-4",
            "a=latest",
            "a=01-2",
            "a=1-2 ,b=1-2",
            "A=1-2",
            "a=1-2;b=1-2",
            "latest,a=1-2",
        ] {
            assert!(parse_cursors(text, &names("a,b,c")).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_of_several_streams_round_trips(
            ids in prop::collection::vec((any::<u64>(), 1_u64.., any::<bool>()), 2..=StreamNames::MAX),
            first in 0_usize..16,
        ) {
            let streams: Vec<_> = (0..ids.len()).map(|n| format!("s{n}")).collect();
            let mut entries: Vec<_> = streams
                .iter()
                .zip(&ids)
                .filter(|(_, (.., known))| *known)
                .map(|(name, (millis, seq, _))| format!("{name}={millis}-{seq}"))
                .collect();
            let count = entries.len();
            entries.rotate_left(first.min(count));
            let expected: Vec<_> = ids
                .iter()
                .map(|&(millis, seq, known)| if known { id(millis, seq) } else { ReadCursor::Earliest })
                .collect();
            let parsed = parse_cursors(&entries.join(","), &names(&streams.join(",")));
            prop_assert_eq!(parsed.ok(), Some(expected));
        }

        #[test]
        fn no_text_makes_the_parser_fail(text in "[ab0-9=,-]{0,24}") {
            let _ = parse_cursors(&text, &names("a,b"));
        }
    }
}
