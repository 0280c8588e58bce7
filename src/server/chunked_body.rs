//! Response bodies in small chunks, so that a connection buffers little of a long response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    Response,
    body::{Body as _, Frame, SizeHint},
    header::CONTENT_LENGTH,
};

/// The maximum size of a chunk, in bytes.
const MAX_CHUNK: usize = 16 * 1024;

/// A body in chunks of at most 16 KiB. A connection holds a chunk until its client has read it, which may
/// take long. A chunk that is a part of a larger buffer is a copy, so that the buffer is freed with the
/// body. The last byte is a chunk of its own, so that the body, with the memory reserved for it, lives
/// until the client has read nearly all of it.
pub(crate) struct ChunkedBody {
    body: Body,
    /// The rest of a frame that was larger than a chunk.
    pending: Bytes,
    /// How many bytes of the body are left, if its length is known.
    remaining: Option<u64>,
}

impl ChunkedBody {
    /// The same response, with its body in chunks.
    pub(crate) fn from_response(response: Response<Body>) -> Response<Self> {
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|length| length.parse().ok());
        response.map(|body| Self::new(body, length))
    }

    /// A body in chunks. `length` in bytes is for a body whose size hint is not exact.
    pub(crate) fn new(body: Body, length: Option<u64>) -> Self {
        let remaining = body.size_hint().exact().or(length);
        Self { body, pending: Bytes::new(), remaining }
    }
}

impl hyper::body::Body for ChunkedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut is_part = !self.pending.is_empty();
        if !is_part {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.pending = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
        let mut length = self.pending.len().min(MAX_CHUNK);
        if self.remaining == Some(length as u64) && length > 1 {
            length -= 1;
        }
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(length as u64));
        is_part |= length < self.pending.len();
        let chunk = self.pending.split_to(length);
        let chunk = if is_part { Bytes::copy_from_slice(&chunk) } else { chunk };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.pending.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper calls it only before the first chunk, for Content-Length.
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn chunks(response: Response<Body>) -> Vec<Bytes> {
        let mut body = ChunkedBody::from_response(response).into_body();
        let mut chunks = Vec::new();
        while !body.is_end_stream() {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(frame) => chunks.push(frame.expect("no error").into_data().expect("data")),
                None => break,
            }
        }
        chunks
    }

    #[tokio::test]
    async fn a_long_body_is_sent_in_small_chunks_and_its_last_byte_alone() {
        for length in [0, 1, 2, 1_000, MAX_CHUNK, MAX_CHUNK + 1, 100_000_usize] {
            let text: Vec<_> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let in_one_piece = Response::new(Body::from(text.clone()));
            let pieces = text.chunks(10_000).map(|piece| Ok::<_, axum::Error>(piece.to_vec()));
            let pieces = futures::stream::iter(pieces.collect::<Vec<_>>());
            let in_pieces = Response::builder()
                .header(CONTENT_LENGTH, length)
                .body(Body::from_stream(pieces))
                .expect("a response");
            for response in [in_one_piece, in_pieces] {
                let chunks = chunks(response).await;
                assert!(
                    chunks.iter().all(Bytes::is_unique),
                    "a chunk does not hold a larger buffer"
                );
                assert!(chunks.iter().all(|chunk| (1..=MAX_CHUNK).contains(&chunk.len())));
                assert!(length < 2 || chunks.last().is_some_and(|last| last.len() == 1));
                assert!(chunks.concat() == text, "{length}");
            }
        }
    }
}
