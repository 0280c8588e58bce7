//! History: the messages of a stream, with pagination.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    accepted::accepted_at,
    cursor::parse_cursor,
    query::parameters_and_lists,
    response::MAX_TEXT_BYTES,
    search::{SEARCH_COST, malformed_filter, search},
};
use crate::{
    filter::Filter,
    message::{EventId, Message, StreamName},
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Limits, MayWatch},
        log::{Bound, Log, Range, ReadCursor, ReadError},
        mount,
    },
};

/// How many messages a page has by default.
pub(crate) const DEFAULT_LIMIT: usize = 100;
/// The most messages of a page.
pub(crate) const MAX_LIMIT: usize = 1000;
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// The parameters of a filter.
const FILTERS: [&str; 2] = ["contains", "excludes"];
/// The header with the number of messages that a search has examined. NDJSON has no other place for it.
const EXAMINED: HeaderName = HeaderName::from_static("tidings-examined");

/// `GET /streams/{name}/messages`
pub(crate) async fn history(
    State(log): State<Log>,
    State(limits): State<Limits>,
    MayWatch { stream }: MayWatch,
    client: Client,
    HistoryParams { range, limit, filter }: HistoryParams,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let direction = match range {
        Range::After(_) => "after",
        Range::Before(_) => "before",
    };
    let (page, examined, filter_query) = if let Some((filter, query)) = filter {
        limits.read(client.address, SEARCH_COST)?;
        let found = search(&log, &stream, range, &filter, limit).await?;
        (
            Page { messages: found.messages, next: found.next, end: found.end },
            Some(found.examined),
            query,
        )
    } else {
        (Page::read(&log, &stream, range, limit).await?, None, String::new())
    };
    let next = page.next;
    let messages = page.messages.into_iter().map(Entry::new);
    let mut response = if accepts_ndjson(&headers) {
        let lines: String = messages.map(|entry| entry.to_ndjson()).collect();
        ([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], lines).into_response()
    } else {
        let ended = page.end.map(Entry::new);
        Json(HistoryPage { messages: messages.collect(), next, ended, examined }).into_response()
    };
    if let Some(next) = next
        && let Ok(link) = link(&stream, direction, next, limit, &filter_query)
    {
        response.headers_mut().insert(header::LINK, link);
    }
    if let Some(examined) = examined {
        response.headers_mut().insert(EXAMINED, examined.into());
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// A page of the history.
struct Page {
    messages: Vec<Message>,
    next: Option<EventId>,
    end: Option<Message>,
}

impl Page {
    async fn read(
        log: &Log,
        stream: &StreamName,
        range: Range,
        limit: usize,
    ) -> Result<Self, ReadError> {
        let bound = Bound { messages: limit, bytes: MAX_TEXT_BYTES };
        let page = log.read(stream, range, bound).await?;
        let next = match range {
            Range::After(_) => page.messages.last(),
            Range::Before(_) => page.messages.first(),
        };
        let next = next.map(|message| message.id).filter(|_| page.more);
        Ok(Self { messages: page.messages, next, end: page.end })
    }
}

/// A message in the response.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct Entry {
    /// Its id.
    id: EventId,
    /// When it was accepted.
    #[schema(format = DateTime)]
    at: String,
    /// Its text.
    data: String,
}

/// The response as JSON.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryPage {
    /// The messages, oldest first.
    messages: Vec<Entry>,
    /// The cursor of the next page in the same direction, if there is one. A search may have one although
    /// it has found nothing yet.
    #[schema(required)]
    next: Option<EventId>,
    /// The end event, if the stream has ended.
    #[schema(required)]
    ended: Option<Entry>,
    /// How many messages a search has examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    examined: Option<usize>,
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
    filter_query: &str,
) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let page = format!("/streams/{stream}/messages?{direction}={next}&limit={limit}{filter_query}");
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
    /// The filter, if there is one, and its parameters, each after a `&`.
    filter: Option<(Filter, String)>,
}

impl<S: Send + Sync> FromRequestParts<S> for HistoryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = |detail: &str| Problem::new(problem::MALFORMED_QUERY, detail);
        let ([after, before, limit], filter) =
            parameters_and_lists(parts, ["after", "before", "limit"], FILTERS).await?;
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
        let filter =
            if filter.iter().all(Vec::is_empty) { None } else { Some(parse_filter(&filter)?) };
        Ok(Self { range, limit, filter })
    }
}

/// The filter of these values of [`FILTERS`], and them as parameters again.
fn parse_filter(values: &[Vec<String>; 2]) -> Result<(Filter, String), Problem> {
    let [contains, excludes] = values;
    let filter = Filter::new(contains, excludes)
        .map_err(|error| malformed_filter("contains and excludes", error))?;
    let mut query = String::new();
    for (name, values) in FILTERS.iter().zip(values) {
        for value in values {
            // Pairs of texts always serialize.
            query += "&";
            query += &serde_urlencoded::to_string([(name, value)]).unwrap_or_default();
        }
    }
    Ok((filter, query))
}
