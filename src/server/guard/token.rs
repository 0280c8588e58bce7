//! Bearer tokens: the name of the holder, and the streams that it may publish to and watch.
//!
//! Tokens are JSON Web Tokens (RFC 7519): they are not stored, and every server with the same secret
//! accepts them. The only algorithm is HS256, whatever the header of a token names.

use std::{convert::Infallible, fmt, str::FromStr};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use wildmatch::WildMatch;

use crate::message::StreamName;

/// A secret that signs tokens. `Debug` prints it as `…`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
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

    /// Accepts any text: clap would print a refused value, and so the secret.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The name of its holder, which pages and the log show.
    pub(crate) name: String,
    /// The streams its holder may publish to, end and delete.
    #[serde(default)]
    pub(crate) publish: Vec<Pattern>,
    /// The streams its holder may watch.
    #[serde(default)]
    pub(crate) watch: Vec<Pattern>,
    /// When it expires.
    pub(crate) exp: NumericDate,
    /// When it becomes valid, if it is not valid at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<NumericDate>,
}

/// A time in milliseconds since the Unix epoch. In a token it is in seconds, with an optional fraction
/// (RFC 7519, section 2, `NumericDate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NumericDate(pub(crate) u64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a value out of range becomes the nearest valid time"
        )]
        let millis = (seconds * 1000.0) as u64;
        Ok(Self(millis))
    }
}

impl Serialize for NumericDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 / 1000)
    }
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// There is no token.
    Missing,
    /// It is not signed with a secret of this server, or was changed.
    Invalid,
    /// It has expired.
    Expired,
    /// It is not valid yet (`nbf`; RFC 7519, section 4.1.5).
    NotYetValid,
    /// It is signed with a secret of this server, but has claims or headers that this server does not
    /// support; the text names them.
    Unsupported(String),
}

/// Verifies tokens.
#[derive(Clone)]
pub(super) struct Keys {
    /// The current key and the previous one.
    keys: Vec<DecodingKey>,
    validation: Validation,
}

impl Keys {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // `verify` checks the claims itself: with the server's clock, and with errors that name them.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        Self { keys: keys.collect(), validation }
    }

    /// Verifies a token at `now`, in milliseconds since the Unix epoch, and returns its claims.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let verified = |key| jsonwebtoken::decode::<Value>(token, key, &self.validation).ok();
        let TokenData { header, claims, .. } =
            self.keys.iter().find_map(verified).ok_or(TokenError::Invalid)?;
        // The library parses `crit`, but does not check it (RFC 7515, section 4.1.11).
        if let Some(names) = header.crit {
            return Err(TokenError::Unsupported(format!(
                "crit names {names:?}, none of which is known"
            )));
        }
        if claims.get("aud").is_some() {
            return Err(TokenError::Unsupported("aud names other servers".to_owned()));
        }
        let claims: Claims = serde_json::from_value(claims)
            .map_err(|error| TokenError::Unsupported(error.to_string()))?;
        if claims.exp.0 <= now {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf.0 > now) {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }
}

/// A fingerprint of a secret, for cookie names: the first 4 characters of an HMAC, enough to distinguish
/// servers, and too few to confirm a guess of the secret.
///
/// # Errors
/// When the library cannot use the secret.
pub(super) fn fingerprint(secret: &Secret) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let mac = jsonwebtoken::crypto::sign(b"cookie", &key, Algorithm::HS256);
    Ok(mac.context("the secret cannot be used")?.chars().take(4).collect())
}

/// Signs a token.
///
/// # Errors
/// When the library cannot sign, which no input is known to cause.
pub(crate) fn sign(claims: &Claims, secret: &Secret) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .context("the token cannot be signed")
}

/// A pattern of stream names: `*` matches any number of characters, also none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(WildMatch);

impl Pattern {
    pub(super) fn matches(&self, stream: &StreamName) -> bool {
        self.0.matches(stream.as_str())
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name_char =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let is_length_valid = !text.is_empty() && text.len() <= StreamName::MAX;
        if is_length_valid && text.chars().all(|c| c == '*' || is_name_char(c)) {
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
    fn a_pattern_matches_the_whole_name() {
        for (pattern, name, matches) in [
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
            assert_eq!(
                pattern.matches(&name.parse().expect("a name")),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        for text in ["", "A*", "a?", "a b", "ü", "a/b", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }
}
