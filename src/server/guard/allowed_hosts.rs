//! Host check: protection against DNS rebinding.
//!
//! A server on a loopback address that has no secret is open to every program of the machine, and a
//! page of any site could be one: its host name resolves to that address once the page is loaded. The
//! browser then names that host, and is refused.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{problem, server::error::Problem};

/// The names by which the server may be addressed, beside those of the loopback interface; a cheap
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct AllowedHosts(Option<Arc<[String]>>);

impl AllowedHosts {
    /// These names; any where there are none to hold a request to.
    pub(crate) fn new(names: Option<&[String]>) -> Self {
        Self(names.map(Into::into))
    }

    /// A request without a host is not a browser's.
    fn allow(&self, request: &Request) -> bool {
        let (Some(names), Some(host)) = (&self.0, request.headers().get(header::HOST)) else {
            return true;
        };
        let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok())
        else {
            return false;
        };
        let host = normal(authority.host()).to_ascii_lowercase();
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(is_loopback)
            || names.contains(&host)
    }
}

/// A host without the brackets of an IPv6 address, and without the full stop of a complete name.
fn normal(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches([']', '.'])
}

/// Refuses a request that names a host which is not this server.
pub(crate) async fn refuse_others(
    State(hosts): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    if hosts.allow(&request) {
        return next.run(request).await;
    }
    let detail = "Without a secret this server answers to localhost and loopback addresses only. \
                  Name this host with --allow-host, or give the server a secret.";
    Problem::new(problem::UNKNOWN_HOST, detail).into_response()
}
