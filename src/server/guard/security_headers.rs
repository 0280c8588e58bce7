//! Security headers: content security policy, HSTS and the like.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header, header::InvalidHeaderValue},
    response::Response,
};

/// HSTS: tells browsers to use only TLS for `age`. Sent over TLS only (RFC 6797, section 7.2).
pub(crate) fn strict_transport_security(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", age.as_secs()))
        .unwrap_or(HeaderValue::from_static("max-age=0"))
}

/// Middleware that adds security headers. It keeps those that a response sets itself, except HSTS.
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

/// The content security policy of pages: only files of this server, and inline scripts and styles with
/// the nonce. `watched`: `cargo leptos watch` runs the server, and the page connects to its port for
/// reloads.
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
