//! The files of the built site: style sheet, wasm, script, and those of `public`.

use std::{io::ErrorKind, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use tower_http::services::ServeDir;

use super::{Loaded, Pages, wants_page};
use crate::{
    problem,
    server::{
        api::response::{self, PAGE_COST, Responses},
        client::Client,
        error::Problem,
        mount,
        site::{self, Site},
    },
};

/// A file of the site; without one a refusal: a page for browsers, a problem for programs.
pub(crate) async fn file_or_not_found(
    State(site): State<Arc<Site>>,
    State(responses): State<Responses>,
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_found();
    }
    let (parts, _) = request.into_parts();
    let file = responses.file(client, file(&site, &parts)).await;
    if file.status() != StatusCode::NOT_FOUND {
        return file;
    }
    if !wants_page(&parts) {
        return not_found();
    }
    // Its memory first: a request that reserves twice could wait for itself.
    drop(file);
    pages.respond(Request::from_parts(parts, Body::empty()), PAGE_COST, None).await
}

/// A file of the site, or `404`.
async fn file(site: &Site, parts: &Parts) -> Response {
    let file = ServeDir::new(site.root())
        .precompressed_br()
        .precompressed_gzip()
        .with_buf_chunk_size(response::FILE_CHUNK)
        .append_index_html_on_directories(false)
        .try_call(Request::from_parts(parts.clone(), Body::empty()))
        .await;
    match file {
        Ok(response) if response.status() != StatusCode::NOT_FOUND => {
            let for_ever = site.is_hashed() && site::is_built(parts.uri.path());
            let caching = if for_ever { "public, max-age=31536000, immutable" } else { "no-cache" };
            let headers = [(header::CACHE_CONTROL, caching), (header::VARY, "accept-encoding")];
            (headers, response).into_response()
        }
        // No file can have a name that is too long, or that holds a NUL.
        Err(error)
            if ![ErrorKind::InvalidFilename, ErrorKind::InvalidInput].contains(&error.kind()) =>
        {
            tracing::error!(%error, "a file of the site cannot be read");
            Problem::new(
                problem::INTERNAL,
                "Try again; the operator finds the cause in the log of the server.",
            )
            .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn not_found() -> Response {
    let start = mount::address("/");
    let detail = format!("Check the address; the page at {start} is where to begin.");
    ([(header::VARY, "accept")], Problem::new(problem::NOT_FOUND, detail)).into_response()
}

/// The refusal of a request outside of the base path: a page for browsers, a problem for programs.
pub(crate) async fn outside(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if ![Method::GET, Method::HEAD].contains(&parts.method) || !wants_page(&parts) {
        return not_found();
    }
    let detail = format!("This server has only what is below {}.", mount::address("/"));
    let problem = Problem::new(problem::NOT_FOUND, detail);
    let page = Loaded::new(Err(problem), mount::address("/"));
    pages.respond(Request::from_parts(parts, Body::empty()), PAGE_COST, Some(page)).await
}
