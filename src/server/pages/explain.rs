//! Refusals for browsers: a page in place of JSON where no page could be rendered.

use axum::{
    extract::Request,
    http::{HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};

use super::wants_page;
use crate::{problem::Kind, server::mount};

/// Layer that replaces the JSON of a problem by a small page where a browser waits for a page, and none
/// could be rendered: the request was refused before, or there is no memory for a page.
pub(crate) async fn explain_refusals(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let is_browser = [Method::GET, Method::HEAD].contains(&parts.method) && wants_page(&parts);
    let response = next.run(Request::from_parts(parts, body)).await;
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/html"));
    let Some(kind) = response.extensions().get::<Kind>().copied() else {
        return response;
    };
    if !is_browser || is_page {
        return response;
    }
    let (title, meaning) = (kind.title, kind.meaning_below(&mount::base_path()));
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
