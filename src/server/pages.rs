//! The pages: what they are rendered with, and their forms. The only place where the server meets
//! the app.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::Authority},
    response::{IntoResponse, Redirect, Response},
};
use leptos::{
    nonce::use_nonce,
    prelude::{IntoAny as _, expect_context, provide_context},
};
use leptos_axum::{ResponseOptions, handle_server_fns_with_context, render_app_async_with_context};
use serde::Deserialize;

use super::{
    App, end,
    error::Problem,
    headers, history,
    log::{Bound, NotRead, Place, Range},
    named::{Named, malformed_name},
    publish,
};
use crate::{
    app::{self, Draft, Page, Visit, composer::Desk},
    message::{EventId, Snapshot, StreamName, Summary},
    problem,
};

/// How many messages a page is rendered with, and about how many bytes of them.
const NEWEST: Bound = Bound { messages: 100, bytes: 256 * 1024 };
/// How many messages a permanent link shows before its own, and from there on.
const NEIGHBOURS: Bound = Bound { messages: 50, bytes: 128 * 1024 };
/// How many streams the list of streams shows.
const STREAMS: usize = 1000;

/// Lets pages be rendered; to be called once before. It does no harm to call it again.
pub(super) fn init() {
    let _ = any_spawner::Executor::init_tokio();
}

/// `GET /`
pub(super) async fn counter(State(app): State<App>, request: Request) -> Response {
    let page = Page::Counter(app.counter.snapshot());
    render(&app, request, page).await
}

/// `GET /problems`
pub(super) async fn text(State(app): State<App>, request: Request) -> Response {
    render(&app, request, Page::Text).await
}

/// The page that says that there is none.
pub(super) async fn not_found(app: &App, request: Request) -> Response {
    let mut page = render(app, request, Page::Text).await;
    *page.status_mut() = StatusCode::NOT_FOUND;
    page.extensions_mut().insert(problem::NOT_FOUND);
    page.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    page
}

/// `GET /streams`
pub(super) async fn streams(State(app): State<App>, request: Request) -> Response {
    let listed = app.log.streams(STREAMS).await.map_err(Problem::from);
    let page = listed.map(|listed| {
        let summary = |listed: super::log::Listed| Summary {
            watchers: app.hub.watchers(&listed.name),
            name: listed.name,
            messages: listed.messages,
            ended: listed.ended,
            last: listed.last,
        };
        Page::Streams(listed.into_iter().map(summary).collect())
    });
    render_or_refuse(&app, request, page).await
}

/// Which part of a stream a page is asked for.
#[derive(Deserialize)]
pub(super) struct Part {
    before: Option<String>,
    at: Option<String>,
}

/// `GET /streams/{name}`, and the same with `?before` and `?at`
pub(super) async fn stream(
    State(app): State<App>,
    name: Result<Named, Problem>,
    part: Result<Query<Part>, QueryRejection>,
    request: Request,
) -> Response {
    let page = stream_page(&app, name, part).await;
    render_or_refuse(&app, request, page).await
}

async fn stream_page(
    app: &App,
    name: Result<Named, Problem>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Page, Problem> {
    let Named(name) = name?;
    let Query(part) = part?;
    match (part.at, part.before) {
        (Some(id), _) => around(app, name, &id).await,
        (None, Some(id)) => before(app, name, &id).await,
        (None, None) => newest(app, name, None).await,
    }
}

/// A stream as it is now. One read gives the messages and the place where the subscription begins.
async fn newest(app: &App, name: StreamName, draft: Option<Draft>) -> Result<Page, Problem> {
    let events = format!("/streams/{name}/events");
    let snapshot = match app.log.read(&name, Range::Before(Place::Latest), NEWEST).await {
        Ok(page) => Snapshot {
            events,
            messages: page.messages,
            older: page.more,
            end: page.end,
            ..Snapshot::default()
        },
        // People open the page first and publish afterwards.
        Err(NotRead::NoStream) => Snapshot { events, ..Snapshot::default() },
        Err(not_read) => return Err(not_read.into()),
    };
    let watchers = app.hub.watchers(&name);
    Ok(Page::Stream { name, snapshot, watchers, draft })
}

/// The messages before one.
async fn before(app: &App, name: StreamName, id: &str) -> Result<Page, Problem> {
    let place = history::place(id)?;
    let page = app.log.read(&name, Range::Before(place), NEWEST).await?;
    let (messages, older) = (page.messages, page.more);
    Ok(Page::Archive { name, messages, at: None, older, newer: true, end: None })
}

/// A message among its neighbours.
async fn around(app: &App, name: StreamName, id: &str) -> Result<Page, Problem> {
    let at: EventId = id.parse().map_err(|_| {
        Problem::new(problem::MALFORMED_CURSOR, "The address of a message ends with its id.")
    })?;
    let before = app.log.read(&name, Range::Before(Place::Id(at)), NEIGHBOURS).await?;
    let from = before.messages.last().map_or(Place::Earliest, |last| Place::Id(last.id));
    let after = app.log.read(&name, Range::After(from), NEIGHBOURS).await?;
    let mut messages = before.messages;
    messages.extend(after.messages);
    let end = after.end.filter(|_| !after.more);
    Ok(Page::Archive { name, messages, at: Some(at), older: before.more, newer: after.more, end })
}

/// `POST /api/publish` and `POST /api/end`: the server functions, and what people see whose browser
/// sent the form by itself.
pub(super) async fn form(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Each byte of the text may take three in a form; the rest is for the names.
    let most = app.max_message_bytes.saturating_mul(3).saturating_add(1024);
    let person = wants_page(&parts);
    let body = match publish::read(&app, body, most).await {
        Ok(body) => body,
        Err(problem) => return refuse(&app, parts, problem, person).await,
    };
    let outcome = Arc::new(Mutex::new(None));
    let desk = desk(&app, &outcome);
    let request = Request::from_parts(parts.clone(), Body::from(body));
    let response =
        handle_server_fns_with_context(move || provide_context(desk.clone()), request).await;
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match outcome {
        Some(Outcome { stream, refused: None, .. }) if person => {
            Redirect::to(&format!("/streams/{stream}")).into_response()
        }
        Some(Outcome { refused: None, .. }) => response.into_response(),
        Some(Outcome { stream, draft: Some(text), refused: Some(problem) }) if person => {
            refused_message(&app, parts, &stream, text, problem).await
        }
        Some(Outcome { refused: Some(problem), .. }) => refuse(&app, parts, problem, person).await,
        None => {
            let problem = Problem::new(problem::MALFORMED_FORM, "Send the fields stream and text.");
            refuse(&app, parts, problem, person).await
        }
    }
}

/// Says why, to a person with a page.
async fn refuse(app: &App, parts: Parts, problem: Problem, person: bool) -> Response {
    if person {
        let request = Request::from_parts(parts, Body::empty());
        render_or_refuse(app, request, Err(problem)).await
    } else {
        problem.into_response()
    }
}

/// What came of a form.
struct Outcome {
    stream: String,
    /// The message that was to be published.
    draft: Option<String>,
    refused: Option<Problem>,
}

/// Where the server functions hand in what they are given.
fn desk(app: &App, outcome: &Arc<Mutex<Option<Outcome>>>) -> Desk {
    let note = {
        let outcome = Arc::clone(outcome);
        move |stream: String, draft: Option<String>, result: Result<EventId, Problem>| {
            let told = result.as_ref().copied().map_err(|problem| problem.detail().to_owned());
            let refused = result.err();
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Outcome { stream, draft, refused });
            told
        }
    };
    let (publisher, ender) = (app.clone(), app.clone());
    let noted = note.clone();
    Desk::new(
        move |stream, text| {
            let (app, note) = (publisher.clone(), note.clone());
            async move {
                let result = publish_text(&app, &stream, &text).await;
                note(stream, Some(text), result)
            }
        },
        move |stream, text| {
            let (app, note) = (ender.clone(), noted.clone());
            async move {
                let result = end_with_text(&app, &stream, &text).await;
                note(stream, None, result)
            }
        },
    )
}

async fn publish_text(app: &App, stream: &str, text: &str) -> Result<EventId, Problem> {
    let name = stream.parse().map_err(|_| malformed_name())?;
    let data = publish::data(app, text.into())?;
    Ok(publish::message(app, name, data, None).await?.last)
}

async fn end_with_text(app: &App, stream: &str, text: &str) -> Result<EventId, Problem> {
    let name = stream.parse().map_err(|_| malformed_name())?;
    end::stream_end(app, name, end::closing_text(app, text.into())?).await
}

/// The page that a message came from, with what was written, and why it was refused.
async fn refused_message(
    app: &App,
    mut parts: Parts,
    stream: &str,
    text: String,
    problem: Problem,
) -> Response {
    // The views go by the address: this one is the stream's, whatever the form was sent to.
    let address = Uri::try_from(format!("/streams/{stream}"));
    let (Ok(name), Ok(address)) = (stream.parse(), address) else {
        return refuse(app, parts, problem, true).await;
    };
    (parts.method, parts.uri) = (Method::GET, address);
    let draft = Draft { text, problem: problem.detail().to_owned() };
    let page = newest(app, name, Some(draft)).await;
    let response = render_or_refuse(app, Request::from_parts(parts, Body::empty()), page).await;
    refusing(response, &problem)
}

async fn render_or_refuse(app: &App, request: Request, page: Result<Page, Problem>) -> Response {
    let problem = match page {
        Ok(page) => return render(app, request, page).await,
        Err(problem) => problem,
    };
    let (title, detail) = (problem.title().to_owned(), problem.detail().to_owned());
    let response = render(app, request, Page::Refused { title, detail }).await;
    refusing(response, &problem)
}

/// A page that says what the problem is, as the answer that the problem is.
fn refusing(mut page: Response, problem: &Problem) -> Response {
    *page.status_mut() = problem.status();
    page.extensions_mut().insert(problem.kind());
    page
}

async fn render(app: &App, request: Request, page: Page) -> Response {
    let watched = app.site.is_watched();
    // What a page is told about the visit it is rendered for, and the headers it leaves with.
    let visit = move || {
        let response = expect_context::<ResponseOptions>();
        response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let policy = use_nonce().map(|nonce| headers::content_security_policy(&nonce, watched));
        if let Some(Ok(policy)) = policy {
            response.insert_header(header::CONTENT_SECURITY_POLICY, policy);
        }
        let parts = expect_context::<Parts>();
        provide_context(Visit { host: host(&parts), page: page.clone() });
    };
    let options = app.site.leptos_options().clone();
    let shell = move || app::shell(options.clone()).into_any();
    render_app_async_with_context(visit, shell)(request).await
}

/// Whether a person is waiting. A request without a path, `GET host:80`, is not a browser's, and
/// `leptos_axum` would panic.
pub(super) fn wants_page(parts: &Parts) -> bool {
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
