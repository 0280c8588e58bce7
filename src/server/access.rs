//! Who may do what.
//!
//! Without a secret nobody is asked. With one, whoever wants to publish, or to watch what is not
//! public, brings a token: a program in the `Authorization` header, a browser in a cookie. A
//! handler can only act with a right ([`MayPublish`], [`MayWatch`]), and only this module gives
//! rights.

mod cookie;
mod token;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use axum_extra::headers::{Authorization, HeaderMapExt as _, authorization::Bearer};
use tokio::time::Instant;

use self::token::{Keys, NotBelieved};
pub use self::token::{Pattern, Secret};
pub(super) use self::{
    cookie::{is_there as has_cookie, signed_in, signed_out},
    token::{Claims, sign},
};
use super::{
    App,
    client::{Address, Client},
    clock::Clock,
    config::AccessOptions,
    error::Problem,
    named::Named,
    request,
};
use crate::{
    message::StreamName,
    problem::{self, Kind},
};

/// The rules; a handle that is cloned around. Without any, nobody is asked.
#[derive(Clone)]
pub struct Access(Option<Arc<Rules>>);

/// What holds where rights come with tokens.
struct Rules {
    keys: Keys,
    /// What anyone may watch.
    public: Vec<Pattern>,
    clock: Clock,
}

/// Whoever asks.
pub(super) enum Visitor {
    /// Nobody is asked who they are.
    Anyone,
    /// Someone without a token that is good, and what is wrong with theirs.
    Guest(Kind),
    /// Someone with a token.
    Holder(Claims),
}

impl Access {
    /// The rules as configured.
    ///
    /// # Errors
    /// When a secret can not be read or used.
    pub fn new(options: &AccessOptions, clock: Clock) -> anyhow::Result<Self> {
        let secrets = options.secrets()?;
        let rules = || Rules { keys: Keys::new(&secrets), public: options.public.clone(), clock };
        Ok(Self((!secrets.is_empty()).then(|| Arc::new(rules()))))
    }

    /// Who sends a request with these headers. A token in the `Authorization` header goes before
    /// one in the cookie.
    pub(super) fn visitor(&self, headers: &HeaderMap) -> Visitor {
        if self.0.is_none() {
            return Visitor::Anyone;
        }
        if headers.contains_key(header::AUTHORIZATION) {
            return match headers.typed_get::<Authorization<Bearer>>() {
                Some(Authorization(bearer)) => self.holder(bearer.token()),
                None => Visitor::Guest(problem::TOKEN_INVALID),
            };
        }
        match cookie::token(headers) {
            Some(token) if !token.is_empty() => self.holder(&token),
            _ => Visitor::Guest(problem::TOKEN_MISSING),
        }
    }

    /// Who holds this token.
    pub(super) fn holder(&self, token: &str) -> Visitor {
        let Some(rules) = &self.0 else { return Visitor::Anyone };
        match rules.keys.verify(token, rules.clock.now()) {
            Ok(claims) => {
                request::is_by(&claims.name);
                Visitor::Holder(claims)
            }
            Err(NotBelieved::Invalid) => Visitor::Guest(problem::TOKEN_INVALID),
            Err(NotBelieved::Expired) => Visitor::Guest(problem::TOKEN_EXPIRED),
        }
    }

    /// Whether the visitor may watch the stream, and until when.
    pub(super) fn watch(
        &self,
        visitor: &Visitor,
        stream: &StreamName,
    ) -> Result<Option<Instant>, Problem> {
        if self.is_public(stream) {
            return Ok(None);
        }
        self.allow(visitor, stream, "watch", |claims| &claims.watch)
    }

    /// Whether the visitor may publish to the stream, and until when.
    pub(super) fn publish(
        &self,
        visitor: &Visitor,
        stream: &StreamName,
    ) -> Result<Option<Instant>, Problem> {
        self.allow(visitor, stream, "publish to, end or delete", |claims| &claims.publish)
    }

    fn is_public(&self, stream: &StreamName) -> bool {
        let fits = |rules: &Arc<Rules>| rules.public.iter().any(|pattern| pattern.fits(stream));
        self.0.as_ref().is_none_or(fits)
    }

    fn allow(
        &self,
        visitor: &Visitor,
        stream: &StreamName,
        what: &str,
        patterns: impl FnOnce(&Claims) -> &Vec<Pattern>,
    ) -> Result<Option<Instant>, Problem> {
        match visitor {
            Visitor::Anyone => Ok(None),
            Visitor::Guest(kind) => Err(who_are_you(*kind)),
            Visitor::Holder(claims) if patterns(claims).iter().any(|one| one.fits(stream)) => {
                Ok(Some(self.end_of(claims)))
            }
            Visitor::Holder(Claims { name, .. }) => Err(Problem::new(
                problem::NOT_PERMITTED,
                format!("The token of “{name}” does not let its holder {what} this stream."),
            )),
        }
    }

    /// When a token expires.
    fn end_of(&self, claims: &Claims) -> Instant {
        let now = self.0.as_ref().map_or(0, |rules| rules.clock.now());
        let left = Duration::from_millis(claims.exp.saturating_mul(1000).saturating_sub(now));
        // A timer can not be set for later; nobody listens for so long.
        Instant::now() + left.min(Duration::from_hours(24 * 365))
    }
}

impl Visitor {
    /// Whether there may be streams that the visitor may publish to.
    pub(super) fn may_publish_somewhere(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::Guest(_) => false,
            Self::Holder(claims) => !claims.publish.is_empty(),
        }
    }
}

/// What is said to who has no token that is good.
pub(super) fn who_are_you(kind: Kind) -> Problem {
    let detail = match kind {
        problem::TOKEN_EXPIRED => {
            "The token has expired. Get a new one from whoever runs this server."
        }
        problem::TOKEN_INVALID => {
            "The token is not one of this server's, or not whole. Send it as it was given, as \
             Authorization: Bearer, or get a new one from whoever runs this server."
        }
        _ => {
            "Send a token, as Authorization: Bearer, or sign in at /sign-in. Whoever runs this \
             server gives tokens."
        }
    };
    Problem::new(kind, detail)
}

/// Whose publishes are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Publisher {
    /// Whoever holds tokens of this name.
    Token(String),
    /// Whoever comes from there, where there are no tokens.
    Address(Address),
}

/// The right to publish to a stream, to end and to delete it.
pub(super) struct MayPublish {
    stream: StreamName,
    publisher: Publisher,
    until: Option<Instant>,
}

impl MayPublish {
    /// The right of a visitor.
    pub(super) fn check(
        access: &Access,
        visitor: Visitor,
        client: Client,
        stream: StreamName,
    ) -> Result<Self, Problem> {
        let until = access.publish(&visitor, &stream)?;
        let publisher = match visitor {
            Visitor::Holder(claims) => Publisher::Token(claims.name),
            Visitor::Anyone | Visitor::Guest(_) => Publisher::Address(client.address),
        };
        Ok(Self { stream, publisher, until })
    }

    pub(super) fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Whether the right still holds: an upload may outlive its token.
    pub(super) fn still_holds(&self) -> Result<(), Problem> {
        match self.until {
            Some(until) if until <= Instant::now() => Err(who_are_you(problem::TOKEN_EXPIRED)),
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<App> for MayPublish {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Named(stream) = Named::from_request_parts(parts, app).await?;
        let Ok(client) = Client::from_request_parts(parts, app).await;
        Self::check(&app.access, app.access.visitor(&parts.headers), client, stream)
    }
}

/// The right to watch a stream: its events, its history, its pages.
pub(super) struct MayWatch {
    pub(super) stream: StreamName,
    /// When the right ends.
    pub(super) until: Option<Instant>,
}

impl FromRequestParts<App> for MayWatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Named(stream) = Named::from_request_parts(parts, app).await?;
        let until = app.access.watch(&app.access.visitor(&parts.headers), &stream)?;
        Ok(Self { stream, until })
    }
}
