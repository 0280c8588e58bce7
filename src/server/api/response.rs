//! Responses that are not event streams: a rate limit of reads per client, and memory that is reserved
//! before a response is made and released when it has been sent.

use std::num::NonZeroU32;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use futures::TryStreamExt as _;

use super::content_encoding;
use crate::{
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Limits, MemoryBudget, MemoryPart, MemoryPermit, ReservedBody},
    },
};

/// About how many bytes of messages a page of the site or of the history has at most. The last message
/// may exceed it.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// How many bytes a response takes while it is made, per byte of its messages: a page has each message
/// twice, escaped. (Must be less than the factor of the smallest budget in `guard/memory/layout.rs`.)
const RENDER_FACTOR: usize = 10;
/// What most pages count for in the rate limit of reads.
pub(crate) const PAGE_COST: NonZeroU32 = NonZeroU32::MIN;
/// What a list of the streams counts for: it has up to a thousand rows.
pub(crate) const LIST_COST: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
/// About how many bytes of a file are read at a time.
pub(crate) const FILE_CHUNK: usize = 16 * 1024;

/// Makes responses that are not event streams, within the rate limit of reads and the memory budget.
#[derive(Clone)]
pub(crate) struct Responses {
    limits: Limits,
    memory: MemoryBudget,
    /// The most bytes a message may have.
    max_message_bytes: usize,
}

/// Layer for routes whose responses are pages: see [`Responses::within_limits`].
pub(crate) async fn limit_reads(
    State((responses, cost)): State<(Responses, NonZeroU32)>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    let accept_encoding = accept_encoding(request.headers());
    responses.within_limits(client, accept_encoding, cost, next.run(request)).await
}

/// The `Accept-Encoding` header, for a response that is made after its request was consumed.
pub(crate) fn accept_encoding(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ACCEPT_ENCODING).cloned()
}

impl Responses {
    pub(crate) fn new(limits: Limits, memory: MemoryBudget, max_message_bytes: usize) -> Self {
        Self { limits, memory, max_message_bytes }
    }

    /// Awaits `response` if the rate limit of the client allows `cost` and memory can be reserved, then
    /// compresses the response if it is a page. Otherwise the response is a problem.
    pub(crate) async fn within_limits(
        &self,
        client: Client,
        accept_encoding: Option<HeaderValue>,
        cost: NonZeroU32,
        response: impl Future<Output = Response>,
    ) -> Response {
        if let Err(problem) = self.limits.read(client.address, cost) {
            return problem.into_response();
        }
        // An upper bound; the size of the response is known only afterwards.
        let bytes = RENDER_FACTOR * (MAX_TEXT_BYTES + self.max_message_bytes);
        match self.memory.acquire(client.address, MemoryPart::Answers, bytes).await {
            Ok(memory) => {
                collect(content_encoding::compress(accept_encoding, response.await).await, memory)
                    .await
            }
            Err(problem) => problem.into_response(),
        }
    }

    /// A file of the site, with memory reserved for two chunks of it.
    ///
    /// The response is a problem when there is no memory.
    pub(crate) async fn file(
        &self,
        client: Client,
        file: impl Future<Output = Response>,
    ) -> Response {
        match self.memory.acquire(client.address, MemoryPart::Answers, 2 * FILE_CHUNK).await {
            Ok(memory) => file.await.map(|body| Body::new(ReservedBody::new(body, memory))),
            Err(problem) => problem.into_response(),
        }
    }
}

/// Collects a body into one buffer of exactly its size, and shrinks the reservation to it: a slow client
/// then holds no more than the response.
async fn collect(response: Response, mut memory: MemoryPermit) -> Response {
    let (parts, body) = response.into_parts();
    let chunks: Result<Vec<Bytes>, _> = body.into_data_stream().try_collect().await;
    let bytes = match chunks {
        Ok(chunks) => chunks.concat(),
        Err(error) => {
            tracing::error!(%error, "rendering a page failed");
            return Problem::new(problem::INTERNAL, "The server's log has the cause.")
                .into_response();
        }
    };
    match memory.resize(bytes.len()) {
        Ok(()) => Response::from_parts(parts, Body::new(ReservedBody::new(bytes.into(), memory))),
        Err(problem) => problem.into_response(),
    }
}
