//! The cookie in which a browser keeps its token. Scripts cannot read it, and a page of another site
//! does not have it sent when it writes.
//!
//! A browser shares the cookies of a host among all its ports. So the name holds a fingerprint of the
//! secret: two servers of one host do not sign each other's users out.

use axum::http::{HeaderMap, HeaderValue};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};

use super::token::{Secret, fingerprint};

/// Only a server that is reached over TLS can set a cookie of such a name (RFC 6265bis, section 4.1.3).
const HOST_PREFIX: &str = "__Host-";
/// What browsers keep of a cookie, its name and its value together (RFC 6265bis, section 5.6).
const MAX_COOKIE_BYTES: usize = 4096;

/// The names of the cookies that hold our tokens.
pub(super) struct CookieNames {
    /// For the secret in use, then for the one before it.
    names: Vec<String>,
}

/// The token does not fit a cookie.
pub(super) struct TokenTooLarge {
    /// How many bytes it may have.
    pub(super) max: usize,
}

impl CookieNames {
    pub(super) fn new(secrets: &[Secret]) -> anyhow::Result<Self> {
        let name = |secret| Ok(format!("tidings-{}", fingerprint(secret)?));
        Ok(Self { names: secrets.iter().map(name).collect::<anyhow::Result<_>>()? })
    }

    /// The token that a browser sends; empty once it has signed out. Over TLS only a cookie with the
    /// prefix counts: any other may have been set by a third party on the way, or by another host of the
    /// domain.
    pub(super) fn token(&self, headers: &HeaderMap, secure: bool) -> Option<String> {
        let jar = CookieJar::from_headers(headers);
        let mut names = self.all().filter(|name| !secure || name.starts_with(HOST_PREFIX));
        let name = names.find(|name| jar.get(name).is_some())?;
        jar.get(&name).map(|cookie| cookie.value().to_owned())
    }

    /// The header that has a browser keep a token, as long as it keeps any cookie: longer than the
    /// token is good, so that a page can be told that it has expired.
    pub(super) fn keep(&self, token: &str, secure: bool) -> Result<HeaderValue, TokenTooLarge> {
        let name = self.in_use(secure);
        let max = MAX_COOKIE_BYTES.saturating_sub(name.len());
        if token.len() > max {
            return Err(TokenTooLarge { max });
        }
        let mut cookie = cookie(name, token.to_owned(), secure);
        cookie.make_permanent();
        // A token that was verified fits a header.
        HeaderValue::try_from(cookie.to_string()).map_err(|_| TokenTooLarge { max })
    }

    /// The headers that take it away. An empty cookie stays until the browser is closed: it tells
    /// pages in other tabs that they are signed out.
    pub(super) fn forget(&self, headers: &HeaderMap, secure: bool) -> Vec<HeaderValue> {
        let jar = CookieJar::from_headers(headers);
        let in_use = self.in_use(secure);
        let names = self.all().filter(|name| *name == in_use || jar.get(name).is_some());
        let empty = |name: String| {
            let secure = secure || name.starts_with(HOST_PREFIX);
            HeaderValue::try_from(cookie(name, String::new(), secure).to_string()).ok()
        };
        names.filter_map(empty).collect()
    }

    fn in_use(&self, secure: bool) -> String {
        let name = self.names.first().map_or("tidings", String::as_str);
        if secure { format!("{HOST_PREFIX}{name}") } else { name.to_owned() }
    }

    /// Every name under which a token may come, the best first.
    fn all(&self) -> impl Iterator<Item = String> {
        self.names.iter().flat_map(|name| [format!("{HOST_PREFIX}{name}"), name.clone()])
    }
}

fn cookie(name: String, token: String, secure: bool) -> Cookie<'static> {
    let cookie = Cookie::build((name, token)).path("/").secure(secure);
    cookie.http_only(true).same_site(SameSite::Lax).build()
}
