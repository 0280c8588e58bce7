//! Every route and layer.

use std::{io::ErrorKind, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRef as _, Request, State},
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
    api::{
        content_encoding, counter, delete, end, health, history, publish,
        response::{self, PAGE_COST, Responses},
        watch,
    },
    client::{self, Client, TrustedProxies},
    config::Config,
    error::Problem,
    guard::{
        AllowedHosts, MemoryBudget, allowed_hosts, cors, cross_site, request_limit,
        security_headers,
    },
    net::unread_body,
    observe::{Metrics, request_log},
    pages::{self, Pages, explain, forms},
    site::{self, Site},
    state::App,
};
use crate::{app::sign_in, problem};

pub(crate) fn router(app: App, config: &Config, trusted: TrustedProxies) -> Router {
    let allow_origin = &config.allow_origin;
    let hsts = config.tls.hsts.map(|age| security_headers::strict_transport_security(age.0));
    let limited = from_fn_with_state(app.clone(), request_limit::limit_concurrency);
    let reads = |cost| from_fn_with_state((Responses::from_ref(&app), cost), response::limit_reads);
    // What pages of other origins may read, if they are allowed to.
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
        if allow_origin.is_empty() { reading } else { reading.layer(cors::layer(allow_origin)) };

    let decoding = ServiceBuilder::new()
        .map_request(content_encoding::normalize)
        .map_response(content_encoding::unsupported)
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: axum::http::Request<DecompressionBody<Body>>| {
            request.map(Body::new)
        });
    let pages = pages::paths(&Arc::<Site>::from_ref(&app));
    let others = pages
        .iter()
        .fold(Router::new(), |router, path| router.route(path.path(), get(pages::page)))
        .route(
            "/streams/{name}",
            post(publish::publish).put(publish::publish).delete(delete::delete),
        )
        .route("/streams/{name}/end", post(end::end))
        .route("/api/publish", post(forms::publish))
        .route("/api/end", post(forms::end))
        .route(sign_in::SIGN_IN, post(pages::sign_in::sign_in))
        .route(sign_in::SIGN_OUT, post(pages::sign_in::sign_out))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(file_or_not_found)
        .layer(decoding)
        .layer(limited);

    let router = others
        .merge(reading)
        .layer(from_fn(cross_site::refuse))
        .layer(from_fn_with_state(
            AllowedHosts::new(config.access.allowed_hosts()),
            allowed_hosts::refuse_others,
        ))
        .layer(from_fn(explain::explain_refusals))
        .layer(map_response_with_state(hsts, security_headers::add))
        .layer(from_fn_with_state(
            (Metrics::from_ref(&app), trusted.clone()),
            request_log::observed,
        ))
        .layer(from_fn_with_state(MemoryBudget::from_ref(&app), unread_body::read_on))
        .layer(from_fn_with_state(trusted, client::identify))
        .with_state(app);
    // A trailing slash is not another address.
    Router::new().fallback_service(NormalizePath::trim_trailing_slash(router))
}

/// A file of the site; else the answer to whoever asked for what is not there: a page for people,
/// a problem for programs.
async fn file_or_not_found(
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
    if !pages::wants_page(&parts) {
        return not_found();
    }
    // Nothing is reserved piece by piece.
    drop(file);
    pages.not_found(Request::from_parts(parts, Body::empty())).await
}

/// A file of the site, or a response that says that there is none.
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
