//! Access control: authentication by bearer token or cookie, and authorization per stream.
//!
//! Without a secret there is no access control. With one, a client needs a token to publish, or to
//! watch a stream that is not public: a program sends it in the `Authorization` header, a browser in
//! a cookie. A handler needs a permission ([`MayPublish`], [`MayWatch`], [`MayWatchAll`]), which only
//! this module can make.

mod permission;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::headers::{
    Authorization, HeaderMapExt as _,
    authorization::{Basic, Bearer},
};
use tokio::time::Instant;

pub(crate) use self::permission::{MayPublish, MayWatch, MayWatchAll, Publisher};
use super::{
    cookie::{CookieNames, TokenTooLarge},
    token::{Claims, Keys, Pattern, Secret, TokenError},
    webhook::WebhookProof,
};
use crate::{
    message::StreamName,
    problem,
    server::{client::Client, clock::Clock, error::Problem, mount, observe::request_log},
};

/// The access rules; a cheap clone. `None`: no access control.
#[derive(Clone)]
pub struct Access(Option<Arc<Rules>>);

/// The rules of a server with a secret.
struct Rules {
    keys: Keys,
    /// From which the secrets of webhooks are derived, the current one first.
    secrets: Vec<Secret>,
    cookies: CookieNames,
    /// The streams that can be watched without a token.
    public: Vec<Pattern>,
    clock: Clock,
}

/// What the permission to publish permits, for the detail of a problem.
const PUBLISH: &str = "publish to, end or delete";

/// The identity of a client.
pub(crate) enum Identity {
    /// There is no access control.
    Unrestricted,
    /// The client has no valid token, for this reason.
    Anonymous(TokenError),
    /// The client has a valid token with these claims.
    Authenticated(Claims),
}

impl Access {
    /// Access rules that accept tokens signed with one of `secrets`, the current one first. Streams that
    /// match `public` can be watched without a token. Without secrets there is no access control.
    /// `partitioned_cookies`: visitors can sign in within frames of other sites.
    ///
    /// # Errors
    /// When a secret cannot be used.
    pub(crate) fn new(
        secrets: &[Secret],
        public: Vec<Pattern>,
        partitioned_cookies: bool,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        if secrets.is_empty() {
            return Ok(Self(None));
        }
        let cookies = CookieNames::new(secrets, partitioned_cookies)?;
        let (keys, secrets) = (Keys::new(secrets), secrets.to_vec());
        Ok(Self(Some(Arc::new(Rules { keys, secrets, cookies, public, clock }))))
    }

    /// Whether there is access control.
    pub(crate) fn is_restricted(&self) -> bool {
        self.0.is_some()
    }

    /// Whether some streams can be watched without a token.
    pub(crate) fn has_public_streams(&self) -> bool {
        self.0.as_ref().is_none_or(|rules| !rules.public.is_empty())
    }

    /// The name of the cookie that signing in sets over plain HTTP, if there is access control.
    pub(crate) fn cookie_name(&self) -> Option<String> {
        self.0.as_ref().map(|rules| rules.cookies.current_name(false))
    }

    /// The identity of the client that sent these headers. A token in the `Authorization` header takes
    /// precedence over one in the cookie.
    pub(crate) fn identify(&self, headers: &HeaderMap, client: Client) -> Identity {
        let Some(rules) = &self.0 else { return Identity::Unrestricted };
        if headers.contains_key(header::AUTHORIZATION) {
            return match authorization_token(headers) {
                Some(token) => self.verify(&token),
                None => Identity::Anonymous(TokenError::Invalid),
            };
        }
        match rules.cookies.token(headers, client.secure) {
            Some(token) if !token.is_empty() => self.verify(&token),
            _ => Identity::Anonymous(TokenError::Missing),
        }
    }

    /// Whether the client sent a token cookie, valid or not: then it is a page of this server.
    pub(crate) fn has_cookie(&self, headers: &HeaderMap, client: Client) -> bool {
        let token = |rules: &Arc<Rules>| rules.cookies.token(headers, client.secure);
        self.0.as_ref().and_then(token).is_some()
    }

    /// Whether browsers may send the token cookie with requests of other sites' pages.
    pub(super) fn cookies_are_cross_site(&self) -> bool {
        self.0.as_ref().is_some_and(|rules| rules.cookies.are_cross_site())
    }

    /// The `Set-Cookie` headers that store a token in a browser.
    ///
    /// # Errors
    /// When the token is too large for a cookie.
    pub(crate) fn sign_in_cookies(
        &self,
        token: &str,
        secure: bool,
    ) -> Result<Vec<HeaderValue>, Problem> {
        let Some(rules) = &self.0 else { return Err(unauthorized(&TokenError::Missing)) };
        rules.cookies.set_cookies(token, secure).map_err(|TokenTooLarge { max }| {
            let detail = format!(
                "Browsers store a token of at most {max} bytes, and this one has {}. Use a token \
                 with fewer stream names, or with patterns like ci-*.",
                token.len()
            );
            Problem::new(problem::TOKEN_TOO_LARGE, detail)
        })
    }

    /// The `Set-Cookie` headers that remove the token from a browser.
    pub(crate) fn sign_out_cookies(&self, headers: &HeaderMap, secure: bool) -> Vec<HeaderValue> {
        self.0
            .as_ref()
            .map(|rules| rules.cookies.clear_cookies(headers, secure))
            .unwrap_or_default()
    }

    /// Verifies a token, and puts its name into the request log.
    pub(crate) fn verify(&self, token: &str) -> Identity {
        let Some(rules) = &self.0 else { return Identity::Unrestricted };
        match rules.keys.verify(token, rules.clock.now()) {
            Ok(claims) => {
                request_log::record_identity(&claims.name);
                Identity::Authenticated(claims)
            }
            Err(error) => Identity::Anonymous(error),
        }
    }

    /// Checks the permission to watch a stream, and returns when it ends.
    pub(crate) fn watch(
        &self,
        identity: &Identity,
        stream: &StreamName,
    ) -> Result<Option<Instant>, Problem> {
        if self.is_public(stream) {
            return Ok(None);
        }
        self.allow(identity, stream, "watch", |claims| &claims.watch)
    }

    /// Whether a client may watch a stream. As [`watch`](Self::watch), but without the reasons, which take
    /// memory: for lists.
    pub(crate) fn may_watch(&self, identity: &Identity, stream: &StreamName) -> bool {
        self.is_public(stream)
            || match identity {
                Identity::Unrestricted => true,
                Identity::Anonymous(_) => false,
                Identity::Authenticated(claims) => {
                    claims.watch.iter().any(|pattern| pattern.matches(stream))
                }
            }
    }

    /// When the rights of a client end that it has beyond those of all clients.
    pub(crate) fn expires_at(&self, identity: &Identity) -> Option<Instant> {
        match identity {
            Identity::Unrestricted | Identity::Anonymous(_) => None,
            Identity::Authenticated(claims) => Some(self.expiry(claims)),
        }
    }

    /// Checks the permission to publish to a stream, and returns when it ends.
    pub(crate) fn publish(
        &self,
        identity: &Identity,
        stream: &StreamName,
    ) -> Result<Option<Instant>, Problem> {
        self.allow(identity, stream, PUBLISH, |claims| &claims.publish)
    }

    /// Checks what proves that `body` comes from the webhook of a stream.
    fn verify_webhook(
        &self,
        proof: WebhookProof,
        stream: &StreamName,
        body: &[u8],
    ) -> Result<(), Problem> {
        let Some(rules) = &self.0 else {
            let detail = "This server has no secret, and so cannot check a signature. Remove the \
                          secret from the settings of the webhook, or start the server with \
                          --secret-file.";
            return Err(Problem::new(problem::SIGNATURE_INVALID, detail));
        };
        if rules.secrets.iter().any(|secret| proof.is_valid(secret, stream, body)) {
            request_log::record_identity("webhook");
            return Ok(());
        }
        let detail = format!(
            "Give the webhook the secret that `tidings token --webhook {stream}` prints on the \
             server. A proxy in between must not change the payload."
        );
        Err(Problem::new(problem::SIGNATURE_INVALID, detail))
    }

    fn is_public(&self, stream: &StreamName) -> bool {
        let matches =
            |rules: &Arc<Rules>| rules.public.iter().any(|pattern| pattern.matches(stream));
        self.0.as_ref().is_none_or(matches)
    }

    fn allow(
        &self,
        identity: &Identity,
        stream: &StreamName,
        what: &str,
        patterns: impl FnOnce(&Claims) -> &Vec<Pattern>,
    ) -> Result<Option<Instant>, Problem> {
        match identity {
            Identity::Unrestricted => Ok(None),
            Identity::Anonymous(error) => Err(unauthorized(error)),
            Identity::Authenticated(claims)
                if patterns(claims).iter().any(|pattern| pattern.matches(stream)) =>
            {
                Ok(Some(self.expiry(claims)))
            }
            Identity::Authenticated(claims) => Err(not_permitted(claims, what)),
        }
    }

    /// When a token expires.
    fn expiry(&self, claims: &Claims) -> Instant {
        let now = self.0.as_ref().map_or(0, |rules| rules.clock.now());
        let left = Duration::from_millis(claims.exp.0.saturating_sub(now));
        // Timers cannot be set for much later. An event stream is closed after a year at the latest.
        Instant::now() + left.min(Duration::from_hours(24 * 365))
    }
}

/// The token in the `Authorization` header: as Bearer, or as the password of Basic with any user name,
/// which is all that some tools can send.
fn authorization_token(headers: &HeaderMap) -> Option<String> {
    if let Some(Authorization(bearer)) = headers.typed_get::<Authorization<Bearer>>() {
        return Some(bearer.token().to_owned());
    }
    let Authorization(basic) = headers.typed_get::<Authorization<Basic>>()?;
    Some(basic.password().to_owned())
}

impl Identity {
    /// A number for what the client may watch, equal for equal rights while this process runs.
    pub(crate) fn watch_fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Self::Authenticated(claims) = self {
            for pattern in &claims.watch {
                String::from(pattern.clone()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Whether the client may publish to any stream.
    pub(crate) fn may_publish_somewhere(&self) -> bool {
        match self {
            Self::Unrestricted => true,
            Self::Anonymous(_) => false,
            Self::Authenticated(claims) => !claims.publish.is_empty(),
        }
    }

    /// The problem for a client that may not publish to any stream.
    pub(crate) fn refuse_publishing(&self) -> Option<Problem> {
        match self {
            Self::Anonymous(error) => Some(unauthorized(error)),
            Self::Authenticated(claims) if claims.publish.is_empty() => {
                Some(not_permitted(claims, PUBLISH))
            }
            Self::Unrestricted | Self::Authenticated(_) => None,
        }
    }
}

/// The problem for a client without a valid token.
pub(crate) fn unauthorized(error: &TokenError) -> Problem {
    match error {
        TokenError::Missing => Problem::new(
            problem::TOKEN_MISSING,
            format!(
                "Send a token as Authorization: Bearer (or as the password of Basic), or sign in at {}. The operator of this \
                 server issues tokens.",
                mount::address("/sign-in")
            ),
        ),
        TokenError::Invalid => Problem::new(
            problem::TOKEN_INVALID,
            "The token was not issued by this server, or is incomplete. Send it unchanged as \
             Authorization: Bearer, or get a new one from the operator of this server.",
        ),
        TokenError::Expired => Problem::new(
            problem::TOKEN_EXPIRED,
            "The token has expired. Get a new one from the operator of this server.",
        ),
        TokenError::NotYetValid => Problem::new(
            problem::TOKEN_UNFIT,
            "The token is not valid yet (nbf). Try again later, or get another one from the \
             operator of this server.",
        ),
        TokenError::Unsupported(what) => Problem::new(
            problem::TOKEN_UNFIT,
            format!(
                "The token was signed with this server's secret, but its claims cannot be used: \
                 {what}. Create it with `tidings token`, or with the claims name, publish, watch \
                 and exp."
            ),
        ),
    }
}

/// The problem for a token that does not permit the action `what`, a verb such as "watch".
fn not_permitted(Claims { name, .. }: &Claims, what: &str) -> Problem {
    let detail = format!("The token of “{name}” does not permit its holder to {what} this stream.");
    Problem::new(problem::NOT_PERMITTED, detail)
}
