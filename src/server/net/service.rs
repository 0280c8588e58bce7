//! The service of a connection: passes its requests to the router, and its event streams on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::Router;
use hyper::{
    Method, Request, Response, Version,
    body::{Body as _, Incoming},
    header::{HOST, HeaderValue},
    service::Service,
};
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;

use super::release::{Release, ReleasedError};
use crate::server::{chunked_body::ChunkedBody, client::Peer, fan_out::DeferredStream};

/// The hyper service of one connection: passes its requests to the router.
pub(super) struct ConnectionService {
    service: TowerToHyperService<Router>,
    peer: Peer,
    /// Of a connection that may leave hyper, over plain HTTP/1.1.
    release: Option<Arc<Release>>,
}

impl ConnectionService {
    pub(super) fn new(router: Router, peer: Peer, release: Option<Arc<Release>>) -> Self {
        Self { service: TowerToHyperService::new(router), peer, release }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ChunkedBody>;
    type Error = ReleasedError;
    type Future = ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // HTTP/2 names the host in the URI, as HTTP/1.1 to a proxy does; the handlers read the `Host`
        // header (RFC 9112, section 3.2.2).
        let uri = request.uri();
        let authority = uri.authority().map(|host| HeaderValue::from_str(host.as_str()));
        if let Some(Ok(authority)) = authority {
            request.headers_mut().insert(HOST, authority);
        }
        // HTTP/1.0 has no chunks.
        let may_leave = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && request.body().is_end_stream();
        let release = self.release.clone().filter(|_| may_leave);
        ResponseFuture { response: self.service.call(request), release }
    }
}

pin_project! {
    /// The response to one request.
    pub(super) struct ResponseFuture {
        #[pin]
        response: <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future,
        release: Option<Arc<Release>>,
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ChunkedBody>, ReleasedError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.response.poll(context));
        let deferred = response.extensions_mut().remove::<DeferredStream>();
        if let Some(release) = this.release.take().filter(|release| release.is_possible())
            && let Some(stream) = deferred.and_then(|deferred| deferred.take())
        {
            release.put(response, stream);
            return Poll::Ready(Err(ReleasedError));
        }
        Poll::Ready(Ok(ChunkedBody::from_response(response)))
    }
}
