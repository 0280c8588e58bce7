//! Signing in and out.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, Method, Uri, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use leptos::prelude::provide_context;
use leptos_axum::handle_server_fns_with_context;
use serde::Deserialize;

use super::{Pages, render, wants_page};
use crate::{
    app::{Page, sign_in::Door},
    problem,
    server::{
        api::{
            body::ReadBody,
            response::{self, PAGE_COST},
        },
        client::Client,
        error::Problem,
        guard::{Identity, access},
    },
};

/// Where to go when a form does not say.
const HOME: &str = "/streams";
/// The most bytes of a form, which holds a token and a path.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct SignInQuery {
    to: Option<String>,
}

/// `GET /sign-in`
pub(crate) async fn sign_in_page(
    State(pages): State<Arc<Pages>>,
    afterwards: Result<Query<SignInQuery>, QueryRejection>,
    request: Request,
) -> Response {
    // A link that was cut short still leads to the form.
    let to = afterwards.ok().and_then(|Query(SignInQuery { to })| to);
    let to = to.as_deref().map_or(HOME, safe_local_path).to_owned();
    render(&pages, request, Page::SignIn { to, problem: None }).await
}

/// What came of a form.
struct Outcome {
    /// Where to go, as the form says it.
    to: String,
    /// The token that the browser is to keep, none to forget it; or why not.
    token: Result<Option<String>, Problem>,
}

/// `POST /api/sign-in`
pub(crate) async fn sign_in(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    if let Err(problem) = pages.limits.sign_in(client.address) {
        let (parts, _) = request.into_parts();
        return refused(&pages, parts, HOME, problem).await;
    }
    door(&pages, client, request).await
}

/// `POST /api/sign-out`
pub(crate) async fn sign_out(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    door(&pages, client, request).await
}

fn too_large() -> Problem {
    let detail = format!("A token with its form has at most {MAX_FORM_BYTES} bytes; is this one?");
    Problem::new(problem::MESSAGE_TOO_LARGE, detail)
}

/// Runs the server function that the form is for, and does what it says.
async fn door(pages: &Pages, client: Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let ReadBody { bytes, memory } =
        match pages.publishing.bodies.read(client, body, MAX_FORM_BYTES, too_large).await {
            Ok(body) => body,
            Err(problem) => return refused(pages, parts, HOME, problem).await,
        };
    let outcome = Arc::new(Mutex::new(None));
    let door = watched_door(pages, &outcome);
    let request = Request::from_parts(parts.clone(), Body::from(bytes));
    let response =
        handle_server_fns_with_context(move || provide_context(door.clone()), request).await;
    // Before a page that says why reserves memory of its own.
    drop(memory);
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Outcome { to, token }) = outcome else {
        let problem = Problem::new(problem::MALFORMED_FORM, "Send the fields token and to.");
        return refused(pages, parts, HOME, problem).await;
    };
    let cookies = match token {
        Ok(Some(token)) => pages.access.signed_in(&token, client.secure).map(|cookie| vec![cookie]),
        Ok(None) => Ok(pages.access.signed_out(&parts.headers, client.secure)),
        Err(problem) => Err(problem),
    };
    let cookies = match cookies {
        Ok(cookies) => cookies,
        Err(problem) => return refused(pages, parts, &to, problem).await,
    };
    let mut response = if wants_page(&parts) {
        Redirect::to(safe_local_path(&to)).into_response()
    } else {
        response.into_response()
    };
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A door that notes who went through.
fn watched_door(pages: &Pages, outcome: &Arc<Mutex<Option<Outcome>>>) -> Door {
    let (access, entry, exit) = (pages.access.clone(), Arc::clone(outcome), Arc::clone(outcome));
    let note = |at: &Mutex<Option<Outcome>>, outcome| {
        *at.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    };
    Door::new(
        move |token, to| {
            let token = match access.holder(&token) {
                Identity::Holder(_) => Ok(Some(token)),
                // Where nobody is asked, there is nothing to keep.
                Identity::Anyone => Ok(None),
                Identity::Guest(error) => Err(access::unauthorized(&error)),
            };
            let told = token.as_ref().map(drop).map_err(|problem| problem.detail().to_owned());
            note(&entry, Outcome { to, token });
            async move { told }
        },
        move |to| {
            note(&exit, Outcome { to, token: Ok(None) });
            async { Ok(()) }
        },
    )
}

/// Says why: to a person with the form once more.
async fn refused(pages: &Pages, mut parts: Parts, to: &str, problem: Problem) -> Response {
    if !wants_page(&parts) {
        return problem.into_response();
    }
    let problem = problem.for_page();
    let client = Client::of_request(&parts.extensions);
    let accept_encoding = response::accept_encoding(&parts.headers);
    // The views go by the address.
    (parts.method, parts.uri) = (Method::GET, Uri::from_static("/sign-in"));
    let page = Page::SignIn {
        to: safe_local_path(to).to_owned(),
        problem: Some(problem.detail().to_owned()),
    };
    let page = async {
        let mut response = render(pages, Request::from_parts(parts, Body::empty()), page).await;
        problem.apply_to(&mut response);
        response
    };
    pages.responses.bounded(client, accept_encoding, PAGE_COST, page).await
}

/// A path of this server: nobody is led elsewhere by a link to our form.
fn safe_local_path(to: &str) -> &str {
    // Browsers take a backslash for a slash, and leave out tabs and line breaks.
    let plain = to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if plain && to.starts_with('/') && !to.starts_with("//") { to } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for to in ["/", "/streams/ci?at=1-2", "/streams/a#b", "/a//b"] {
            assert_eq!(safe_local_path(to), to);
        }
        for to in [
            "",
            "//evil",
            "https://evil",
            "/\\evil",
            "\\\\evil",
            "/\t/evil",
            " //evil",
            "evil",
            "/ü",
            "/a\r\nb",
        ] {
            assert_eq!(safe_local_path(to), HOME, "{to:?}");
        }
    }
}
