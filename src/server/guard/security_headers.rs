//! Security headers: content security policy, HSTS and the like.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header, header::InvalidHeaderValue},
    response::Response,
};

/// Tells browsers to come over TLS only, for so long. Sent over TLS only (RFC 6797, section 7.2).
pub(crate) fn strict_transport_security(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", age.as_secs()))
        .unwrap_or(HeaderValue::from_static("max-age=0"))
}

/// What every response carries unless it says otherwise itself.
pub(crate) async fn add(
    State(https_only): State<Option<HeaderValue>>,
    mut response: Response,
) -> Response {
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
    if let Some(value) = https_only {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

/// Nothing but our own files, and the scripts and the style sheet that carry the nonce. Under
/// `cargo leptos watch` the page also listens for rebuilds, on a port of its own.
pub(crate) fn content_security_policy(
    nonce: &str,
    watched: bool,
) -> Result<HeaderValue, InvalidHeaderValue> {
    let reload = if watched { " ws:" } else { "" };
    HeaderValue::try_from(format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; \
         style-src 'self' 'nonce-{nonce}'; img-src 'self'; connect-src 'self'{reload}; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    ))
}
