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

/// The security headers of every response; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct SecurityHeaders {
    /// HSTS, if it is sent.
    https_only: Option<HeaderValue>,
    /// The others, for responses that do not set them themselves.
    defaults: Arc<[(HeaderName, HeaderValue)]>,
}

impl SecurityHeaders {
    pub(crate) fn new(https_only: Option<HeaderValue>, frame_ancestors: &FrameAncestors) -> Self {
        let text = HeaderValue::from_static;
        let policy = format!("default-src 'none'; frame-ancestors {}", frame_ancestors.sources());
        // Not reached: an origin is valid in a header.
        let policy = HeaderValue::try_from(policy).unwrap_or(text("default-src 'none'"));
        // It cannot name an origin (RFC 7034), and would forbid what the policy allows.
        let frame_options = frame_ancestors.0.is_none();
        let frame_options = frame_options.then(|| (header::X_FRAME_OPTIONS, text("DENY")));
        let defaults = [
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, text("nosniff")),
        ];
        let others = [
            (header::REFERRER_POLICY, text("same-origin")),
            (HeaderName::from_static("cross-origin-resource-policy"), text("same-origin")),
            (
                HeaderName::from_static("permissions-policy"),
                text("camera=(), geolocation=(), microphone=()"),
            ),
        ];
        let defaults = defaults.into_iter().chain(frame_options).chain(others).collect();
        Self { https_only, defaults }
    }
}

/// Middleware that adds security headers. It keeps those that a response sets itself, except HSTS.
pub(crate) async fn add(
    State(SecurityHeaders { https_only, defaults }): State<SecurityHeaders>,
    mut response: Response,
) -> Response {
    for (name, value) in &*defaults {
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
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
