//! Concurrency limit: the requests of a client that are in progress at the same time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::{limits::Limits, permits::Permit};
use crate::server::{client::Client, observe::Streaming};

/// Middleware that limits the requests of an address that are in progress at the same time. (Inside the
/// CORS layer, so that a page of another origin can read the error.)
pub(crate) async fn limit_concurrency(
    State(limits): State<Limits>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    let permit = match limits.request(client.address) {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    let response = next.run(request).await;
    // Event streams have a limit of their own.
    if response.extensions().get::<Streaming>().is_some() {
        return response;
    }
    response.map(|body| Body::new(WithPermit { body, _permit: permit }))
}

/// A body that holds a permit until it is dropped.
struct WithPermit {
    body: Body,
    _permit: Permit,
}

impl HttpBody for WithPermit {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
