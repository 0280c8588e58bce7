//! The permissions to publish and to watch, as extractors: a handler that has one has checked it.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use tokio::time::Instant;

use super::{Access, Identity, TokenError, WebhookProof, unauthorized};
use crate::{
    message::{StreamName, StreamNames},
    server::{
        client::{Address, Client},
        error::Problem,
        stream_path::{StreamPath, StreamsPath},
    },
};

/// The key of the publish rate limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Publisher {
    /// The name of a token.
    Token(String),
    /// The address of a client, without access control.
    Address(Address),
}

/// The permission to publish to a stream, to end and to delete it.
pub(crate) struct MayPublish {
    stream: StreamName,
    publisher: Publisher,
    expires_at: Option<Instant>,
}

impl MayPublish {
    /// Checks the permission of a client.
    ///
    /// # Errors
    /// When it has no valid token, or one that does not permit this.
    pub(crate) fn check(
        access: &Access,
        identity: &Identity,
        client: Client,
        stream: StreamName,
    ) -> Result<Self, Problem> {
        let expires_at = access.publish(identity, &stream)?;
        let publisher = match identity {
            Identity::Authenticated(claims) => Publisher::Token(claims.name.clone()),
            Identity::Unrestricted | Identity::Anonymous(_) => Publisher::Address(client.address),
        };
        Ok(Self { stream, publisher, expires_at })
    }

    /// The permission of the webhook of a stream, which has its secret. Its publish rate is that of a token
    /// with the name `webhook of {stream}`.
    ///
    /// # Errors
    /// When it does not prove that it has.
    pub(crate) fn as_webhook(
        access: &Access,
        proof: WebhookProof,
        stream: StreamName,
        body: &[u8],
    ) -> Result<Self, Problem> {
        access.verify_webhook(proof, &stream, body)?;
        let publisher = Publisher::Token(format!("webhook of {stream}"));
        Ok(Self { stream, publisher, expires_at: None })
    }

    pub(crate) fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Checks that the token has not expired meanwhile: an upload may outlive it.
    ///
    /// # Errors
    /// When it has expired.
    pub(crate) fn check_not_expired(&self) -> Result<(), Problem> {
        match self.expires_at {
            Some(expires_at) if expires_at <= Instant::now() => {
                Err(unauthorized(&TokenError::Expired))
            }
            _ => Ok(()),
        }
    }
}

/// Whose request it is.
fn identify<S>(parts: &Parts, state: &S) -> (Access, Client, Identity)
where
    Access: FromRef<S>,
{
    let client = Client::from_extensions(&parts.extensions);
    let access = Access::from_ref(state);
    let identity = access.identify(&parts.headers, client);
    (access, client, identity)
}

impl<S: Send + Sync> FromRequestParts<S> for MayPublish
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamPath(stream) = StreamPath::from_request_parts(parts, state).await?;
        let (access, client, identity) = identify(parts, state);
        Self::check(&access, &identity, client, stream)
    }
}

/// The permission to watch a stream: its history.
pub(crate) struct MayWatch {
    pub(crate) stream: StreamName,
}

/// The permission to watch streams together: their events.
pub(crate) struct MayWatchAll {
    pub(crate) streams: StreamNames,
    /// When the permission for the first of them ends. `None`: never.
    pub(crate) expires_at: Option<Instant>,
}

impl<S: Send + Sync> FromRequestParts<S> for MayWatch
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamPath(stream) = StreamPath::from_request_parts(parts, state).await?;
        let (access, _, identity) = identify(parts, state);
        access.watch(&identity, &stream)?;
        Ok(Self { stream })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MayWatchAll
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let StreamsPath(streams) = StreamsPath::from_request_parts(parts, state).await?;
        let (access, _, identity) = identify(parts, state);
        let mut expires_at = None;
        for stream in streams.as_slice() {
            let expiry = access.watch(&identity, stream)?;
            expires_at = [expires_at, expiry].into_iter().flatten().min();
        }
        Ok(Self { streams, expires_at })
    }
}
