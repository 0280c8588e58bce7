//! Cursors as clients send them: one parser for every endpoint.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};

use super::query::parameters;
use crate::{
    message::EventId,
    problem,
    server::{error::Problem, log::Place},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The parameter of the same meaning, for clients that cannot set a header.
const PARAMETER: &str = "last_event_id";

/// A place in a stream: `earliest`, `latest`, or after the message with an id. Nothing, which is what
/// a client sends that has no id yet, and `0-0` are the beginning.
///
/// # Errors
/// When the text is none of these.
pub(crate) fn place(text: &str) -> Result<Place, Problem> {
    match text {
        "" | "earliest" => Ok(Place::Earliest),
        "latest" => Ok(Place::Latest),
        id => match id.parse() {
            Ok(EventId::BEGINNING) => Ok(Place::Earliest),
            Ok(id) => Ok(Place::Id(id)),
            Err(_) => Err(Problem::new(
                problem::MALFORMED_CURSOR,
                "A cursor is an id as the stream gave it, like 1763891234567-42, or earliest, or \
                 latest.",
            )),
        },
    }
}

/// Where a watcher is, as its request says: the `Last-Event-ID` header, else the query parameter, else
/// nowhere. The header wins, because a browser that reconnects by itself repeats the old URL and adds
/// the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// None when the header holds no place: the watcher believes to be somewhere, but not where we
    /// know.
    pub(crate) place: Option<Place>,
    from_header: bool,
}

impl Cursor {
    /// Whether the watcher was here before.
    pub(crate) fn is_resumed(self) -> bool {
        matches!(self.place, None | Some(Place::Id(_)))
    }

    /// For a stream that cannot have given this cursor: an unknown place where a browser sent it (it
    /// can do nothing about a refusal), else a refusal.
    pub(crate) fn refuse(self, detail: &str) -> Result<Option<Place>, Problem> {
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
            let place = value.to_str().ok().and_then(|text| place(text).ok());
            return Ok(Self { place, from_header: true });
        }
        let place = place(&parameter.unwrap_or_default())?;
        Ok(Self { place: Some(place), from_header: false })
    }
}
