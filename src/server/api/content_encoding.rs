//! Content-Encoding. Request bodies in gzip and deflate are decoded while they are read, and size limits
//! apply to the decoded bytes; other encodings are refused. Responses: pages are compressed.

use std::{convert::Infallible, error::Error, future::ready, io};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header},
    response::{IntoResponse as _, Response},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, predicate::Predicate},
};

use crate::{problem, server::error::Problem};

/// Normalises the Content-Encoding header for the decompression layer: names are case-insensitive,
/// `x-gzip` means `gzip` (RFC 9110, section 8.4.1), and an empty body has no encoding.
pub(crate) fn normalize(mut request: Request) -> Request {
    let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) else { return request };
    let name = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    let is_none = name.is_empty() && encoding.to_str().is_ok();
    if is_none || request.body().is_end_stream() {
        request.headers_mut().remove(header::CONTENT_ENCODING);
        return request;
    }
    let name = if name == "x-gzip" { "gzip" } else { &name };
    if let Ok(name) = HeaderValue::from_str(name) {
        request.headers_mut().insert(header::CONTENT_ENCODING, name);
    }
    request
}

/// Turns the 415 response of the decompression layer to an unknown encoding into a problem.
pub(crate) fn unsupported<B>(response: Response<B>) -> Response
where
    B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let is_unsupported = response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE
        && response.headers().contains_key(header::ACCEPT_ENCODING);
    if !is_unsupported {
        return response.map(Body::new);
    }
    let detail = "Send the body as it is, or with Content-Encoding: gzip or deflate.";
    let mut response = Problem::new(problem::UNSUPPORTED_ENCODING, detail).into_response();
    let accepted = HeaderValue::from_static("gzip, deflate");
    response.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
    response
}

/// Compresses pages. Nothing else: the files of the site are compressed when they are built, event
/// streams must not wait in a compressor's buffer, and other responses are small. Nor is a page that has text
/// of its request beside messages, whose size would tell whether that text is in one of them (BREACH): see
/// [`Uncompressed`]. One case is left: a client that may publish to a stream but not watch it, and that can observe the traffic of a watcher, could
/// learn about messages from the size of the watcher's pages.
///
/// A page is compressed completely before it is sent, so that a slow reader does not hold the memory of
/// a compressor, which is more than that of most pages.
pub(crate) async fn compress(accept_encoding: Option<HeaderValue>, response: Response) -> Response {
    // The layer wraps a service; this service returns its request's body, the response, unchanged.
    let return_body = |request: Request<Response>| ready(Ok::<_, Infallible>(request.into_body()));
    let mut request = Request::new(response);
    request.headers_mut().extend(accept_encoding.map(|value| (header::ACCEPT_ENCODING, value)));
    match compression().layer(service_fn(return_body)).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Extension of a response that must not be compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncompressed;

fn compression() -> CompressionLayer<impl Predicate> {
    let is_page = |_: StatusCode, _: Version, headers: &HeaderMap, extensions: &Extensions| {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        content_type.is_some_and(|value| value.starts_with(b"text/html"))
            && extensions.get::<Uncompressed>().is_none()
    };
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_page)
}

/// The problem for a body that could not be read: it cannot be decoded, or the connection was lost.
pub(crate) fn body_error(error: &(dyn Error + 'static)) -> Problem {
    // Errors of the connection come from hyper, and other I/O errors from the decoder.
    let is_of_connection = causes(error).any(<dyn Error>::is::<hyper::Error>);
    let is_of_decoder = causes(error).any(<dyn Error>::is::<io::Error>);
    if is_of_decoder && !is_of_connection {
        let detail = "The body does not match its Content-Encoding header, or is incomplete.";
        return Problem::new(problem::MALFORMED_ENCODING, detail);
    }
    Problem::new(problem::INCOMPLETE_BODY, "The body is incomplete. Send the request again.")
}

fn causes<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
