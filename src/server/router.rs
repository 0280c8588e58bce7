//! Every route and layer.

use std::io::ErrorKind;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header, request::Parts},
    middleware::{from_fn, from_fn_with_state, map_response_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower::ServiceBuilder;
use tower_http::{
    decompression::{DecompressionBody, RequestDecompressionLayer},
    normalize_path::NormalizePath,
    services::ServeDir,
};

use super::{
    App,
    answer::{self, LIST_COST, PAGE_COST},
    client::{self, Client, Trusted},
    config::Config,
    counter, delete, encoding, end,
    error::Problem,
    headers, health, history,
    host::{self, AllowedHosts},
    pages, publish, request, site, unread, watch,
};
use crate::problem;

pub(super) fn router(app: App, config: &Config, trusted: Trusted) -> Router {
    let allow_origin = &config.allow_origin;
    let https_only = config.tls.hsts.map(headers::strict_transport_security);
    pages::init();
    // What pages of other origins may read, if they are allowed to.
    let limited = from_fn_with_state(app.clone(), request::limit_concurrency);
    let reads = |cost| from_fn_with_state((app.clone(), cost), answer::limit_reads);
    let reading = Router::new()
        .route(counter::PATH, get(counter::stream))
        .route("/streams/{name}/events", get(watch::watch))
        .route("/streams/{name}/messages", get(history::history).route_layer(reads(PAGE_COST)))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        // Within the layer below, which answers the question that browsers ask with OPTIONS.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(limited.clone());
    let reading =
        if allow_origin.is_empty() { reading } else { reading.layer(headers::cors(allow_origin)) };

    let decoding = ServiceBuilder::new()
        .map_request(encoding::normalize)
        .map_response(encoding::unsupported)
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: axum::http::Request<DecompressionBody<Body>>| {
            request.map(Body::new)
        });
    let others = Router::new()
        .route("/", get(pages::counter).route_layer(reads(PAGE_COST)))
        .route("/problems", get(pages::text).route_layer(reads(PAGE_COST)))
        .route("/sign-in", get(pages::sign_in_page).route_layer(reads(PAGE_COST)))
        .route("/streams", get(pages::streams).route_layer(reads(LIST_COST)))
        .route(
            "/streams/{name}",
            get(pages::stream)
                .route_layer(reads(PAGE_COST))
                .post(publish::publish)
                .put(publish::publish)
                .delete(delete::delete),
        )
        .route("/streams/{name}/end", post(end::end))
        .route("/api/publish", post(pages::form))
        .route("/api/end", post(pages::form))
        .route("/api/sign-in", post(pages::sign_in))
        .route("/api/sign-out", post(pages::sign_out))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(file_or_not_found)
        .layer(decoding)
        .layer(limited);

    let router = others
        .merge(reading)
        .layer(from_fn(headers::same_site))
        .layer(from_fn_with_state(AllowedHosts::new(&config.access), host::known_host))
        .layer(from_fn(pages::explain_refusals))
        .layer(map_response_with_state(https_only, headers::security))
        .layer(from_fn_with_state((app.clone(), trusted.clone()), request::observed))
        .layer(from_fn_with_state(app.memory.clone(), unread::read_on))
        .layer(from_fn_with_state(trusted, client::identify))
        .with_state(app);
    // A trailing slash is not another address.
    Router::new().fallback_service(NormalizePath::trim_trailing_slash(router))
}

/// A file of the site; else the answer to whoever asked for what is not there: a page for people,
/// a problem for programs.
async fn file_or_not_found(State(app): State<App>, client: Client, request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_found();
    }
    let (parts, _) = request.into_parts();
    let accept_encoding = answer::accept_encoding(&parts.headers);
    let file = answer::file(&app, client, file(&app, &parts)).await;
    if file.status() != StatusCode::NOT_FOUND {
        return file;
    }
    if !pages::wants_page(&parts) {
        return not_found();
    }
    // Nothing is reserved piece by piece.
    drop(file);
    let page = pages::not_found(&app, Request::from_parts(parts, Body::empty()));
    answer::bounded(&app, client, accept_encoding, PAGE_COST, page).await
}

/// A file of the site, or a response that says that there is none.
async fn file(app: &App, parts: &Parts) -> Response {
    let file = ServeDir::new(app.site.root())
        .precompressed_br()
        .precompressed_gzip()
        .with_buf_chunk_size(answer::FILE_CHUNK)
        .append_index_html_on_directories(false)
        .try_call(Request::from_parts(parts.clone(), Body::empty()))
        .await;
    match file {
        Ok(response) if response.status() != StatusCode::NOT_FOUND => {
            let for_ever = app.site.is_hashed() && site::is_built(parts.uri.path());
            let caching = if for_ever { "public, max-age=31536000, immutable" } else { "no-cache" };
            let headers = [(header::CACHE_CONTROL, caching), (header::VARY, "accept-encoding")];
            (headers, response).into_response()
        }
        // A name that is too long, or that holds a NUL, is the name of nothing.
        Err(error)
            if ![ErrorKind::InvalidFilename, ErrorKind::InvalidInput].contains(&error.kind()) =>
        {
            tracing::error!(%error, "a file of the site can not be read");
            Problem::new(
                problem::INTERNAL,
                "Try again; whoever runs the server finds the cause in its log.",
            )
            .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn not_found() -> Response {
    let problem =
        Problem::new(problem::NOT_FOUND, "Check the address; the page at / is where to begin.");
    ([(header::VARY, "accept")], problem).into_response()
}

async fn method_not_allowed() -> Problem {
    Problem::new(problem::METHOD_NOT_ALLOWED, "Use a method that the allow header names.")
}
