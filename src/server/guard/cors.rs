//! CORS: which pages of other origins may read streams and their history.

use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue, Method, header, uri::Authority};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// An origin whose pages may read streams, or show pages of this server in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`
    Any,
    /// Scheme, host and port, as browsers send them.
    Exact(HeaderValue),
}

impl Origin {
    /// As in headers.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            // Not reached: it was made from a text.
            Self::Exact(origin) => origin.to_str().unwrap_or_default(),
        }
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be * or an origin as browsers send it: http:// or https://, a host \
                           in lower case, and a port unless it is the default one; no path";
        if text == "*" {
            return Ok(Self::Any);
        }
        let (host, default_port) = match text.split_once("://") {
            Some(("https", host)) => (host, ":443"),
            Some(("http", host)) => (host, ":80"),
            _ => return Err(EXPECTED),
        };
        let never_sent = host.ends_with(default_port)
            || host.contains(|c: char| "@;,".contains(c) || c.is_ascii_uppercase())
            || host.parse::<Authority>().is_err();
        if never_sent {
            return Err(EXPECTED);
        }
        HeaderValue::from_str(text).map(Self::Exact).map_err(|_| EXPECTED)
    }
}

/// The CORS layer that lets pages of these origins read.
pub(crate) fn layer(allow_origin: &[Origin]) -> CorsLayer {
    let origins = allow_origin.iter().filter_map(|origin| match origin {
        Origin::Any => None,
        Origin::Exact(origin) => Some(origin.clone()),
    });
    let allowed = if allow_origin.contains(&Origin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins)
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET])
        .expose_headers([
            header::LINK,
            header::RETRY_AFTER,
            HeaderName::from_static("tidings-examined"),
            HeaderName::from_static("x-request-id"),
        ])
        .allow_headers([
            HeaderName::from_static("last-event-id"),
            header::AUTHORIZATION,
            header::CACHE_CONTROL,
        ])
}
