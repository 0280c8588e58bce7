//! Tokens: who someone is, and what that lets them do.
//!
//! They are JSON Web Tokens (RFC 7519), so that nothing is stored and every server with the same
//! secret honours them. One algorithm is used, HS256, whatever a token says of itself.

use std::{convert::Infallible, fmt, str::FromStr};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::message::StreamName;

/// What tokens are made with, and must not be told: it prints as `…`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(in crate::server) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(in crate::server) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    /// Takes anything: what is refused on a command line is printed.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) struct Claims {
    /// Who holds it, for people.
    pub(in crate::server) name: String,
    /// The streams its holder may publish to, end and delete.
    #[serde(default)]
    pub(in crate::server) publish: Vec<Pattern>,
    /// The streams its holder may watch.
    #[serde(default)]
    pub(in crate::server) watch: Vec<Pattern>,
    /// From when on it is no good, in seconds since the Unix epoch.
    pub(in crate::server) exp: u64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotBelieved {
    /// It was not made with our secret, or not as we make them, or was changed since.
    Invalid,
    /// Its time is over.
    Expired,
}

/// Verifies tokens.
#[derive(Clone)]
pub(super) struct Keys {
    /// The secret in use, and the one before it.
    keys: Vec<DecodingKey>,
    validation: Validation,
}

impl Keys {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // It is held against our own clock.
        validation.validate_exp = false;
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        Self { keys: keys.collect(), validation }
    }

    /// What a token says, if it is good at `now`, in milliseconds since the Unix epoch.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Claims, NotBelieved> {
        let verified = |key| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok();
        let claims = self.keys.iter().find_map(verified).ok_or(NotBelieved::Invalid)?.claims;
        if claims.exp.saturating_mul(1000) <= now {
            return Err(NotBelieved::Expired);
        }
        Ok(claims)
    }
}

/// Makes a token.
///
/// # Errors
/// When the library can not sign, which no input is known to cause.
pub(in crate::server) fn sign(claims: &Claims, secret: &Secret) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .context("the token can not be made")
}

/// Names of streams: `*` stands for any characters, also none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(WildMatch);

impl Pattern {
    pub(super) fn fits(&self, stream: &StreamName) -> bool {
        self.0.matches(stream.as_str())
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let in_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let fits = !text.is_empty() && text.len() <= StreamName::MAX;
        if fits && text.chars().all(|c| c == '*' || in_names(c)) {
            Ok(Self(WildMatch::new(text)))
        } else {
            Err(
                "must be 1 to 64 of a-z, 0-9, hyphen, underscore, full stop, and * for any characters",
            )
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.pattern())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_a_pattern() {
        for (pattern, name, fits) in [
            ("*", "a", true),
            ("ci-*", "ci-7", true),
            ("ci-*", "ci-", true),
            ("ci-*", "ci", false),
            ("ci-*", "my-ci-7", false),
            ("*-log", "app-log", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("ci.7", "cix7", false),
            ("news", "news", true),
            ("news", "newspaper", false),
            ("***", "a", true),
        ] {
            let pattern: Pattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.fits(&name.parse().expect("a name")), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for text in ["", "A*", "a?", "a b", "ü", "a/b", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }
}
