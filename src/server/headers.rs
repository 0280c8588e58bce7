//! Headers that keep browsers from doing what nobody asked for.

use axum::{
    http::{HeaderName, HeaderValue, Method, header, header::InvalidHeaderValue},
    response::Response,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::config::Origin;

/// Which pages of other origins may listen.
pub(super) fn cors(allow_origin: &[Origin]) -> CorsLayer {
    let origins = allow_origin.iter().filter_map(|origin| match origin {
        Origin::Any => None,
        Origin::One(origin) => Some(origin.clone()),
    });
    let allowed = if allow_origin.contains(&Origin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins)
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET])
        .allow_headers([HeaderName::from_static("last-event-id"), header::CACHE_CONTROL])
}

/// What every response carries unless it says otherwise itself.
pub(super) async fn security(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Nothing but our own files and the two scripts that carry the nonce. Under `cargo leptos watch`
/// the page also listens for rebuilds, on a port of its own.
pub(super) fn content_security_policy(
    nonce: &str,
    watched: bool,
) -> Result<HeaderValue, InvalidHeaderValue> {
    let reload = if watched { " ws:" } else { "" };
    HeaderValue::try_from(format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; \
         style-src 'self'; img-src 'self'; connect-src 'self'{reload}; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    ))
}
