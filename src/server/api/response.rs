//! Answers that are not streams: a rate of reads per client, and memory that is reserved from before
//! an answer is made until it has been sent.

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

/// About how many bytes of text a page or a page of history has at the most, but for a last message.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// How many times its text an answer takes while it is made: a page has all of it twice, escaped. (Less
/// than what the least budget serves, see `limits/memory/layout.rs`.)
const MAKING_FACTOR: usize = 10;
/// What most answers cost of the rate of reads.
pub(crate) const PAGE_COST: NonZeroU32 = NonZeroU32::MIN;
/// What a list of the streams costs: it has up to a thousand rows.
pub(crate) const LIST_COST: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
/// About how many bytes of a file are read at a time.
pub(crate) const FILE_CHUNK: usize = 16 * 1024;

/// Gives responses that are not streams, within a rate of reads per client and the memory budget.
#[derive(Clone)]
pub(crate) struct Responses {
    limits: Limits,
    memory: MemoryBudget,
    /// The most bytes a message may have.
    max_message_bytes: usize,
}

/// Layer for routes whose answers are pages: see [`Responses::bounded`].
pub(crate) async fn limit_reads(
    State((responses, cost)): State<(Responses, NonZeroU32)>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    let accept_encoding = accept_encoding(request.headers());
    responses.bounded(client, accept_encoding, cost, next.run(request)).await
}

/// What encodings a client takes, for an answer that is made when its request is gone.
pub(crate) fn accept_encoding(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ACCEPT_ENCODING).cloned()
}

impl Responses {
    pub(crate) fn new(limits: Limits, memory: MemoryBudget, max_message_bytes: usize) -> Self {
        Self { limits, memory, max_message_bytes }
    }

    /// Gives an answer, if the client has not had too many and there is memory for it.
    pub(crate) async fn bounded(
        &self,
        client: Client,
        accept_encoding: Option<HeaderValue>,
        cost: NonZeroU32,
        answer: impl Future<Output = Response>,
    ) -> Response {
        if let Err(problem) = self.limits.read(client.address, cost) {
            return problem.into_response();
        }
        // The text, and the answer that is made of it: how large that is, is known afterwards.
        let bytes = MAKING_FACTOR * (MAX_TEXT_BYTES + self.max_message_bytes);
        match self.memory.acquire(client.address, MemoryPart::Answers, bytes).await {
            Ok(memory) => {
                collected(content_encoding::compress(accept_encoding, answer.await).await, memory)
                    .await
            }
            Err(problem) => problem.into_response(),
        }
    }

    /// Gives a file of the site.
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

/// An answer in one piece, without what it was made of and without room to grow: a client may take
/// its time to read it.
async fn collected(response: Response, mut memory: MemoryPermit) -> Response {
    let (parts, body) = response.into_parts();
    let pieces: Result<Vec<Bytes>, _> = body.into_data_stream().try_collect().await;
    let bytes = match pieces {
        Ok(pieces) => pieces.concat(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            return Problem::new(problem::INTERNAL, "The server's log has the cause.")
                .into_response();
        }
    };
    match memory.resize(bytes.len()) {
        Ok(()) => Response::from_parts(parts, Body::new(ReservedBody::new(bytes.into(), memory))),
        Err(problem) => problem.into_response(),
    }
}
