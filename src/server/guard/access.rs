//! Who may do what.
//!
//! Without a secret nobody is asked. With one, whoever wants to publish, or to watch what is not
//! public, brings a token: a program in the `Authorization` header, a browser in a cookie. A
//! handler can only act with a right ([`MayPublish`], [`MayWatch`]), and only this module gives
//! rights.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use axum_extra::headers::{Authorization, HeaderMapExt as _, authorization::Bearer};
use tokio::time::Instant;

use super::{
    cookie::{CookieNames, TokenTooLarge},
    token::{Claims, Keys, Pattern, Secret, TokenError},
};
use crate::{
    message::StreamName,
    problem,
    server::{
        client::{Address, Client},
        clock::Clock,
        error::Problem,
        observe::request_log,
        stream_path::StreamPath,
    },
};

/// The rules; a handle that is cloned around. Without any, nobody is asked.
#[derive(Clone)]
pub struct Access(Option<Arc<Rules>>);

/// What holds where rights come with tokens.
struct Rules {
    keys: Keys,
    cookies: CookieNames,
    /// What anyone may watch.
    public: Vec<Pattern>,
    clock: Clock,
}

/// Whoever asks.
pub(crate) enum Identity {
    /// Nobody is asked who they are.
    Anyone,
    /// Someone without a token that is good, and what is wrong with theirs.
    Guest(TokenError),
    /// Someone with a token.
    Holder(Claims),
}

impl Access {
    /// Tokens that are signed with one of `secrets` give rights, the first of them with which new
    /// ones are signed; streams that match `public` need none to be watched. Without a secret no
    /// token is needed.
    ///
    /// # Errors
    /// When a secret cannot be used.
    pub(crate) fn new(
        secrets: &[Secret],
        public: Vec<Pattern>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        if secrets.is_empty() {
            return Ok(Self(None));
        }
        let cookies = CookieNames::new(secrets)?;
        Ok(Self(Some(Arc::new(Rules { keys: Keys::new(secrets), cookies, public, clock }))))
    }

    /// Who sends a request with these headers. A token in the `Authorization` header goes before
    /// one in the cookie.
    pub(crate) fn identify(&self, headers: &HeaderMap, client: Client) -> Identity {
        let Some(rules) = &self.0 else { return Identity::Anyone };
        if headers.contains_key(header::AUTHORIZATION) {
            return match headers.typed_get::<Authorization<Bearer>>() {
                Some(Authorization(bearer)) => self.holder(bearer.token()),
                None => Identity::Guest(TokenError::Invalid),
            };
        }
        match rules.cookies.token(headers, client.secure) {
            Some(token) if !token.is_empty() => self.holder(&token),
            _ => Identity::Guest(TokenError::Missing),
        }
    }

    /// Whether there is a cookie of ours, of whatever worth: then the client is a page of ours.
    pub(crate) fn has_cookie(&self, headers: &HeaderMap, client: Client) -> bool {
        let token = |rules: &Arc<Rules>| rules.cookies.token(headers, client.secure);
        self.0.as_ref().and_then(token).is_some()
    }

    /// The header that has a browser keep a token.
    ///
    /// # Errors
    /// When browsers would drop it, because it is too large.
    pub(crate) fn signed_in(&self, token: &str, secure: bool) -> Result<HeaderValue, Problem> {
        let Some(rules) = &self.0 else { return Err(unauthorized(&TokenError::Missing)) };
        rules.cookies.keep(token, secure).map_err(|TokenTooLarge { max }| {
            let detail = format!(
                "Browsers keep a token of at most {max} bytes, and this one has {}. Use one that \
                 names fewer streams, by patterns like ci-*.",
                token.len()
            );
            Problem::new(problem::TOKEN_TOO_LARGE, detail)
        })
    }

    /// The headers that have a browser forget its token.
    pub(crate) fn signed_out(&self, headers: &HeaderMap, secure: bool) -> Vec<HeaderValue> {
        self.0.as_ref().map(|rules| rules.cookies.forget(headers, secure)).unwrap_or_default()
    }

    /// Who holds this token.
    pub(crate) fn holder(&self, token: &str) -> Identity {
        let Some(rules) = &self.0 else { return Identity::Anyone };
        match rules.keys.verify(token, rules.clock.now()) {
            Ok(claims) => {
                request_log::record_identity(&claims.name);
                Identity::Holder(claims)
            }
            Err(error) => Identity::Guest(error),
        }
    }

    /// Whether the visitor may watch the stream, and until when.
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

    /// Whether the visitor may publish to the stream, and until when.
    pub(crate) fn publish(
        &self,
        identity: &Identity,
        stream: &StreamName,
    ) -> Result<Option<Instant>, Problem> {
        self.allow(identity, stream, "publish to, end or delete", |claims| &claims.publish)
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
            Identity::Anyone => Ok(None),
            Identity::Guest(error) => Err(unauthorized(error)),
            Identity::Holder(claims) if patterns(claims).iter().any(|one| one.matches(stream)) => {
                Ok(Some(self.end_of(claims)))
            }
            Identity::Holder(claims) => Err(not_permitted(claims, what)),
        }
    }

    /// When a token expires.
    fn end_of(&self, claims: &Claims) -> Instant {
        let now = self.0.as_ref().map_or(0, |rules| rules.clock.now());
        let left = Duration::from_millis(claims.exp.0.saturating_sub(now));
        // A timer can not be set for later; nobody listens for so long.
        Instant::now() + left.min(Duration::from_hours(24 * 365))
    }
}

impl Identity {
    /// Whether there may be streams that the visitor may publish to.
    pub(crate) fn may_publish_somewhere(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::Guest(_) => false,
            Self::Holder(claims) => !claims.publish.is_empty(),
        }
    }
}

/// The refusal of a client without a token that is good.
pub(crate) fn unauthorized(error: &TokenError) -> Problem {
    match error {
        TokenError::Missing => Problem::new(
            problem::TOKEN_MISSING,
            "Send a token, as Authorization: Bearer, or sign in at /sign-in. The operator of this \
             server gives tokens.",
        ),
        TokenError::Invalid => Problem::new(
            problem::TOKEN_INVALID,
            "The token is not one of this server's, or not whole. Send it as it was given, as \
             Authorization: Bearer, or get a new one from the operator of this server.",
        ),
        TokenError::Expired => Problem::new(
            problem::TOKEN_EXPIRED,
            "The token has expired. Get a new one from the operator of this server.",
        ),
        TokenError::NotYetValid => Problem::new(
            problem::TOKEN_UNFIT,
            "The token is not good yet (nbf). Try again later, or get another one from the operator \
             of this server.",
        ),
        TokenError::Unfit(what) => Problem::new(
            problem::TOKEN_UNFIT,
            format!(
                "The token was made with this server's secret, but its claims do not fit: {what}. \
                 Make it with `tidings token`, or with the claims name, publish, watch and exp."
            ),
        ),
    }
}

/// The refusal of a token that does not let its holder do `what` to a stream.
pub(crate) fn not_permitted(Claims { name, .. }: &Claims, what: &str) -> Problem {
    let detail = format!("The token of “{name}” does not let its holder {what} this stream.");
    Problem::new(problem::NOT_PERMITTED, detail)
}

/// Whose publishes are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Publisher {
    /// Whoever holds tokens of this name.
    Token(String),
    /// Whoever comes from there, where there are no tokens.
    Address(Address),
}

/// The right to publish to a stream, to end and to delete it.
pub(crate) struct MayPublish {
    stream: StreamName,
    publisher: Publisher,
    until: Option<Instant>,
}

impl MayPublish {
    /// The right of a visitor.
    pub(crate) fn check(
        access: &Access,
        identity: Identity,
        client: Client,
        stream: StreamName,
    ) -> Result<Self, Problem> {
        let until = access.publish(&identity, &stream)?;
        let publisher = match identity {
            Identity::Holder(claims) => Publisher::Token(claims.name),
            Identity::Anyone | Identity::Guest(_) => Publisher::Address(client.address),
        };
        Ok(Self { stream, publisher, until })
    }

    pub(crate) fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Whether the right still holds: an upload may outlive its token.
    pub(crate) fn still_holds(&self) -> Result<(), Problem> {
        match self.until {
            Some(until) if until <= Instant::now() => Err(unauthorized(&TokenError::Expired)),
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MayPublish
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamPath(stream) = StreamPath::from_request_parts(parts, state).await?;
        let Ok(client) = Client::from_request_parts(parts, state).await;
        let access = Access::from_ref(state);
        let identity = access.identify(&parts.headers, client);
        Self::check(&access, identity, client, stream)
    }
}

/// The right to watch a stream: its events, its history, its pages.
pub(crate) struct MayWatch {
    pub(crate) stream: StreamName,
    /// When the right ends.
    pub(crate) until: Option<Instant>,
}

impl<S: Send + Sync> FromRequestParts<S> for MayWatch
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamPath(stream) = StreamPath::from_request_parts(parts, state).await?;
        let client = Client::of_request(&parts.extensions);
        let access = Access::from_ref(state);
        let until = access.watch(&access.identify(&parts.headers, client), &stream)?;
        Ok(Self { stream, until })
    }
}
