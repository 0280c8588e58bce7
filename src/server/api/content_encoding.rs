//! Content-Encoding. Request bodies: gzip and deflate are decoded as they come, within the limits that
//! hold for what is decoded; the rest is refused. Responses: pages are compressed.

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

/// Makes the header as the decompression layer knows it: the names of encodings are those of RFC 9110,
/// section 8.4.1, in any case, and a body that is empty has none.
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

/// The answer of the decompression layer to an encoding that it does not know, as a problem.
pub(crate) fn unsupported<B>(response: Response<B>) -> Response
where
    B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let is_refusal = response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE
        && response.headers().contains_key(header::ACCEPT_ENCODING);
    if !is_refusal {
        return response.map(Body::new);
    }
    let detail = "Send the body as it is, or with Content-Encoding: gzip or deflate.";
    let mut response = Problem::new(problem::UNSUPPORTED_ENCODING, detail).into_response();
    let accepted = HeaderValue::from_static("gzip, deflate");
    response.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
    response
}

/// Compresses pages, whose style sheet and markup are most of them. The files of the site have been
/// compressed when they were built, event streams must not wait for a compressor, and everything else is
/// small. What a page says of its request stands in no page beside a secret; a client that may publish
/// to a stream and not watch it could learn from the sizes of its pages, if it could see them pass
/// (BREACH).
///
/// A page is compressed as a whole before any of it is sent: what a compressor takes, more than most pages
/// do, is held for no reader, however slow.
pub(crate) async fn compress(accept_encoding: Option<HeaderValue>, response: Response) -> Response {
    // The layer is for services; this one answers with what it is asked with.
    let echo = |request: Request<Response>| ready(Ok::<_, Infallible>(request.into_body()));
    let mut request = Request::new(response);
    request.headers_mut().extend(accept_encoding.map(|value| (header::ACCEPT_ENCODING, value)));
    match compression().layer(service_fn(echo)).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

fn compression() -> CompressionLayer<impl Predicate> {
    let is_page = |_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions| {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        content_type.is_some_and(|value| value.starts_with(b"text/html"))
    };
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_page)
}

/// Why a body could not be read: because it cannot be decoded, or because the client went away.
pub(crate) fn unreadable(error: &(dyn Error + 'static)) -> Problem {
    // What goes wrong on the connection comes from hyper; all else is the decoder's.
    let is_of_connection = causes(error).any(<dyn Error>::is::<hyper::Error>);
    let is_of_decoder = causes(error).any(<dyn Error>::is::<io::Error>);
    if is_of_decoder && !is_of_connection {
        let detail = "The body is not what its Content-Encoding header says, or breaks off.";
        return Problem::new(problem::MALFORMED_ENCODING, detail);
    }
    Problem::new(problem::INCOMPLETE_BODY, "Send the request again, to its end.")
}

fn causes<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
