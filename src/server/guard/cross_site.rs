//! CSRF protection: refuses writes that a page of another site sends through a visitor's browser.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::Access;
use crate::{problem, server::error::Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Middleware that refuses writes from pages of other sites. Newer browsers send `Sec-Fetch-Site`, and
/// all send the page's `Origin`; programs send neither.
///
/// The very oldest browsers send neither with a form. `SameSite=Lax` keeps the cookie out of such a
/// request; where the cookie is not `Lax` (`--partitioned-cookies`), a write that has it must say where it
/// comes from.
pub(crate) async fn refuse(State(access): State<Access>, request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !reads && is_cross_site(request.headers(), access.cookies_are_cross_site()) {
        return refusal().into_response();
    }
    next.run(request).await
}

/// Refuses a request of a page of another site, where a method that usually reads writes.
///
/// # Errors
/// When it comes from such a page.
pub(crate) fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    if is_cross_site(headers, true) { Err(refusal()) } else { Ok(()) }
}

fn refusal() -> Problem {
    Problem::new(problem::CROSS_SITE, "Publish from a page of this server, or from a program.")
}

/// `cookies_are_cross_site`: whether browsers may send cookies with requests of other sites' pages.
fn is_cross_site(headers: &HeaderMap, cookies_are_cross_site: bool) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(SEC_FETCH_SITE), text(header::ORIGIN)) {
        (Some(site), _) => !["same-origin", "none"].contains(&site),
        (None, Some(origin)) => !is_origin_of(origin, text(header::HOST).unwrap_or_default()),
        (None, None) => cookies_are_cross_site && headers.contains_key(header::COOKIE),
    }
}

/// Whether an origin is that of a host. Ignores case, and the default port of the origin's scheme.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let default_port = match origin.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => ":443",
        Some(_) => ":80",
        None => return false,
    };
    let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
    let without_default_port =
        |host: &'_ str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    without_default_port(origin) == without_default_port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_matches_its_host_in_any_spelling() {
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
