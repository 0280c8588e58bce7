//! History: the messages of a stream, with pagination.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    accepted::accepted_at, cursor::parse_cursor, query::parameters, response::MAX_TEXT_BYTES,
};
use crate::{
    message::{EventId, Message, StreamName},
    problem,
    server::{
        error::Problem,
        guard::MayWatch,
        log::{Bound, Log, Range, ReadCursor},
        mount,
    },
};

/// How many messages a page has by default.
const DEFAULT_LIMIT: usize = 100;
/// The most messages of a page.
const MAX_LIMIT: usize = 1000;
const NDJSON: &str = "application/x-ndjson";

/// `GET /streams/{name}/messages`
pub(crate) async fn history(
    State(log): State<Log>,
    MayWatch { stream }: MayWatch,
    HistoryParams { range, limit }: HistoryParams,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let bound = Bound { messages: limit, bytes: MAX_TEXT_BYTES };
    let page = log.read(&stream, range, bound).await?;
    let (direction, next) = match range {
        Range::After(_) => ("after", page.messages.last()),
        Range::Before(_) => ("before", page.messages.first()),
    };
    let next = next.map(|message| message.id).filter(|_| page.more);
    let messages = page.messages.into_iter().map(Entry::new);
    let mut response = if accepts_ndjson(&headers) {
        let lines: String = messages.map(|entry| entry.to_ndjson()).collect();
        ([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], lines).into_response()
    } else {
        let ended = page.end.map(Entry::new);
        Json(HistoryPage { messages: messages.collect(), next, ended }).into_response()
    };
    if let Some(next) = next
        && let Ok(link) = link(&stream, direction, next, limit)
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// A message in the response.
#[derive(Serialize)]
struct Entry {
    id: EventId,
    at: String,
    data: String,
}

/// The response as JSON.
#[derive(Serialize)]
struct HistoryPage {
    messages: Vec<Entry>,
    /// The cursor of the next page in the same direction, if there is one.
    next: Option<EventId>,
    /// The end event, if the stream has ended.
    ended: Option<Entry>,
}

impl Entry {
    fn new(Message { id, data }: Message) -> Self {
        Self { at: accepted_at(id), id, data }
    }

    fn to_ndjson(&self) -> String {
        // Strings and numbers always serialize.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// The `Link` header (RFC 8288) to the next page. NDJSON has no other place for it.
fn link(
    stream: &StreamName,
    direction: &str,
    next: EventId,
    limit: usize,
) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let page = format!("/streams/{stream}/messages?{direction}={next}&limit={limit}");
    HeaderValue::try_from(format!("<{}>; rel=\"next\"", mount::address(&page)))
}

fn accepts_ndjson(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains(NDJSON))
}

/// The query parameters.
pub(crate) struct HistoryParams {
    range: Range,
    limit: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for HistoryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = |detail: &str| Problem::new(problem::MALFORMED_QUERY, detail);
        let [after, before, limit] = parameters(parts, ["after", "before", "limit"]).await?;
        let range = match (after, before) {
            (None, None) => Range::After(ReadCursor::Earliest),
            (Some(after), None) => Range::After(parse_cursor(&after)?),
            (None, Some(before)) => Range::Before(parse_cursor(&before)?),
            (Some(_), Some(_)) => return Err(malformed("Use either after or before, not both.")),
        };
        let limit = match limit.map(|limit| limit.parse()) {
            None => DEFAULT_LIMIT,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(malformed("limit must be a number from 1 to 1000.")),
        };
        Ok(Self { range, limit })
    }
}
