//! Cursors (`Last-Event-ID`): one parser for every endpoint.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};

use super::query::parameters;
use crate::{
    message::EventId,
    problem,
    server::{error::Problem, log::ReadCursor},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The query parameter with the same meaning, for clients that cannot set a header.
const PARAMETER: &str = "last_event_id";

/// Parses a place in a stream: `earliest`, `latest`, or after the message with an id. An empty text,
/// which clients without an id send, and `0-0` mean the beginning.
///
/// # Errors
/// When the text is none of these.
pub(crate) fn parse_cursor(text: &str) -> Result<ReadCursor, Problem> {
    match text {
        "" | "earliest" => Ok(ReadCursor::Earliest),
        "latest" => Ok(ReadCursor::Latest),
        id => match id.parse() {
            Ok(EventId::BEGINNING) => Ok(ReadCursor::Earliest),
            Ok(id) => Ok(ReadCursor::Id(id)),
            Err(_) => Err(Problem::new(
                problem::MALFORMED_CURSOR,
                "A cursor is an id that the stream sent, like 1763891234567-42, or earliest, or \
                 latest.",
            )),
        },
    }
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
        matches!(self.position, None | Some(ReadCursor::Id(_)))
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

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [parameter] = parameters(parts, [PARAMETER]).await?;
        let header = parts.headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
        if let Some(value) = header {
            let position = value.to_str().ok().and_then(|text| parse_cursor(text).ok());
            return Ok(Self { position, from_header: true });
        }
        let position = parse_cursor(&parameter.unwrap_or_default())?;
        Ok(Self { position: Some(position), from_header: false })
    }
}
