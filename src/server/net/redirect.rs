//! Redirects plain HTTP to HTTPS.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header, uri::Authority},
    response::IntoResponse,
};

/// The default port of `https://`.
const DEFAULT_PORT: u16 = 443;

/// Redirects every request (308) to the same host and path over HTTPS at `port`; a request without one
/// valid `Host` header gets 400.
pub(crate) fn router(port: u16) -> Router {
    Router::new().fallback(async move |request: Request| match https_url(&request, port) {
        Some(url) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, url)]).into_response(),
        None => (StatusCode::BAD_REQUEST, "The request must have one valid Host header.\n")
            .into_response(),
    })
}

fn https_url(request: &Request, port: u16) -> Option<String> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else { return None };
    let authority: Authority = host.parse().ok()?;
    // User information before an @ could be taken for the host.
    if authority.host().is_empty() || host.contains('@') {
        return None;
    }
    let port = if port == DEFAULT_PORT { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // `*` stands for the whole server.
    let path = if path.starts_with('/') { path } else { "/" };
    Some(format!("https://{}{port}{path}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, target: &str, port: u16) -> Option<String> {
        let request = Request::get(target).header(header::HOST, host);
        https_url(&request.body(axum::body::Body::empty()).expect("a request"), port)
    }

    #[test]
    fn a_redirect_keeps_the_host_the_path_and_the_query() {
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
    fn an_invalid_host_is_refused() {
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
