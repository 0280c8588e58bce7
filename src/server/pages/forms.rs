//! The forms of a stream's page: to publish, and to end.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, Uri, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use leptos::prelude::provide_context;
use leptos_axum::handle_server_fns_with_context;

use super::{Pages, newest, refuse, render_or_refuse, wants_page};
use crate::{
    app::{Draft, composer::Desk},
    message::EventId,
    problem,
    server::{
        api::{
            body::ReadBody,
            idempotency,
            publishing::Publishing,
            response::{self, PAGE_COST},
        },
        client::Client,
        error::Problem,
        guard::{Identity, MayPublish, MemoryPermit, access},
        log::IdempotencyKey,
        stream_path::malformed_name,
    },
};

/// `POST /api/publish` and `POST /api/end`: the server functions, and what people see whose browser
/// sent the form by itself.
pub(crate) async fn form(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let person = wants_page(&parts);
    let (ReadBody { bytes, memory }, key) = match read(&pages, &parts.headers, client, body).await {
        Ok(read) => read,
        Err(problem) => return refuse(&pages, parts, problem, person).await,
    };
    let (outcome, memory) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Some(memory))));
    let desk = desk(&pages, &parts.headers, client, key, &outcome, &memory);
    let request = Request::from_parts(parts.clone(), Body::from(bytes));
    let response =
        handle_server_fns_with_context(move || provide_context(desk.clone()), request).await;
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Nothing is reserved piece by piece: a page that says why needs memory of its own.
    drop(take(&memory));
    match outcome {
        Some(Outcome { stream, refused: None, .. }) if person => {
            Redirect::to(&format!("/streams/{stream}")).into_response()
        }
        Some(Outcome { refused: None, .. }) => response.into_response(),
        Some(Outcome { stream, draft, refused: Some(problem) }) if person => {
            let accept_encoding = response::accept_encoding(&parts.headers);
            let page = refused_form(&pages, parts, &stream, draft, problem);
            pages.responses.bounded(client, accept_encoding, PAGE_COST, page).await
        }
        Some(Outcome { refused: Some(problem), .. }) => problem.for_page().into_response(),
        None => {
            let problem = Problem::new(problem::MALFORMED_FORM, "Send the fields stream and text.");
            refuse(&pages, parts, problem, person).await
        }
    }
}

/// The fields of a form, and the key that makes sending it again harmless: the page sends one, a
/// browser without scripts does not.
async fn read(
    pages: &Pages,
    headers: &HeaderMap,
    client: Client,
    body: Body,
) -> Result<(ReadBody, Option<IdempotencyKey>), Problem> {
    let message = pages.publishing.max_message_bytes;
    // A line break may take six bytes in a form, any other byte three; the rest is for the names.
    let form = message.saturating_mul(6).saturating_add(1024);
    let visitor = pages.access.identify(headers, client);
    // What is long is read only for clients that may publish something.
    let max = if visitor.may_publish_somewhere() { form } else { 4096 };
    let too_large = || match visitor {
        Identity::Guest(error) => access::unauthorized(&error),
        Identity::Holder(ref claims) if claims.publish.is_empty() => {
            access::not_permitted(claims, "publish to, end or delete")
        }
        Identity::Anyone | Identity::Holder(_) => pages.publishing.too_large(),
    };
    let key = idempotency::key(headers)?;
    Ok((pages.publishing.bodies.read(client, body, max, too_large).await?, key))
}

/// What is reserved for a form, until it is handed on.
type FormMemory = Mutex<Option<MemoryPermit>>;

fn take(memory: &FormMemory) -> Option<MemoryPermit> {
    memory.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What came of a form.
struct Outcome {
    stream: String,
    /// The message that was to be published.
    draft: Option<String>,
    refused: Option<Problem>,
}

/// Where the server functions hand in what they are given.
fn desk(
    pages: &Arc<Pages>,
    headers: &HeaderMap,
    client: Client,
    key: Option<IdempotencyKey>,
    outcome: &Arc<Mutex<Option<Outcome>>>,
    memory: &Arc<FormMemory>,
) -> Desk {
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
    let may = {
        let (access, headers) = (pages.access.clone(), headers.clone());
        move |stream: &str| {
            let name = stream.parse().map_err(|_| malformed_name())?;
            MayPublish::check(&access, access.identify(&headers, client), client, name)
        }
    };
    let (publisher, ender, may_end) = (Arc::clone(pages), Arc::clone(pages), may.clone());
    let noted = note.clone();
    let (memory, memory_to_end) = (Arc::clone(memory), Arc::clone(memory));
    Desk::new(
        move |stream, text| {
            let (pages, note, may) = (publisher.clone(), note.clone(), may(&stream));
            let (key, memory) = (key.clone(), take(&memory));
            async move {
                let result = publish_text(&pages.publishing, may, &text, key, memory).await;
                note(stream, Some(text), result)
            }
        },
        move |stream, text| {
            let (pages, note, may) = (ender.clone(), noted.clone(), may_end(&stream));
            let memory = take(&memory_to_end);
            async move {
                let result = match may {
                    Ok(may) => pages.publishing.end(&may, text.into(), memory).await,
                    Err(problem) => Err(problem),
                };
                note(stream, None, result)
            }
        },
    )
}

async fn publish_text(
    publishing: &Publishing,
    may: Result<MayPublish, Problem>,
    text: &str,
    key: Option<IdempotencyKey>,
    memory: Option<MemoryPermit>,
) -> Result<EventId, Problem> {
    let may = may?;
    Ok(publishing.publish(&may, publishing.text(text.into())?, key, memory).await?.last)
}

/// Why a form was refused: where it was to publish, on the page that it came from, with what was
/// written.
async fn refused_form(
    pages: &Pages,
    mut parts: Parts,
    stream: &str,
    draft: Option<String>,
    problem: Problem,
) -> Response {
    let problem = problem.for_page();
    // The views go by the address, and so does who signs in: this one is the stream's, whatever the
    // form was sent to.
    let address = Uri::try_from(format!("/streams/{stream}"));
    let (Ok(name), Ok(address)) = (stream.parse(), address) else {
        let request = Request::from_parts(parts, Body::empty());
        return render_or_refuse(pages, request, Err(problem)).await;
    };
    (parts.method, parts.uri) = (Method::GET, address);
    let visitor = pages.access.identify(&parts.headers, Client::of_request(&parts.extensions));
    let page = match (draft, pages.access.watch(&visitor, &name)) {
        (Some(text), Ok(_)) => {
            let problem = problem.detail().to_owned();
            newest(pages, &visitor, name, Some(Draft { text, problem })).await
        }
        // Who may publish may not see what is there.
        _ => Err(problem.clone()),
    };
    let mut response =
        render_or_refuse(pages, Request::from_parts(parts, Body::empty()), page).await;
    problem.apply_to(&mut response);
    response
}
