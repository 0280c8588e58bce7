//! Host check: protection against DNS rebinding.
//!
//! A server on a loopback address without a secret is open to every program of the machine. The page of
//! a malicious site could use it through the visitor's browser: once the page is loaded, its host name
//! is made to resolve to the loopback address. The browser sends that host name, which is refused here.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{problem, server::error::Problem};

/// The host names that are allowed besides loopback ones; a cheap clone. `None` allows any.
#[derive(Clone, Debug)]
pub(crate) struct AllowedHosts(Option<Arc<[String]>>);

impl AllowedHosts {
    /// Allows these names, in lower case; `None` allows any.
    pub(crate) fn new(names: Option<&[String]>) -> Self {
        Self(names.map(Into::into))
    }

    /// Whether the host of a request is allowed. A request without a `Host` header is: browsers send it.
    fn allow(&self, request: &Request) -> bool {
        let (Some(names), Some(host)) = (&self.0, request.headers().get(header::HOST)) else {
            return true;
        };
        let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok())
        else {
            return false;
        };
        let host = bare_host(authority.host()).to_ascii_lowercase();
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(is_loopback)
            || names.contains(&host)
    }
}

/// Removes the brackets of an IPv6 address, and the trailing full stop of a name.
fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches([']', '.'])
}

/// Middleware that refuses a request whose host is not allowed.
pub(crate) async fn refuse_unknown_hosts(
    State(hosts): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    if hosts.allow(&request) {
        return next.run(request).await;
    }
    let detail = "Without a secret, this server accepts only localhost and loopback addresses as \
                  its host. Allow this host with --allow-host, or set a secret.";
    Problem::new(problem::UNKNOWN_HOST, detail).into_response()
}
