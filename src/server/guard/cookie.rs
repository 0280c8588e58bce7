//! The cookie that holds a browser's token: `HttpOnly`, so that scripts cannot read it, and
//! `SameSite=Lax`, so that a browser does not send it with writes from other sites.
//!
//! In a frame of another site a browser sends no such cookie. With `--partitioned-cookies` it is
//! `SameSite=None; Partitioned` (CHIPS): the browser keeps one for each site that has the frame, and sends
//! it only there. It sends it with writes of that site's own pages too, which `cross_site` refuses.
//!
//! Browsers share cookies among all ports of a host. So the name holds a fingerprint of the secret: two
//! servers on one host do not overwrite each other's cookie.

use axum::http::{HeaderMap, HeaderValue};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};

use super::token::{Secret, fingerprint};

/// A cookie with this prefix can only be set over TLS (RFC 6265bis, section 4.1.3).
const HOST_PREFIX: &str = "__Host-";
/// The most bytes of a cookie's name and value together that browsers store (RFC 6265bis, section 5.6).
const MAX_COOKIE_BYTES: usize = 4096;

/// The names of token cookies.
pub(super) struct CookieNames {
    /// For the current secret, then for the previous one.
    names: Vec<String>,
    /// Whether cookies that are set over TLS are partitioned.
    partitioned: bool,
}

/// The token is too large for a cookie.
pub(super) struct TokenTooLarge {
    /// How many bytes it may have.
    pub(super) max: usize,
}

impl CookieNames {
    pub(super) fn new(secrets: &[Secret], partitioned: bool) -> anyhow::Result<Self> {
        let name = |secret| Ok(format!("tidings-{}", fingerprint(secret)?));
        Ok(Self { names: secrets.iter().map(name).collect::<anyhow::Result<_>>()?, partitioned })
    }

    /// Whether browsers may send these cookies with requests of other sites' pages.
    pub(super) fn are_cross_site(&self) -> bool {
        self.partitioned
    }

    /// The token in a browser's cookie, which is empty after it has signed out. Over TLS, only a cookie
    /// with the prefix counts: any other may have been set by an attacker on the network, or by another
    /// host of the domain.
    pub(super) fn token(&self, headers: &HeaderMap, secure: bool) -> Option<String> {
        let jar = CookieJar::from_headers(headers);
        let mut names = self.all().filter(|name| !secure || name.starts_with(HOST_PREFIX));
        let name = names.find(|name| jar.get(name).is_some())?;
        jar.get(&name).map(|cookie| cookie.value().to_owned())
    }

    /// The `Set-Cookie` headers for a token. The cookie is permanent, so that it outlives the token and
    /// the server can report that the token has expired.
    pub(super) fn set_cookies(
        &self,
        token: &str,
        secure: bool,
    ) -> Result<Vec<HeaderValue>, TokenTooLarge> {
        let name = self.current_name(secure);
        let max = MAX_COOKIE_BYTES.saturating_sub(name.len());
        if token.len() > max {
            return Err(TokenTooLarge { max });
        }
        let mut cookie = self.cookie(name.clone(), token.to_owned(), secure);
        cookie.make_permanent();
        // Not reached: a verified token is valid in a header.
        let cookie =
            HeaderValue::try_from(cookie.to_string()).map_err(|_| TokenTooLarge { max })?;
        Ok(self.unpartitioned(&name).into_iter().chain([cookie]).collect())
    }

    /// The `Set-Cookie` headers that clear the token. They leave an empty session cookie, from which
    /// requests of other tabs show that they are signed out.
    pub(super) fn clear_cookies(&self, headers: &HeaderMap, secure: bool) -> Vec<HeaderValue> {
        let jar = CookieJar::from_headers(headers);
        let current_name = self.current_name(secure);
        let names = self.all().filter(|name| *name == current_name || jar.get(name).is_some());
        let empty = |name: String| {
            let secure = secure || name.starts_with(HOST_PREFIX);
            let unpartitioned = self.unpartitioned(&name);
            let cookie = self.cookie(name, String::new(), secure).to_string();
            unpartitioned.into_iter().chain(HeaderValue::try_from(cookie).ok())
        };
        names.flat_map(empty).collect()
    }

    /// With partitioned cookies, the `Set-Cookie` header that removes the cookie of this name which was
    /// set without them: a browser would send both, also after signing out.
    fn unpartitioned(&self, name: &str) -> Option<HeaderValue> {
        let is_needed = self.partitioned && name.starts_with(HOST_PREFIX);
        let mut cookie = lax(name.to_owned(), String::new(), true);
        cookie.make_removal();
        is_needed.then(|| HeaderValue::try_from(cookie.to_string()).ok())?
    }

    fn cookie(&self, name: String, token: String, secure: bool) -> Cookie<'static> {
        let mut cookie = lax(name, token, secure);
        // Browsers accept `SameSite=None` and `Partitioned` only together with `Secure`.
        if self.partitioned && secure {
            cookie.set_same_site(SameSite::None);
            cookie.set_partitioned(true);
        }
        cookie
    }

    /// The name of the cookie that signing in sets.
    pub(super) fn current_name(&self, secure: bool) -> String {
        let name = self.names.first().map_or("tidings", String::as_str);
        if secure { format!("{HOST_PREFIX}{name}") } else { name.to_owned() }
    }

    /// All names of token cookies, in order of preference.
    fn all(&self) -> impl Iterator<Item = String> {
        self.names.iter().flat_map(|name| [format!("{HOST_PREFIX}{name}"), name.clone()])
    }
}

fn lax(name: String, token: String, secure: bool) -> Cookie<'static> {
    let cookie = Cookie::build((name, token)).path("/").secure(secure);
    cookie.http_only(true).same_site(SameSite::Lax).build()
}
