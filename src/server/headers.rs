//! Headers that keep browsers from doing what nobody asked for.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, header::InvalidHeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    config::{Age, Origin},
    error::Problem,
};
use crate::problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

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
        .expose_headers([
            header::LINK,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
        ])
        .allow_headers([
            HeaderName::from_static("last-event-id"),
            header::AUTHORIZATION,
            header::CACHE_CONTROL,
        ])
}

/// Refuses to let a page of another site write through the browser of whoever looks at it. Newer
/// browsers say where a request comes from, all of them name the page's origin; programs do neither.
pub(super) async fn same_site(request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !reads && is_cross_site(request.headers()) {
        let detail = "Publish from this server's own pages, or from a program.";
        return Problem::new(problem::CROSS_SITE, detail).into_response();
    }
    next.run(request).await
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(SEC_FETCH_SITE), text(header::ORIGIN)) {
        (Some(site), _) => !["same-origin", "none"].contains(&site),
        (None, Some(origin)) => !is_origin_of(origin, text(header::HOST).unwrap_or_default()),
        (None, None) => false,
    }
}

/// Whether an origin is that of a host, in whatever letters, and with or without the usual port of
/// the origin's scheme.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let usual_port = match origin.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => ":443",
        Some(_) => ":80",
        None => return false,
    };
    let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
    let without =
        |host: &'_ str| host.strip_suffix(usual_port).unwrap_or(host).to_ascii_lowercase();
    without(origin) == without(host)
}

/// Tells browsers to come over TLS only, for so long. Sent over TLS only (RFC 6797, section 7.2).
pub(super) fn strict_transport_security(age: Age) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", age.0.as_secs()))
        .unwrap_or(HeaderValue::from_static("max-age=0"))
}

/// What every response carries unless it says otherwise itself.
pub(super) async fn security(
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
pub(super) fn content_security_policy(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_several_spellings() {
        for (origin, host, same) in [
            ("http://h", "h", true),
            ("http://h", "h:80", true),
            ("http://h:80", "h", true),
            ("https://h", "h:443", true),
            ("http://H.Example", "h.example:80", true),
            ("HTTP://h:3000", "H:3000", true),
            ("http://[::1]", "[::1]:80", true),
            ("http://h", "h:443", false),
            ("https://h", "h:80", false),
            ("http://h:3000", "h", false),
            ("http://h.evil", "h", false),
            ("http://h:8080", "h:80", false),
            ("null", "h", false),
            ("null", "null", false),
        ] {
            assert_eq!(is_origin_of(origin, host), same, "{origin} {host}");
        }
    }
}
