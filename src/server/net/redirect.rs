//! Plain HTTP beside TLS: everyone is sent on.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header, uri::Authority},
    response::IntoResponse,
};

/// The port that `https://` means.
const USUAL_PORT: u16 = 443;

/// Answers every request with its address over TLS, which is at `port` of the same host.
pub(crate) fn router(port: u16) -> Router {
    Router::new().fallback(async move |request: Request| match to_tls(&request, port) {
        Some(address) => {
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, address)]).into_response()
        }
        None => (StatusCode::BAD_REQUEST, "Say which host you want.\n").into_response(),
    })
}

fn to_tls(request: &Request, port: u16) -> Option<String> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else { return None };
    let authority: Authority = host.parse().ok()?;
    // A name before an @ would look like the host to people.
    if authority.host().is_empty() || host.contains('@') {
        return None;
    }
    let port = if port == USUAL_PORT { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // The whole server is meant by `*`.
    let path = if path.starts_with('/') { path } else { "/" };
    Some(format!("https://{}{port}{path}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, target: &str, port: u16) -> Option<String> {
        let request = Request::get(target).header(header::HOST, host);
        to_tls(&request.body(axum::body::Body::empty()).expect("a request"), port)
    }

    #[test]
    fn addresses_are_kept() {
        for (host, target, port, expected) in [
            ("a.example", "/", 443, "https://a.example/"),
            ("a.example:80", "/", 443, "https://a.example/"),
            ("a.example:8080", "/", 8443, "https://a.example:8443/"),
            (
                "a.example",
                "/streams/ci?before=1-2&x=%0d",
                443,
                "https://a.example/streams/ci?before=1-2&x=%0d",
            ),
            ("a.example", "//b.example/", 443, "https://a.example//b.example/"),
            ("[::1]:80", "/x", 8443, "https://[::1]:8443/x"),
            ("127.0.0.1", "*", 8443, "https://127.0.0.1:8443/"),
            ("a.example", "http://a.example/x?y", 443, "https://a.example/x?y"),
        ] {
            assert_eq!(location(host, target, port).as_deref(), Some(expected), "{host} {target}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ":80",
            "a.example@b.example",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "http://a",
            "[::1",
            "a\\\\b",
        ] {
            assert_eq!(location(host, "/", 443), None, "{host}");
        }
    }
}
