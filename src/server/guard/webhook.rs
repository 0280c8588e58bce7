//! The secrets of webhooks, and the signatures made with them (HMAC-SHA256).
//!
//! The secret of a stream's webhook is derived from the server's secret, so that nothing is stored: it is
//! `HMAC(secret, "webhook:" + name)`, in hexadecimal. (No token has a signature over such a text, since a
//! token has no colon.) With it one can publish to that one stream, as its webhook, and nothing else.

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::token::Secret;
use crate::message::StreamName;

/// The length of a secret and of a signature, in bytes.
const LENGTH: usize = 32;

/// The headers with a signature of the body, with what precedes the hexadecimal digits: GitHub's, which
/// Gitea and Forgejo send too, and their own.
const SIGNATURES: [(&str, &str); 3] =
    [("x-hub-signature-256", "sha256="), ("x-gitea-signature", ""), ("x-forgejo-signature", "")];
/// The header with which GitLab sends the secret itself.
const GITLAB_TOKEN: &str = "x-gitlab-token";

/// What shows that a request comes from a webhook that has the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookProof {
    /// A signature of the body.
    Signature([u8; LENGTH]),
    /// The secret.
    Secret([u8; LENGTH]),
    /// A header that cannot be parsed.
    Malformed,
}

impl WebhookProof {
    /// The headers that hold one.
    pub(crate) const HEADERS: [&str; 4] =
        [SIGNATURES[0].0, SIGNATURES[1].0, SIGNATURES[2].0, GITLAB_TOKEN];

    /// The proof that a request has, if it has one.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let hex = |name: &str, prefix: &str| {
            let value = headers.get(name)?.to_str().unwrap_or_default();
            Some(value.strip_prefix(prefix).and_then(decode_hex))
        };
        let signature = SIGNATURES.iter().find_map(|(name, prefix)| hex(name, prefix));
        let signature = signature.map(|bytes| bytes.map(Self::Signature));
        let proof = signature.or_else(|| Some(hex(GITLAB_TOKEN, "")?.map(Self::Secret)))?;
        Some(proof.unwrap_or(Self::Malformed))
    }

    /// Whether the body is needed to check it.
    pub(crate) fn is_of_body(self) -> bool {
        matches!(self, Self::Signature(_))
    }

    /// Whether it proves that the sender of `body` has the secret of the stream's webhook, which is derived
    /// from `secret`. Compares in constant time.
    pub(super) fn is_valid(self, secret: &Secret, stream: &StreamName, body: &[u8]) -> bool {
        let derived = derive(secret, stream);
        match self {
            Self::Signature(signature) => derived.is_some_and(|derived| {
                let key = encode_hex(&derived.finalize().into_bytes());
                let mac = mac(key.as_bytes()).map(|mac| mac.chain_update(body));
                mac.is_some_and(|mac| mac.verify_slice(&signature).is_ok())
            }),
            Self::Secret(sent) => {
                derived.is_some_and(|derived| derived.verify_slice(&sent).is_ok())
            }
            Self::Malformed => false,
        }
    }
}

/// The secret of a stream's webhook. `None` if the library cannot use the server's secret, which no secret
/// is known to cause.
pub(crate) fn webhook_secret(secret: &Secret, stream: &StreamName) -> Option<String> {
    derive(secret, stream).map(|mac| encode_hex(&mac.finalize().into_bytes()))
}

fn derive(secret: &Secret, stream: &StreamName) -> Option<Hmac<Sha256>> {
    let mac = mac(secret.as_bytes())?;
    Some(mac.chain_update(b"webhook:").chain_update(stream.as_str()))
}

fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn decode_hex(text: &str) -> Option<[u8; LENGTH]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| {
        let digits = str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        u8::from_str_radix(digits, 16).ok()
    };
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_valid_for_one_secret_stream_and_body() {
        let secret = Secret::new("a secret of a length that is enough");
        let stream: StreamName = "ci".parse().expect("a name");
        let other: StreamName = "ci2".parse().expect("a name");
        let derived = webhook_secret(&secret, &stream).expect("a secret");
        // As by openssl: printf webhook:ci | openssl dgst -sha256 -hmac …
        assert_eq!(derived, "9c1b5f53174fd59f3678e37560817a10a2e5a53f2f6029bce056621d07a7c654");
        let sign = |body: &[u8]| {
            let mac = mac(derived.as_bytes()).expect("a key").chain_update(body);
            WebhookProof::Signature(mac.finalize().into_bytes().into())
        };
        assert!(sign(b"{}").is_valid(&secret, &stream, b"{}"));
        assert!(!sign(b"{}").is_valid(&secret, &stream, b"{} "));
        assert!(!sign(b"{}").is_valid(&secret, &other, b"{}"));
        assert!(!sign(b"{}").is_valid(&Secret::new("another"), &stream, b"{}"));
        let sent = WebhookProof::Secret(decode_hex(&derived).expect("digits"));
        assert!(sent.is_valid(&secret, &stream, b"any"));
        assert!(!sent.is_valid(&secret, &other, b"any"));
        assert!(!WebhookProof::Malformed.is_valid(&secret, &stream, b""));
    }

    #[test]
    fn hexadecimal_digits_are_decoded() {
        let bytes: [u8; LENGTH] = std::array::from_fn(|at| u8::try_from(at * 8).expect("a byte"));
        assert_eq!(decode_hex(&encode_hex(&bytes)), Some(bytes));
        for text in
            ["", "00", "0", &"0".repeat(63), &"0".repeat(66), &"+f".repeat(32), &"é".repeat(32)]
        {
            assert_eq!(decode_hex(text), None, "{text}");
        }
    }
}
