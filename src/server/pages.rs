//! The pages: what they are rendered with, and their forms. The only place where the server meets
//! the app.

mod forms;
mod sign_in;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use leptos::{
    nonce::use_nonce,
    prelude::{IntoAny as _, expect_context, provide_context},
};
use leptos_axum::{ResponseOptions, render_app_async_with_context};
use serde::Deserialize;

pub(crate) use self::{
    forms::form,
    sign_in::{sign_in, sign_in_page, sign_out},
};
use super::{
    api::{
        counter::Counter,
        cursor,
        publishing::Publishing,
        response::{self, MAX_TEXT_BYTES, PAGE_COST, Responses},
    },
    client::Client,
    error::Problem,
    guard::{Access, Identity, Limits, security_headers},
    hub::Hub,
    log::{Bound, Log, Place, Range, ReadError},
    site::{Built, Site},
    stream_path::StreamPath,
};
use crate::{
    app::{self, Assets, Draft, Page, PageContext, StyleSheet},
    message::{EventId, Snapshot, StreamName, Summary},
    problem::{self, Kind},
};

/// How many messages a page is rendered with, and about how many bytes of them.
const NEWEST: Bound = Bound { messages: 100, bytes: MAX_TEXT_BYTES };
/// How many messages a permanent link shows before its own, and from there on.
const NEIGHBOURS: Bound = Bound { messages: 50, bytes: MAX_TEXT_BYTES / 2 };
/// Shown to one visitor, as it is now; and not for proxies to rewrite (RFC 9110, section 7.7), since
/// the page hydrates what was sent.
const CACHING: &str = "private, no-cache, no-transform";
/// How many streams the list of streams shows.
const STREAMS: usize = 1000;

/// What pages are rendered with.
pub(crate) struct Pages {
    pub(crate) access: Access,
    pub(crate) counter: Counter,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) responses: Responses,
    pub(crate) site: Arc<Site>,
}

/// Lets pages be rendered; to be called once before. It does no harm to call it again.
pub(crate) fn init() {
    let _ = any_spawner::Executor::init_tokio();
}

/// `GET /`
pub(crate) async fn counter(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let page = Page::Counter(pages.counter.snapshot());
    render(&pages, request, page).await
}

/// `GET /problems`
pub(crate) async fn text(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    render(&pages, request, Page::Text).await
}

/// The page that says that there is none.
pub(crate) async fn not_found(pages: &Pages, request: Request) -> Response {
    let mut page = render(pages, request, Page::Text).await;
    *page.status_mut() = StatusCode::NOT_FOUND;
    page.extensions_mut().insert(problem::NOT_FOUND);
    page
}

/// `GET /streams`
pub(crate) async fn streams(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let visitor =
        pages.access.identify(request.headers(), Client::of_request(request.extensions()));
    let listed = pages.log.streams(STREAMS).await.map_err(Problem::from);
    let page = listed.map(|mut listed| {
        listed.retain(|listed| pages.access.watch(&visitor, &listed.name).is_ok());
        let summary = |listed: super::log::StreamInfo| Summary {
            watchers: pages.hub.watchers(&listed.name),
            name: listed.name,
            messages: listed.messages,
            ended: listed.ended,
            last: listed.last,
        };
        let streams = listed.into_iter().map(summary).collect();
        Page::Streams { streams, may_publish: visitor.may_publish_somewhere() }
    });
    render_or_refuse(&pages, request, page).await
}

/// Which part of a stream a page is asked for.
#[derive(Deserialize)]
pub(crate) struct StreamQuery {
    before: Option<String>,
    at: Option<String>,
}

/// `GET /streams/{name}`, and the same with `?before` and `?at`
pub(crate) async fn stream(
    State(pages): State<Arc<Pages>>,
    name: Result<StreamPath, Problem>,
    part: Result<Query<StreamQuery>, QueryRejection>,
    request: Request,
) -> Response {
    let visitor =
        pages.access.identify(request.headers(), Client::of_request(request.extensions()));
    let page = stream_page(&pages, &visitor, name, part).await;
    render_or_refuse(&pages, request, page).await
}

async fn stream_page(
    pages: &Pages,
    visitor: &Identity,
    name: Result<StreamPath, Problem>,
    part: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Page, Problem> {
    let StreamPath(name) = name?;
    pages.access.watch(visitor, &name)?;
    let Query(part) = part?;
    match (part.at, part.before) {
        (Some(id), _) => around(pages, name, &id).await,
        (None, Some(id)) => before(pages, name, &id).await,
        (None, None) => newest(pages, visitor, name, None).await,
    }
}

/// A stream as it is now. One read gives the messages and the place where the subscription begins.
async fn newest(
    pages: &Pages,
    visitor: &Identity,
    name: StreamName,
    draft: Option<Draft>,
) -> Result<Page, Problem> {
    let events = format!("/streams/{name}/events");
    let snapshot = match pages.log.read(&name, Range::Before(Place::Latest), NEWEST).await {
        Ok(page) => Snapshot {
            events,
            messages: page.messages,
            older: page.more,
            end: page.end,
            ..Snapshot::default()
        },
        // People open the page first and publish afterwards.
        Err(ReadError::NoStream) => Snapshot { events, ..Snapshot::default() },
        Err(error) => return Err(error.into()),
    };
    let watchers = pages.hub.watchers(&name);
    let may_publish = pages.access.publish(visitor, &name).is_ok();
    Ok(Page::Stream { name, snapshot, watchers, may_publish, draft })
}

/// The messages before one.
async fn before(pages: &Pages, name: StreamName, id: &str) -> Result<Page, Problem> {
    let place = cursor::place(id)?;
    let page = pages.log.read(&name, Range::Before(place), NEWEST).await?;
    let (messages, older) = (page.messages, page.more);
    Ok(Page::Archive { name, messages, at: None, older, newer: true, end: None })
}

/// A message among its neighbours.
async fn around(pages: &Pages, name: StreamName, id: &str) -> Result<Page, Problem> {
    let at: EventId = id.parse().map_err(|_| {
        Problem::new(problem::MALFORMED_CURSOR, "The address of a message ends with its id.")
    })?;
    let before = pages.log.read(&name, Range::Before(Place::Id(at)), NEIGHBOURS).await?;
    let from = before.messages.last().map_or(Place::Earliest, |last| Place::Id(last.id));
    let after = pages.log.read(&name, Range::After(from), NEIGHBOURS).await?;
    let mut messages = before.messages;
    messages.extend(after.messages);
    let end = after.end.filter(|_| !after.more);
    Ok(Page::Archive { name, messages, at: Some(at), older: before.more, newer: after.more, end })
}

async fn render_or_refuse(
    pages: &Pages,
    request: Request,
    page: Result<Page, Problem>,
) -> Response {
    let problem = match page {
        Ok(page) => return render(pages, request, page).await,
        Err(problem) => problem.for_page(),
    };
    let page = if problem.is_auth_error() {
        let to = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        Page::SignIn { to, problem: Some(problem.detail().to_owned()) }
    } else {
        Page::Refused { title: problem.title().to_owned(), detail: problem.detail().to_owned() }
    };
    let mut response = render(pages, request, page).await;
    problem.apply_to(&mut response);
    response
}

/// Says why there is nothing: to a person with a page.
async fn refuse(pages: &Pages, parts: Parts, problem: Problem, person: bool) -> Response {
    if !person {
        return problem.into_response();
    }
    let client = Client::of_request(&parts.extensions);
    let accept_encoding = response::accept_encoding(&parts.headers);
    let request = Request::from_parts(parts, Body::empty());
    let page = render_or_refuse(pages, request, Err(problem));
    pages.responses.bounded(client, accept_encoding, PAGE_COST, page).await
}

/// Renders a page. A page that has failed asks for itself as `text/plain`, so that a proxy which
/// rewrites pages leaves it as it is.
async fn render(pages: &Pages, request: Request, page: Page) -> Response {
    let watched = pages.site.is_watched();
    let client = Client::of_request(request.extensions());
    let visitor = match pages.access.identify(request.headers(), client) {
        Identity::Anyone => app::Visitor::Anyone,
        Identity::Guest(_) => app::Visitor::Guest,
        Identity::Holder(claims) => app::Visitor::Named(claims.name),
    };
    let as_text =
        request.headers().get(header::ACCEPT).is_some_and(|accept| accept == "text/plain");
    let Built { style, style_text, script, wasm } = pages.site.built().clone();
    // In the page it saves a round trip before the first paint; what is fetched as text is shown in
    // a page that has it already.
    let style = match style_text {
        Some(text) if !as_text => StyleSheet::Inline(text),
        _ => StyleSheet::Linked(style),
    };
    let assets = Assets { style, script, wasm };
    // What a page is told about the visit it is rendered for, and the headers it leaves with.
    let visit = move || {
        let response = expect_context::<ResponseOptions>();
        response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
        let policy =
            use_nonce().map(|nonce| security_headers::content_security_policy(&nonce, watched));
        if let Some(Ok(policy)) = policy {
            response.insert_header(header::CONTENT_SECURITY_POLICY, policy);
        }
        let parts = expect_context::<Parts>();
        let scheme = if client.secure { "https://" } else { "" };
        let origin = format!("{scheme}{}", host(&parts));
        provide_context(PageContext {
            origin,
            visitor: visitor.clone(),
            assets: assets.clone(),
            page: page.clone(),
        });
    };
    let options = pages.site.leptos_options().clone();
    let shell = move || app::shell(options.clone()).into_any();
    let mut page = render_app_async_with_context(visit, shell)(request).await;
    page.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    if as_text {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        page.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    page
}

/// Layer that has a person told with a page, and not with JSON, why there is no page, where that was
/// found before one could be rendered, or there is no memory for it. It takes hardly any itself.
pub(crate) async fn explain_refusals(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let person = [Method::GET, Method::HEAD].contains(&parts.method) && wants_page(&parts);
    let response = next.run(Request::from_parts(parts, body)).await;
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/html"));
    let Some(Kind { title, meaning, .. }) = response.extensions().get().copied() else {
        return response;
    };
    if !person || is_page {
        return response;
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <h1>{title}</h1><p>{meaning}</p><p><a href=\"\">Try again</a></p></html>"
    );
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Response::from_parts(parts, page.into())
}

/// Whether a person is waiting. A request without a path, `GET host:80`, is not a browser's, and
/// `leptos_axum` would panic.
pub(crate) fn wants_page(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    parts.uri.path_and_query().is_some()
        && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The server's name and port, as this visitor wrote them: for a command that people copy, and so
/// nothing that a shell could take for more than a name.
fn host(parts: &Parts) -> String {
    let header = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| parts.uri.authority().map(Authority::as_str));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    host.filter(|host| host.chars().all(plain)).unwrap_or("localhost").to_owned()
}
