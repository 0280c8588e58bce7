//! Security headers: content security policy, HSTS and the like.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header, header::InvalidHeaderValue},
    response::Response,
};

use super::cors::Origin;

/// HSTS: tells browsers to use only TLS for `age`. Sent over TLS only (RFC 6797, section 7.2).
pub(crate) fn strict_transport_security(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", age.as_secs()))
        .unwrap_or(HeaderValue::from_static("max-age=0"))
}

/// Which pages may show those of this server in a frame; a cheap clone. `None`: no page.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameAncestors(Option<Arc<str>>);

impl FrameAncestors {
    /// Allows the pages of these origins.
    pub(crate) fn new(origins: &[Origin]) -> Self {
        let sources: Vec<_> = origins.iter().map(Origin::as_str).collect();
        Self((!sources.is_empty()).then(|| sources.join(" ").into()))
    }

    /// The source list of the directive `frame-ancestors` (CSP 3, section 6.4.2.1).
    fn sources(&self) -> &str {
        self.0.as_deref().unwrap_or("'none'")
    }
}

/// What the security headers depend on.
#[derive(Clone, Debug)]
pub(crate) struct SecurityHeaders {
    /// HSTS, if it is sent.
    pub(crate) https_only: Option<HeaderValue>,
    /// The policy of responses that are no pages.
    policy: HeaderValue,
    /// `None` where pages may be framed: the header could not name by which (RFC 7034).
    frame_options: Option<HeaderValue>,
}

impl SecurityHeaders {
    pub(crate) fn new(https_only: Option<HeaderValue>, frame_ancestors: &FrameAncestors) -> Self {
        let policy = format!("default-src 'none'; frame-ancestors {}", frame_ancestors.sources());
        // Not reached: an origin is valid in a header.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(FRAMELESS));
        let frame_options = frame_ancestors.0.is_none().then_some(HeaderValue::from_static("DENY"));
        Self { https_only, policy, frame_options }
    }
}

const FRAMELESS: &str = "default-src 'none'; frame-ancestors 'none'";

/// Middleware that adds security headers. It keeps those that a response sets itself, except HSTS.
pub(crate) async fn add(
    State(security): State<SecurityHeaders>,
    mut response: Response,
) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    let SecurityHeaders { https_only, policy, frame_options } = security;
    response.headers_mut().entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(value) = frame_options {
        response.headers_mut().entry(header::X_FRAME_OPTIONS).or_insert(value);
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
    frame_ancestors: &FrameAncestors,
) -> Result<HeaderValue, InvalidHeaderValue> {
    let reload = if watched { " ws:" } else { "" };
    let frame_ancestors = frame_ancestors.sources();
    HeaderValue::try_from(format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; \
         style-src 'self' 'nonce-{nonce}'; img-src 'self'; connect-src 'self'{reload}; base-uri 'none'; \
         form-action 'self'; frame-ancestors {frame_ancestors}"
    ))
}
