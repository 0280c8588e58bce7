//! The client of a request: its address and scheme, behind trusted reverse proxies too
//! (`X-Forwarded-For`, `X-Forwarded-Proto`).

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Extensions, HeaderMap, HeaderName, header, request::Parts, uri::Authority},
    middleware::Next,
    response::Response,
};
use ipnet::{IpNet, Ipv6Net};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The key of limits per client: an IPv4 address, or the /64 network of an IPv6 address, which is the
/// smallest that a customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

/// The factors of the limits of an [`Address`] for each of its [`networks`](Address::networks), in their
/// order. They apply to every limit per client: a customer may own a /56 or a /48 (RFC 6177), and so
/// many /64 networks.
pub(crate) const NETWORK_SHARES: [u32; 3] = [1, 4, 16];

/// The prefix lengths of those networks. An IPv4 address has only itself.
const NETWORK_PREFIXES: [u8; 3] = [64, 56, 48];

impl Address {
    /// The networks whose limits apply to this client, the narrowest first.
    pub(crate) fn networks(self) -> impl Iterator<Item = IpNet> {
        let count = if self.0.is_ipv6() { NETWORK_PREFIXES.len() } else { 1 };
        NETWORK_PREFIXES.into_iter().take(count).map(move |prefix| match self.0 {
            IpAddr::V4(address) => IpNet::from(IpAddr::V4(address)),
            IpAddr::V6(address) => Ipv6Net::new_assert(address, prefix).trunc().into(),
        })
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = Ipv6Net::new_assert(address, NETWORK_PREFIXES[0]).trunc();
                Self(network.addr().into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/{}", NETWORK_PREFIXES[0]),
        }
    }
}

/// The remote end of a connection, an extension of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether the connection is TLS.
    pub(crate) secure: bool,
}

/// The name and port of the server, as the client wrote them. They become a part of commands that people
/// copy, and of links: nothing that a shell or HTML could take for more than a name.
pub(crate) fn host(parts: &Parts) -> String {
    let header = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| parts.uri.authority().map(Authority::as_str));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    host.filter(|host| host.chars().all(plain)).unwrap_or("localhost").to_owned()
}

/// The origin of the server, as the client reaches it: `https://tidings.example:8443`.
pub(crate) fn origin(parts: &Parts) -> String {
    let scheme = if Client::from_extensions(&parts.extensions).secure { "https" } else { "http" };
    format!("{scheme}://{}", host(parts))
}

/// The networks of proxies whose forwarding headers are used (`--trusted-proxy`).
#[derive(Clone, Debug)]
pub(crate) struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The client of a request: the remote end of its connection, or the client that a trusted proxy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: Address,
    /// Whether the client used TLS.
    pub(crate) secure: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_extensions(&parts.extensions))
    }
}

impl Client {
    /// The client that [`set_client`] has put into the extensions.
    pub(crate) fn from_extensions(extensions: &Extensions) -> Self {
        let unknown = Self { address: Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), secure: false };
        extensions.get().copied().unwrap_or(unknown)
    }

    /// Each proxy appends the address of its client to `x-forwarded-for`; a client can forge the entries
    /// before that. So the list is read from its end, until the first address that is not a trusted
    /// proxy, or the first entry that cannot be parsed.
    fn resolve(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        if !trusted.contains(peer.address) {
            return Self { address: peer.address.into(), secure: peer.secure };
        }
        let mut address = peer.address;
        let mut hops = 0_usize;
        for entry in list_elements(headers, &FORWARDED_FOR) {
            let Some(previous) = parse_address(entry) else { break };
            address = previous;
            hops += 1;
            if !trusted.contains(address) {
                break;
            }
        }
        // Where each proxy appends to `x-forwarded-proto`, it has the same order. Where the last proxy
        // replaces it, it has one entry.
        let scheme = list_elements(headers, &FORWARDED_PROTO).take(hops.max(1)).last();
        let secure = scheme.map_or(peer.secure, |scheme| scheme.eq_ignore_ascii_case(b"https"));
        Self { address: address.into(), secure }
    }
}

/// The elements of a list header, the last first. Several header lines of one name are one list
/// (RFC 9110, section 5.3).
fn list_elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let elements = lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|&b| b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Parses an address as proxies write it: some add a port, and some put an IPv6 address in brackets.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.into(),
        None => text
            .parse()
            .or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()))
            .ok()?,
    };
    Some(address.to_canonical())
}

/// Middleware that adds the [`Client`] to the extensions of each request.
pub(crate) async fn set_client(
    State(trusted): State<TrustedProxies>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(peer) = request.extensions().get().copied() {
        let client = Client::resolve(peer, request.headers(), &trusted);
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address and scheme of the client for a peer and forwarding headers. Two networks and one
    /// single proxy are trusted.
    fn client(peer: &str, secure: bool, lines: &str) -> (String, bool) {
        let networks =
            ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for line in lines.split('\n').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a header");
            let name = HeaderName::try_from(format!("x-forwarded-{name}")).expect("a name");
            let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(name, value);
        }
        let peer = Peer { address: peer.parse().expect("an address"), secure };
        let client = Client::resolve(peer, &headers, &TrustedProxies::new(&networks));
        (client.address.0.to_string(), client.secure)
    }

    #[test]
    fn limits_apply_to_the_networks_that_a_client_may_own() {
        let networks = |address: &str| -> Vec<String> {
            let address = Address::from(address.parse::<IpAddr>().expect("an address"));
            address.networks().map(|network| network.to_string()).collect()
        };
        assert_eq!(networks("192.0.2.1"), ["192.0.2.1/32"]);
        assert_eq!(networks("::ffff:192.0.2.1"), ["192.0.2.1/32"]);
        let expected = ["2001:db8:1:234::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"];
        assert_eq!(networks("2001:db8:1:234:5:6:7:8"), expected);
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_client() {
        for (peer, lines, expected) in [
            // The peer is not a trusted proxy.
            ("203.0.113.9", "", "203.0.113.9"),
            ("203.0.113.9", "for: 1.2.3.4", "203.0.113.9"),
            ("::ffff:203.0.113.9", "for: 1.2.3.4", "203.0.113.9"),
            ("192.0.2.2", "for: 1.2.3.4", "192.0.2.2"),
            // The peer is a trusted proxy.
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4", "1.2.3.4"),
            ("::ffff:10.0.0.1", "for: 1.2.3.4", "1.2.3.4"),
            ("fd00::1", "for: 1.2.3.4", "1.2.3.4"),
            // The client forged an entry.
            ("10.0.0.1", "for: 6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "for: 6.6.6.6\nfor: 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "for: 10.6.6.6, 1.2.3.4", "1.2.3.4"),
            // A proxy behind a proxy.
            ("10.0.0.1", "for: 1.2.3.4, 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4, 192.0.2.1,10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4\nfor: 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 6.6.6.6, 1.2.3.4\nfor: fd00::2 , 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 10.0.0.3, 10.0.0.2", "10.0.0.3"),
            // An entry that cannot be parsed ends the search.
            ("10.0.0.1", "for: unknown", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4, unknown", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4, _hidden, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "for: 1.2.3.4, 1.2.3.400", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4, \u{e9}", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4 5.6.7.8", "10.0.0.1"),
            ("10.0.0.1", "for: [1.2.3.4]", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4:", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4:port", "10.0.0.1"),
            ("10.0.0.1", "for: ,", "10.0.0.1"),
            // Lists may have empty elements.
            ("10.0.0.1", "for: 1.2.3.4,, ", "1.2.3.4"),
            // Spellings of addresses.
            ("10.0.0.1", "for: 1.2.3.4:5678", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4, 10.0.0.2:5678", "1.2.3.4"),
            ("10.0.0.1", "for: ::ffff:1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "for: [::ffff:1.2.3.4]:5678", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4, ::ffff:10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("10.0.0.1", "for: [2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::"),
            ("10.0.0.1", "for: [2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", "for: 1.2.3.4", "2001:db8:1:2::"),
        ] {
            assert_eq!(client(peer, false, lines).0, expected, "{peer} {lines}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_scheme() {
        for (peer, secure, lines, expected) in [
            ("203.0.113.9", false, "", false),
            ("203.0.113.9", true, "", true),
            ("203.0.113.9", false, "proto: https", false),
            ("203.0.113.9", true, "proto: http", true),
            ("10.0.0.1", false, "", false),
            ("10.0.0.1", true, "", true),
            ("10.0.0.1", false, "for: 1.2.3.4\nproto: https", true),
            ("10.0.0.1", false, "for: 1.2.3.4\nproto: HTTPS", true),
            ("10.0.0.1", true, "for: 1.2.3.4\nproto: http", false),
            ("10.0.0.1", false, "for: 1.2.3.4\nproto: nonsense", false),
            ("10.0.0.1", false, "proto: https", true),
            // The client forged the first entry.
            ("10.0.0.1", false, "for: 1.2.3.4\nproto: https, http", false),
            // Two trusted proxies, the outer one with TLS.
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https, http", true),
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https\nproto: http", true),
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https", true),
            ("10.0.0.1", false, "for: 6.6.6.6, 1.2.3.4, 10.0.0.2\nproto: https, http, http", false),
        ] {
            assert_eq!(client(peer, secure, lines).1, expected, "{peer} {secure} {lines}");
        }
    }
}
