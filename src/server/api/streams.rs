//! The list of the streams for programs: as JSON, or live as an event stream (SSE).

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts as _, Request},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};

use super::{
    cursor::Cursor,
    query::parameters,
    response::{self, LIST_COST, Responses},
};
use crate::{
    message::StreamName,
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Access, Identity, Limits, TokenError, unauthorized},
        log::Freshness,
        mount,
        observe::StreamKind,
        sse::{EventStreams, Reader, WatchGrant},
        stream_list::{ListReader, StreamList},
    },
};

/// How many streams a page has by default, and at most.
pub(crate) const DEFAULT_LIMIT: usize = 100;
pub(crate) const MAX_LIMIT: usize = 1000;

/// What `GET /streams` is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListFormat {
    /// A page of the site, for every client that does not ask for one of the others.
    Page,
    /// Pages of JSON.
    Json,
    /// An event stream.
    Events,
}

impl ListFormat {
    /// The format that a client accepts.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let accepts = |media_type| accept.is_some_and(|accept| accept.contains(media_type));
        if accepts("text/html") {
            Self::Page
        } else if accepts("text/event-stream") {
            Self::Events
        } else if accepts("application/json") {
            Self::Json
        } else {
            Self::Page
        }
    }
}

/// What the endpoint needs to serve the list.
#[derive(Clone)]
pub(crate) struct Listing {
    pub(crate) access: Access,
    pub(crate) events: EventStreams,
    pub(crate) freshness: Freshness,
    pub(crate) limits: Limits,
    pub(crate) list: StreamList,
    pub(crate) responses: Responses,
}

impl Listing {
    /// `GET /streams` with `Accept: application/json`: the streams in the order of their names, with
    /// pagination.
    pub(crate) async fn json(&self, request: Request) -> Response {
        let client = Client::from_extensions(request.extensions());
        let accept_encoding = response::accept_encoding(request.headers());
        let (mut parts, _) = request.into_parts();
        let page = async { negotiated(self.page(&mut parts, client).await) };
        self.responses.within_limits(client, accept_encoding, LIST_COST, page).await
    }

    /// `GET /streams` with `Accept: text/event-stream`.
    pub(crate) async fn events(&self, request: Request) -> Response {
        let client = Client::from_extensions(request.extensions());
        let (mut parts, _) = request.into_parts();
        negotiated(self.follow(&mut parts, client).await)
    }

    /// The identity of a client. With a token that is not valid it gets nothing: the public streams alone
    /// would look like all that the token is for.
    fn identify(&self, headers: &HeaderMap, client: Client) -> Result<Identity, Problem> {
        match self.access.identify(headers, client) {
            Identity::Anonymous(error) if error != TokenError::Missing => Err(unauthorized(&error)),
            identity => Ok(identity),
        }
    }

    async fn page(&self, parts: &mut Parts, client: Client) -> Result<Response, Problem> {
        let Self { access, list, .. } = self;
        let ListParams { after, limit } = ListParams::parse(parts).await?;
        let identity = self.identify(&parts.headers, client)?;
        let may_watch = |stream: &StreamName| access.may_watch(&identity, stream);
        let rights = identity.watch_fingerprint();
        let page = list.by_name(after.as_ref(), limit, rights, may_watch).await?;
        let next = page.entries.last().filter(|_| page.more).map(|last| &last.info.name);
        let entries: Vec<&str> = page.entries.iter().map(|entry| entry.json()).collect();
        // A name needs no escaping.
        let next_json = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
        let body = format!("{{\"streams\":[{}],\"next\":{next_json}}}", entries.join(","));
        let json = HeaderValue::from_static("application/json");
        let caching = HeaderValue::from_static("private, no-cache");
        let headers = [(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, caching)];
        let mut response = (headers, body).into_response();
        if let Some(next) = next {
            let page = mount::address(&format!("/streams?after={next}&limit={limit}"));
            if let Ok(link) = HeaderValue::try_from(format!("<{page}>; rel=\"next\"")) {
                response.headers_mut().insert(header::LINK, link);
            }
        }
        Ok(response)
    }

    async fn follow(&self, parts: &mut Parts, client: Client) -> Result<Response, Problem> {
        let Self { access, events, freshness, limits, list, .. } = self;
        let Ok(reader) = Reader::from_request_parts(parts, &()).await;
        let cursor = Cursor::from_request_parts(parts, &()).await?;
        let identity = match self.identify(&parts.headers, client) {
            Ok(identity) => identity,
            // An `EventSource` cannot see the status of an error.
            Err(_) if access.has_cookie(&parts.headers, client) => {
                return Ok(events.expired_response());
            }
            Err(problem) => return Err(problem),
        };
        limits.read(client.address, LIST_COST)?;
        let permit = limits.watch(client.address)?;
        if cursor.is_resumed() {
            events.metrics.resumed();
        }
        let (expires_at, rights) = (access.expires_at(&identity), identity.watch_fingerprint());
        let (access, identity) = (access.clone(), Arc::new(identity));
        let may_watch = move |stream: &StreamName| access.may_watch(&identity, stream);
        let (first, frames) = ListReader::start(list, cursor.position, rights, may_watch).await?;
        let grant = WatchGrant { permit, expires_at };
        let (freshness, frames) = (freshness.clone(), frames.frames());
        Ok(events.respond(reader, StreamKind::List, freshness, grant, first, frames))
    }
}

/// A response that depends on what the client accepts.
fn negotiated(response: Result<Response, Problem>) -> Response {
    let mut response = response.into_response();
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// The query parameters of a page.
struct ListParams {
    after: Option<StreamName>,
    limit: usize,
}

impl ListParams {
    async fn parse(parts: &mut Parts) -> Result<Self, Problem> {
        let malformed = |detail: &str| Problem::new(problem::MALFORMED_QUERY, detail);
        let [after, limit] = parameters(parts, ["after", "limit"]).await?;
        let after = after.filter(|after| !after.is_empty()).map(|after| after.parse()).transpose();
        let after = after.map_err(|_| malformed("after must be the name of a stream."))?;
        let limit = match limit.map(|limit| limit.parse()) {
            None => DEFAULT_LIMIT,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(malformed("limit must be a number from 1 to 1000.")),
        };
        Ok(Self { after, limit })
    }
}
