//! Every route and layer. The routes of pages are those of the app's router.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::FromRef as _,
    middleware::{from_fn, from_fn_with_state, map_response_with_state},
    routing::{get, post},
};
use tower::ServiceBuilder;
use tower_http::{
    decompression::{DecompressionBody, RequestDecompressionLayer},
    normalize_path::NormalizePath,
};

use super::{
    api::{
        content_encoding, counter, delete, end, health, history, ntfy, publish,
        response::{self, PAGE_COST, Responses},
        syndication, watch, webhook,
    },
    client::{self, TrustedProxies},
    config::Config,
    error::Problem,
    guard::{
        Access, AllowedHosts, MemoryBudget, allowed_hosts, cors, cross_site, request_limit,
        security_headers::{self, FrameAncestors, SecurityHeaders},
    },
    mount::mount,
    net::unread_body,
    observe::{Metrics, request_log},
    openapi,
    pages::{self, explain, files, forms, sign_in},
    site::Site,
    state::App,
};
use crate::problem;

pub(crate) fn router(app: &App, config: &Config, trusted: &TrustedProxies) -> Router {
    let allow_origin = &config.allow_origin;
    let hsts = config.tls.hsts.map(|age| security_headers::strict_transport_security(age.0));
    let security = SecurityHeaders::new(hsts, &FrameAncestors::new(&config.frame_ancestors));
    let limited = from_fn_with_state(app.clone(), request_limit::limit_concurrency);
    let reads = |cost| from_fn_with_state((Responses::from_ref(app), cost), response::limit_reads);
    let decoding = ServiceBuilder::new()
        .map_request(content_encoding::normalize)
        .map_response(content_encoding::unsupported)
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: axum::http::Request<DecompressionBody<Body>>| {
            request.map(Body::new)
        });
    // JSON, as to an ntfy server.
    let notify = || post(ntfy::publish_json).put(ntfy::publish_json);
    // What pages of other origins may read, if they are allowed to.
    let reading = Router::new()
        .route(counter::PATH, get(counter::stream))
        .route(pages::STREAMS, get(pages::streams).merge(notify().layer(decoding.clone())))
        .route("/streams/{name}/events", get(watch::watch))
        .route("/streams/{name}/messages", get(history::history).route_layer(reads(PAGE_COST)))
        .route("/streams/{name}/feed.atom", get(syndication::atom).route_layer(reads(PAGE_COST)))
        .route("/streams/{name}/feed.json", get(syndication::json).route_layer(reads(PAGE_COST)))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route(openapi::PATH, get(openapi::document))
        // Within the layer below, which answers the question that browsers ask with OPTIONS.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(limited.clone());
    let reading =
        if allow_origin.is_empty() { reading } else { reading.layer(cors::layer(allow_origin)) };

    let pages = pages::paths(&Arc::<Site>::from_ref(app));
    let others = pages
        .iter()
        .filter(|path| path.path() != pages::STREAMS)
        .fold(Router::new(), |router, path| router.route(path.path(), get(pages::page)))
        .route(
            "/streams/{name}",
            post(publish::publish).put(publish::publish).delete(delete::delete),
        )
        .route("/streams/{name}/end", post(end::end))
        .route("/streams/{name}/webhook", post(webhook::webhook))
        // As to an ntfy server.
        .route("/", notify())
        .route(
            request_log::FILE_OR_TOPIC,
            get(files::file_or_not_found).post(ntfy::publish).put(ntfy::publish),
        )
        .route("/{topic}/publish", get(ntfy::publish_by_get))
        .route("/{topic}/send", get(ntfy::publish_by_get))
        .route("/{topic}/trigger", get(ntfy::publish_by_get))
        .route("/api/publish", post(forms::publish))
        .route("/api/end", post(forms::end))
        .route(sign_in::SIGN_IN, post(sign_in::sign_in))
        .route(sign_in::SIGN_OUT, post(sign_in::sign_out))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(files::file_or_not_found)
        .layer(decoding)
        .layer(limited.clone());
    let outside = Router::new().fallback(files::outside).layer(limited);

    let layered = |routes: Router<App>| {
        routes
            .layer(from_fn_with_state(Access::from_ref(app), cross_site::refuse))
            .layer(from_fn_with_state(
                AllowedHosts::new(config.access.allowed_hosts()),
                allowed_hosts::refuse_unknown_hosts,
            ))
            .layer(from_fn(explain::explain_refusals))
            .layer(map_response_with_state(security.clone(), security_headers::add))
            .layer(from_fn_with_state(
                (Metrics::from_ref(app), trusted.clone()),
                request_log::log_request,
            ))
            .layer(from_fn_with_state(MemoryBudget::from_ref(app), unread_body::discard_unread))
            .layer(from_fn_with_state(trusted.clone(), client::set_client))
            .with_state(app.clone())
    };
    // A trailing slash is not another address.
    let inside = NormalizePath::trim_trailing_slash(layered(others.merge(reading)));
    mount(config.base_path(), inside, layered(outside))
}

async fn method_not_allowed() -> Problem {
    Problem::new(problem::METHOD_NOT_ALLOWED, "Use a method that the allow header names.")
}
