//! The cookie in which a browser keeps its token. Scripts can not read it, and no page of another
//! site has it sent when it writes.

use axum::http::{HeaderMap, HeaderValue, header::InvalidHeaderValue};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};

const NAME: &str = "tidings";

/// The token that a browser sends; empty once it has signed out.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    CookieJar::from_headers(headers).get(NAME).map(|cookie| cookie.value().to_owned())
}

/// Whether there is one, of whatever worth: then it is a page of ours that asks.
pub(in crate::server) fn is_there(headers: &HeaderMap) -> bool {
    token(headers).is_some()
}

/// The header that has a browser keep a token, as long as it keeps any cookie: longer than the
/// token is good, so that a page can be told that it has expired.
pub(in crate::server) fn signed_in(
    token: &str,
    secure: bool,
) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut cookie = cookie(token, secure);
    cookie.make_permanent();
    HeaderValue::try_from(cookie.to_string())
}

/// The header that takes it away. An empty cookie stays until the browser is closed: it tells pages
/// in other tabs that they are signed out.
pub(in crate::server) fn signed_out(secure: bool) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::try_from(cookie("", secure).to_string())
}

fn cookie(token: &str, secure: bool) -> Cookie<'_> {
    let cookie = Cookie::build((NAME, token)).path("/").secure(secure);
    cookie.http_only(true).same_site(SameSite::Lax).build()
}
