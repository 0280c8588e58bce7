//! Every route and layer; the only place where the server meets the app.

use std::io::ErrorKind;

use axum::{
    Router,
    body::Body,
    extract::{FromRef, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use leptos::{
    config::LeptosOptions,
    nonce::use_nonce,
    prelude::{AnyView, IntoAny as _, expect_context, provide_context},
};
use leptos_axum::{LeptosRoutes as _, ResponseOptions, generate_route_list};
use tower_http::{services::ServeDir, trace::TraceLayer};
use tracing::Span;

use super::{
    App, config::Origin, counter, delete, end, error::Problem, headers, health, history, publish,
    site, watch,
};
use crate::{
    app::{self, Visit},
    problem,
};

pub(super) fn router(app: App, allow_origin: &[Origin]) -> Router {
    let pages = generate_route_list(app::App);
    let api = Router::new()
        .route(counter::PATH, get(counter::stream))
        .route("/streams/{name}", post(publish::publish).delete(delete::delete))
        .route("/streams/{name}/end", post(end::end))
        .route("/streams/{name}/events", get(watch::watch))
        .route("/streams/{name}/messages", get(history::history))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        // Within the layer below, which answers the question that browsers ask with OPTIONS.
        .method_not_allowed_fallback(method_not_allowed);
    let api = if allow_origin.is_empty() { api } else { api.layer(headers::cors(allow_origin)) };

    Router::new()
        .merge(api)
        .leptos_routes_with_context(&app, pages, visit(&app), shell(&app))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(file_or_not_found)
        .layer(map_response(headers::security))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
        .with_state(app)
}

/// What the log says a request was: its route, not its address, so that requests can be counted.
/// What fails is logged where it is handled, with its cause.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    tracing::debug_span!("request", method = %request.method(), route)
}

impl FromRef<App> for LeptosOptions {
    fn from_ref(app: &App) -> Self {
        app.site.leptos_options().clone()
    }
}

/// The document around every page.
fn shell(app: &App) -> impl Fn() -> AnyView + Clone + Send + use<> {
    let options = app.site.leptos_options().clone();
    move || app::shell(options.clone()).into_any()
}

/// What a page is told about the visit it is rendered for, and the headers it leaves with.
fn visit(app: &App) -> impl Fn() + Clone + Send + use<> {
    let counter = app.counter;
    let watched = std::env::var_os("LEPTOS_WATCH").is_some();
    move || {
        let response = expect_context::<ResponseOptions>();
        response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let policy = use_nonce().map(|nonce| headers::content_security_policy(&nonce, watched));
        if let Some(Ok(policy)) = policy {
            response.insert_header(header::CONTENT_SECURITY_POLICY, policy);
        }
        let parts = expect_context::<Parts>();
        provide_context(Visit { host: host(&parts), snapshot: counter.snapshot() });
    }
}

/// The server's name and port, as this visitor wrote them: for a command that people copy, and so
/// nothing that a shell could take for more than a name.
fn host(parts: &Parts) -> String {
    let header = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| parts.uri.authority().map(Authority::as_str));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    host.filter(|host| host.chars().all(plain)).unwrap_or("localhost").to_owned()
}

/// A file of the site; else the answer to whoever asked for what is not there: a page for people,
/// a problem for programs.
async fn file_or_not_found(State(app): State<App>, request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_found();
    }
    let (parts, body) = request.into_parts();
    let file = ServeDir::new(app.site.root())
        .precompressed_br()
        .precompressed_gzip()
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
            tracing::error!(%error, path = parts.uri.path(), "a file of the site can not be read");
            Problem::new(
                problem::INTERNAL,
                "Try again; whoever runs the server finds the cause in its log.",
            )
            .into_response()
        }
        _ if wants_page(&parts) => {
            let render = leptos_axum::render_app_async_with_context(visit(&app), shell(&app));
            let mut page = render(Request::from_parts(parts, body)).await;
            *page.status_mut() = StatusCode::NOT_FOUND;
            page
        }
        _ => not_found(),
    }
}

/// Whether a person is waiting. A request without a path, `GET host:80`, is not a browser's, and
/// `leptos_axum` would panic.
fn wants_page(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    parts.uri.path_and_query().is_some()
        && accept.is_some_and(|accept| accept.contains("text/html"))
}

fn not_found() -> Response {
    Problem::new(problem::NOT_FOUND, "Check the address; the page at / is where to begin.")
        .into_response()
}

async fn method_not_allowed() -> Problem {
    Problem::new(problem::METHOD_NOT_ALLOWED, "Use a method that the allow header names.")
}
