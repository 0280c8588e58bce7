//! CORS: which pages of other origins may read streams and their history.

use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue, Method, header, uri::Authority};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// An origin that may listen, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`
    Any,
    /// Scheme, host and port, as browsers send them.
    One(HeaderValue),
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "must be * or an origin as browsers send it: http:// or https://, a host \
                           in lower case, and a port unless it is the usual one; no path";
        if text == "*" {
            return Ok(Self::Any);
        }
        let (host, usual_port) = match text.split_once("://") {
            Some(("https", host)) => (host, ":443"),
            Some(("http", host)) => (host, ":80"),
            _ => return Err(HOW),
        };
        let never_sent = host.ends_with(usual_port)
            || host.contains(|c: char| c == '@' || c.is_ascii_uppercase())
            || host.parse::<Authority>().is_err();
        if never_sent {
            return Err(HOW);
        }
        HeaderValue::from_str(text).map(Self::One).map_err(|_| HOW)
    }
}

/// Which pages of other origins may listen.
pub(crate) fn layer(allow_origin: &[Origin]) -> CorsLayer {
    let origins = allow_origin.iter().filter_map(|origin| match origin {
        Origin::Any => None,
        Origin::One(origin) => Some(origin.clone()),
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
            HeaderName::from_static("x-request-id"),
        ])
        .allow_headers([
            HeaderName::from_static("last-event-id"),
            header::AUTHORIZATION,
            header::CACHE_CONTROL,
        ])
}
