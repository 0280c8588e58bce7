//! The request log: each request gets an id and a log line, and is counted in the metrics.
//!
//! The line holds a fixed set of fields: never the URL with its query, a header or a body, since any of
//! them may hold a secret.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument as _, Span};

use super::Metrics;
use crate::{
    problem::{self, Kind},
    server::client::{Address, Client, Peer, TrustedProxies},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The maximum length of an id that is accepted from a proxy, in characters.
const MAX_ID_LENGTH: usize = 64;
/// Refusals with a 5xx status that are no failures of the server.
const NOT_FAILURES: [Kind; 3] =
    [problem::DRAINING, problem::SERVER_FULL, problem::MEMORY_EXHAUSTED];
/// The route of topics, which clients publish to. Read, such an address is that of a file, which has no
/// route.
pub(crate) const FILE_OR_TOPIC: &str = "/{topic}";
/// A `GET` request that takes longer is logged as a warning.
const SLOW: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The request that the current task handles.
    static REQUEST: Arc<RequestContext>;
}

/// The context of a request, for its log line.
#[derive(Debug)]
pub(crate) struct RequestContext {
    id: Box<str>,
    method: &'static str,
    route: Option<MatchedPath>,
    client: Option<Address>,
    /// The name in the token.
    identity: OnceLock<Box<str>>,
    started: Instant,
}

/// Logs a request whose handler is dropped before it has finished, because its client has gone.
struct LogOnCancel<'context>(Option<&'context RequestContext>);

impl LogOnCancel<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for LogOnCancel<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.0 {
            context.span().in_scope(|| {
                tracing::info!(
                    duration_ms = millis(context.started.elapsed()),
                    client = context.client.map(tracing::field::display),
                    "the client has gone before the response"
                );
            });
        }
    }
}

/// An extension of event stream responses: their line is written when the body ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streaming;

/// Middleware: handles a request in a span, counts it, and logs its line. The span holds the route, not
/// the URL, so that requests can be grouped. (Not a layer of tower-http, which would also wrap the body,
/// at a cost for each frame.)
pub(crate) async fn log_request(
    State((metrics, trusted)): State<(Metrics, TrustedProxies)>,
    request: Request,
    next: Next,
) -> Response {
    let context = Arc::new(RequestContext::of(&request, &trusted));
    // The publisher decides how long an upload takes.
    let is_upload = request.uri().query().is_some_and(has_lines);
    let span = context.span();
    let log_on_cancel = LogOnCancel(Some(&context));
    let handling = REQUEST.scope(Arc::clone(&context), next.run(request));
    let mut response = handling.instrument(span.clone()).await;
    log_on_cancel.disarm();

    let elapsed = context.started.elapsed();
    if let Ok(id) = HeaderValue::try_from(&*context.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let kind = response.extensions().get::<Kind>().copied();
    if let Some(kind) = kind {
        metrics.refused(kind.slug);
    }
    let status = response.status().as_u16();
    let measured = (!is_upload).then_some(elapsed);
    metrics.answered(context.route(), context.method, status, measured);
    if response.extensions().get::<Streaming>().is_none() {
        // The client decides how long a request body takes.
        let is_slow = context.method == "GET" && elapsed > SLOW;
        span.in_scope(|| context.log(status, kind, elapsed, is_slow));
    }
    response
}

fn has_lines(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("lines"))
}

/// Adds the name in the token to the context and the span of the current request.
pub(crate) fn record_identity(name: &str) {
    // Fails in unit tests, which have no request, and where the name is already recorded.
    if let Ok(Ok(())) = REQUEST.try_with(|context| context.identity.set(name.into())) {
        Span::current().record("who", name);
    }
}

impl RequestContext {
    fn of(request: &Request, trusted: &TrustedProxies) -> Self {
        Self {
            id: proxy_request_id(request, trusted)
                .unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)).into()),
            method: method_label(request.method()),
            route: request.extensions().get().filter(|route| !is_file(request, route)).cloned(),
            client: request.extensions().get::<Client>().map(|client| client.address),
            identity: OnceLock::new(),
            started: Instant::now(),
        }
    }

    /// The context of the current request; `None` outside of one.
    pub(crate) fn current() -> Option<Arc<Self>> {
        REQUEST.try_with(Arc::clone).ok()
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }

    /// The span of the request, which each of its log lines begins with. An event stream does not keep it
    /// but creates it again: an open span takes more memory than this context.
    fn span(&self) -> Span {
        // The highest level: the span is enabled whenever a line in it is.
        let who = tracing::field::Empty;
        let (method, route, id) = (self.method, self.route(), &*self.id);
        let span = tracing::error_span!("request", method, route, id, who);
        if let Some(name) = self.identity.get() {
            span.record("who", &**name);
        }
        span
    }

    /// Logs the line of a request whose response is not an event stream.
    fn log(&self, status: u16, kind: Option<Kind>, elapsed: Duration, is_slow: bool) {
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    status,
                    duration_ms = millis(elapsed),
                    client = self.client.map(tracing::field::display),
                    problem = kind.map(|kind| kind.slug),
                    $message
                )
            };
        }
        // Files and health checks are so frequent that they would hide the rest.
        let is_file = self.route.is_none() && status < 400;
        let is_minor = is_file || self.route().starts_with("/health/");
        // A server that stops, or is at a limit, works as it should.
        let is_failure = kind.is_none_or(|kind| !NOT_FAILURES.contains(&kind));
        match status {
            _ if is_minor && (status < 500 || kind.is_some()) => line!(debug, "answered"),
            500.. if is_failure => line!(error, "failed"),
            _ if is_slow => line!(warn, "answered slowly"),
            400.. => line!(info, "refused"),
            _ => line!(info, "answered"),
        }
    }

    /// Logs the line of an event stream that has ended: what was delivered, and the reason.
    pub(crate) fn log_end(&self, messages: u64, bytes: u64, reason: &'static str) {
        self.span().in_scope(|| {
            tracing::info!(
                duration_ms = millis(self.started.elapsed()),
                client = self.client.map(tracing::field::display),
                messages,
                bytes,
                why = reason,
                "the event stream was closed"
            );
        });
    }
}

fn is_file(request: &Request, route: &MatchedPath) -> bool {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    is_read && route.as_str() == FILE_OR_TOPIC
}

/// The request id set by a trusted proxy, so that both logs can be correlated. Other clients must not
/// choose what is written to the log.
fn proxy_request_id(request: &Request, trusted: &TrustedProxies) -> Option<Box<str>> {
    let peer: &Peer = request.extensions().get()?;
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_valid = (1..=MAX_ID_LENGTH).contains(&id.len()) && id.chars().all(is_allowed);
    (is_valid && trusted.contains(peer.address)).then(|| id.into())
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The label of a method: its name, or `other`, because a client can send any name.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
