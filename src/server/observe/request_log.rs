//! A request as whoever runs the server sees it: it has an id, a line in the log, and is counted.
//!
//! What the line says is chosen, not copied: never the address with its query, never a header,
//! never a body, since any of them may hold what nobody else should know.

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
/// The longest id that is taken from a proxy.
const MAX_ID_LENGTH: usize = 64;
/// The refusals of a server that does as it should.
const NOT_FAILURES: [Kind; 3] =
    [problem::DRAINING, problem::SERVER_FULL, problem::MEMORY_EXHAUSTED];
/// What takes longer is worth a warning.
const SLOW: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The request that the task answers.
    static REQUEST: Arc<RequestContext>;
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct RequestContext {
    id: Box<str>,
    method: &'static str,
    route: Option<MatchedPath>,
    client: Option<Address>,
    /// The name on the token.
    who: OnceLock<Box<str>>,
    since: Instant,
}

/// While a request is answered. If that is broken off, nobody waits for it any more.
struct LogOnCancel<'asked>(Option<&'asked RequestContext>);

impl LogOnCancel<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for LogOnCancel<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.0 {
            asked.span().in_scope(|| {
                tracing::info!(
                    duration_ms = millis(asked.since.elapsed()),
                    client = asked.client.map(tracing::field::display),
                    "the client has gone before it was answered"
                );
            });
        }
    }
}

/// In the extensions of a response that is not done when it begins: its body has its line written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streaming;

/// Answers a request inside a span that says what it was: its route, not its address, so that
/// requests can be counted. (Not a layer of tower-http, which would also wrap the body, and cost
/// something for each frame.)
pub(crate) async fn observed(
    State((metrics, trusted)): State<(Metrics, TrustedProxies)>,
    request: Request,
    next: Next,
) -> Response {
    let asked = Arc::new(RequestContext::of(&request, &trusted));
    // The publisher decides how long that takes.
    let is_upload = request.uri().query().is_some_and(is_lines);
    let span = asked.span();
    let log_on_cancel = LogOnCancel(Some(&asked));
    let answer = REQUEST.scope(Arc::clone(&asked), next.run(request));
    let mut response = answer.instrument(span.clone()).await;
    log_on_cancel.end();

    let took = asked.since.elapsed();
    if let Ok(id) = HeaderValue::try_from(&*asked.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let kind = response.extensions().get::<Kind>().copied();
    if let Some(kind) = kind {
        metrics.refused(kind.slug);
    }
    let status = response.status().as_u16();
    let measured = (!is_upload).then_some(took);
    metrics.answered(asked.route(), asked.method, status, measured);
    if response.extensions().get::<Streaming>().is_none() {
        // How long a body takes is the client's affair.
        let is_slow = asked.method == "GET" && took > SLOW;
        span.in_scope(|| asked.log(status, kind, took, is_slow));
    }
    response
}

fn is_lines(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("lines"))
}

/// Notes who sends the request that is being answered: the name on their token.
pub(crate) fn record_identity(name: &str) {
    // There is no request in a test of a part; and who was told once is not told again.
    if let Ok(Ok(())) = REQUEST.try_with(|asked| asked.who.set(name.into())) {
        Span::current().record("who", name);
    }
}

impl RequestContext {
    fn of(request: &Request, trusted: &TrustedProxies) -> Self {
        Self {
            id: given_id(request, trusted)
                .unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)).into()),
            method: known(request.method()),
            route: request.extensions().get().cloned(),
            client: request.extensions().get::<Client>().map(|client| client.address),
            who: OnceLock::new(),
            since: Instant::now(),
        }
    }

    /// The request that is being answered.
    pub(crate) fn current() -> Option<Arc<Self>> {
        REQUEST.try_with(Arc::clone).ok()
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }

    /// What every line about the request begins with. A response that lasts does not keep it, but
    /// makes it again: while it is open, a span takes more memory than all that is here.
    fn span(&self) -> Span {
        // As grave as can be: it is there whenever there is a line that needs it.
        let who = tracing::field::Empty;
        let (method, route, id) = (self.method, self.route(), &*self.id);
        let span = tracing::error_span!("request", method, route, id, who);
        if let Some(who) = self.who.get() {
            span.record("who", &**who);
        }
        span
    }

    /// The line of a request that was answered at once.
    fn log(&self, status: u16, kind: Option<Kind>, took: Duration, is_slow: bool) {
        macro_rules! line {
            ($level:ident, $sentence:literal) => {
                tracing::$level!(
                    status,
                    duration_ms = millis(took),
                    client = self.client.map(tracing::field::display),
                    problem = kind.map(|kind| kind.slug),
                    $sentence
                )
            };
        }
        // Files, and what asks every few seconds, would hide the rest.
        let is_file = self.route.is_none() && status < 400;
        let is_minor = is_file || self.route().starts_with("/health/");
        // Nothing is wrong with a server that stops, or has as much to do as it may.
        let is_failure = kind.is_none_or(|kind| !NOT_FAILURES.contains(&kind));
        match status {
            _ if is_minor && (status < 500 || kind.is_some()) => line!(debug, "answered"),
            500.. if is_failure => line!(error, "failed"),
            _ if is_slow => line!(warn, "answered slowly"),
            400.. => line!(info, "refused"),
            _ => line!(info, "answered"),
        }
    }

    /// The line of a response that lasted, when it has come to its end.
    pub(crate) fn log_end(&self, messages: u64, bytes: u64, why: &'static str) {
        self.span().in_scope(|| {
            tracing::info!(
                duration_ms = millis(self.since.elapsed()),
                client = self.client.map(tracing::field::display),
                messages,
                bytes,
                why,
                "the event stream was closed"
            );
        });
    }
}

/// The id that a proxy gave the request, so that both logs can be read together. Anyone else could
/// write what they like into the log.
fn given_id(request: &Request, trusted: &TrustedProxies) -> Option<Box<str>> {
    let peer: &Peer = request.extensions().get()?;
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_sane = (1..=MAX_ID_LENGTH).contains(&id.len()) && id.chars().all(plain);
    (is_sane && trusted.contains(peer.address)).then(|| id.into())
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// A method by its name, if it is one that is used: anything may stand there.
fn known(method: &Method) -> &'static str {
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
