//! Who is on the other side of a request.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Extensions, HeaderMap, HeaderName, request::Parts},
    middleware::Next,
    response::Response,
};
use ipnet::{IpNet, Ipv6Net};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What counts as one client where there are no tokens: an IPv4 address, or the /64 network that an
/// IPv6 address is in, which is the least that a customer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

/// How many times as much as one [`Address`] each of its [`networks`](Address::networks) may do, in
/// their order: a customer may have a /56 or a /48 (RFC 6177), and so as many addresses as it likes.
/// Every limit per client is held to this.
pub(crate) const NETWORK_SHARES: [u32; 3] = [1, 4, 16];

/// The prefixes of those networks. An IPv4 address has no others.
const NETWORK_PREFIXES: [u8; 3] = [64, 56, 48];

impl Address {
    /// The networks that what this client does counts for, the narrowest first.
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

/// The other side of a connection; every request that comes over it carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether the connection is TLS.
    pub(crate) secure: bool,
}

/// The proxies that are believed.
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

/// The other side of a request, as the connection says, or a proxy that is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: Address,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of_request(&parts.extensions))
    }
}

impl Client {
    /// The client that [`identify`] found.
    pub(crate) fn of_request(extensions: &Extensions) -> Self {
        let unknown = Self { address: Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), secure: false };
        extensions.get().copied().unwrap_or(unknown)
    }

    /// Each proxy adds, at the end of `x-forwarded-for`, whom it had before it; what stands further
    /// to the left may be anyone's invention. So the list is believed from its end, as far as the
    /// proxies are trusted, and as far as it can be read.
    fn of(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        if !trusted.contains(peer.address) {
            return Self { address: peer.address.into(), secure: peer.secure };
        }
        let mut address = peer.address;
        let mut hops = 0_usize;
        for entry in elements(headers, &FORWARDED_FOR) {
            let Some(before) = host(entry) else { break };
            address = before;
            hops += 1;
            if !trusted.contains(address) {
                break;
            }
        }
        // The proxies' words on the scheme, where each adds one, stand in the same order. Where the
        // last one replaces the others' there is only one.
        let scheme = elements(headers, &FORWARDED_PROTO).take(hops.max(1)).last();
        let secure = scheme.map_or(peer.secure, |scheme| scheme.eq_ignore_ascii_case(b"https"));
        Self { address: address.into(), secure }
    }
}

/// What a list holds, the last first. Several lines with the same name are one list (RFC 9110,
/// section 5.3).
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let elements = lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|&b| b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// An address as proxies write it: some add the port, and then, or always, brackets.
fn host(text: &[u8]) -> Option<IpAddr> {
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

/// Gives each request its [`Client`].
pub(crate) async fn identify(
    State(trusted): State<TrustedProxies>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(peer) = request.extensions().get().copied() {
        let client = Client::of(peer, request.headers(), &trusted);
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address and scheme that come out of a peer and headers, where two networks and one
    /// more proxy are trusted.
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
        let client = Client::of(peer, &headers, &TrustedProxies::new(&networks));
        (client.address.0.to_string(), client.secure)
    }

    #[test]
    fn a_client_counts_for_the_networks_it_may_own() {
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
    fn whom_a_request_is_from() {
        for (peer, lines, expected) in [
            // Nobody's proxy is believed.
            ("203.0.113.9", "", "203.0.113.9"),
            ("203.0.113.9", "for: 1.2.3.4", "203.0.113.9"),
            ("::ffff:203.0.113.9", "for: 1.2.3.4", "203.0.113.9"),
            ("192.0.2.2", "for: 1.2.3.4", "192.0.2.2"),
            // Ours is.
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "for: 1.2.3.4", "1.2.3.4"),
            ("::ffff:10.0.0.1", "for: 1.2.3.4", "1.2.3.4"),
            ("fd00::1", "for: 1.2.3.4", "1.2.3.4"),
            // What the client itself says is not.
            ("10.0.0.1", "for: 6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "for: 6.6.6.6\nfor: 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "for: 10.6.6.6, 1.2.3.4", "1.2.3.4"),
            // A proxy behind a proxy.
            ("10.0.0.1", "for: 1.2.3.4, 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4, 192.0.2.1,10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 1.2.3.4\nfor: 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 6.6.6.6, 1.2.3.4\nfor: fd00::2 , 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1", "for: 10.0.0.3, 10.0.0.2", "10.0.0.3"),
            // What can not be read ends the walk.
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
            // Lists may hold nothing between two commas.
            ("10.0.0.1", "for: 1.2.3.4,, ", "1.2.3.4"),
            // How addresses are written.
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
    fn whether_it_was_secure() {
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
            // The client's own word stands to the left of its proxy's.
            ("10.0.0.1", false, "for: 1.2.3.4\nproto: https, http", false),
            // Two proxies of ours, of which the outer one speaks TLS.
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https, http", true),
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https\nproto: http", true),
            ("10.0.0.1", false, "for: 1.2.3.4, 10.0.0.2\nproto: https", true),
            ("10.0.0.1", false, "for: 6.6.6.6, 1.2.3.4, 10.0.0.2\nproto: https, http, http", false),
        ] {
            assert_eq!(client(peer, secure, lines).1, expected, "{peer} {secure} {lines}");
        }
    }
}
