//! One request to the server, and what its failure means.

use std::{
    error::Error,
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, de::IgnoredAny};
use tidings::message::StreamName;
use tokio_rustls::rustls;

use super::{
    ExitError,
    config_file::{Endpoint, TokenSource, without_slash},
};

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 256 * 1024;

/// A client of one stream.
pub(super) struct Client {
    http: reqwest::Client,
    /// The address of the stream.
    url: String,
    /// The address of the server.
    server: String,
    token: TokenSource,
    /// Whether Tidings has answered. Then another answer comes from what is before it, while it restarts.
    has_answered: AtomicBool,
}

/// What is posted to a stream.
pub(super) struct PublishRequest<'a> {
    /// What follows the address of the stream, such as `?lines`.
    pub(super) path: &'a str,
    /// The idempotency key, which makes repeating safe.
    pub(super) key: Option<&'a str>,
    pub(super) body: Bytes,
    /// How many lines it is. `None`: a message, or a closing text.
    pub(super) lines: Option<u64>,
}

/// The answer to it.
#[derive(Deserialize)]
pub(super) struct PublishResponse {
    /// The id of the message or of the closing text.
    id: Option<IgnoredAny>,
    /// The number of lines that are stored.
    taken: Option<u64>,
    /// How many of them are not as they were sent.
    #[serde(default)]
    pub(super) altered: u64,
}

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// The server would refuse it again.
    Refused {
        /// The end of the problem's `type`, if it is a problem of Tidings.
        slug: String,
        text: String,
    },
    /// Trying again may help. It may have been stored.
    Temporary {
        why: String,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
        /// Whether the attempt was cut off after its time.
        timed_out: bool,
    },
}

/// A problem document (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    r#type: String,
    title: String,
    detail: String,
}

impl Client {
    /// # Errors
    /// When the system's certificates cannot be read.
    pub(super) fn new(endpoint: Endpoint, stream: &StreamName) -> Result<Self, ExitError> {
        let Endpoint { url, token } = endpoint;
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")))
            // A token is sent nowhere else, and a redirected POST may become a GET.
            .redirect(redirect::Policy::none());
        // Where there is no encryption, a system without certificates does.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let http = builder
            .build()
            .map_err(|error| ExitError::Failed(format!("no HTTP client: {}", innermost(&error))))?;
        let server = without_slash(&url).to_owned();
        let url = format!("{server}/streams/{stream}");
        Ok(Self { http, url, server, token, has_answered: AtomicBool::new(false) })
    }

    /// The address of the server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Posts to the stream. Only the answer of Tidings says that it is stored: a proxy may answer 200 with a
    /// page of its own.
    pub(super) async fn post(
        &self,
        PublishRequest { path, key, body, lines }: &PublishRequest<'_>,
        timeout: Duration,
    ) -> Result<PublishResponse, AttemptError> {
        let mut request = self.request(Method::POST, path)?.timeout(timeout).body(body.clone());
        request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(key) = key {
            request = request.header("idempotency-key", *key);
        }
        let response = self.answered(request).await?;
        let status = response.status();
        let answer = self.read(response).await?;
        let answer: Option<PublishResponse> = serde_json::from_slice(&answer).ok();
        let answer = answer.filter(|answer| match lines {
            Some(_) => answer.taken.is_some(),
            None => answer.id.is_some(),
        });
        let answer = answer.ok_or_else(|| self.not_tidings(status))?;
        self.has_answered.store(true, Ordering::Relaxed);
        if answer.taken != *lines {
            let (taken, lines) = (answer.taken.unwrap_or_default(), lines.unwrap_or_default());
            let text = format!("{} has stored {taken} of {lines} lines", self.server);
            return Err(refused(text));
        }
        Ok(answer)
    }

    /// Opens the event stream after a cursor, sent as `Last-Event-ID`, or as a word in the query.
    /// `None`: the stream has ended, and the cursor is its end.
    pub(super) async fn events(
        &self,
        cursor: Option<String>,
        word: &str,
        timeout: Duration,
    ) -> Result<Option<Response>, AttemptError> {
        let path = format!("/events?last_event_id={word}");
        let request = self.request(Method::GET, &path)?.header(ACCEPT, "text/event-stream");
        let request = match cursor {
            Some(cursor) => request.header("last-event-id", cursor),
            None => request,
        };
        let answered = tokio::time::timeout(timeout, self.answered(request)).await;
        let response = answered.unwrap_or_else(|_| {
            let why = format!("{} does not answer", self.server);
            Err(AttemptError::Temporary { why, retry_after: None, timed_out: true })
        })?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if !has_type(response.headers(), "text/event-stream") {
            return Err(self.not_tidings(response.status()));
        }
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(Some(response))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, AttemptError> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let token = match &self.token {
            TokenSource::None => return Ok(request),
            TokenSource::Value(token) => token.clone(),
            TokenSource::File(file) => {
                let token = fs::read_to_string(file).map_err(|error| error.to_string());
                let found = token.and_then(|token| {
                    if token.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(token) }
                });
                // It may be about to be replaced.
                found.map_err(|why| {
                    let path = file.display();
                    self.unexpected(format!("the token file {path} cannot be used: {why}"))
                })?
            }
        };
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| refused("the token has characters that no token has".to_owned()))?;
        header.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, header))
    }

    /// Sends a request; an answer that is not a success is an error.
    async fn answered(&self, request: RequestBuilder) -> Result<Response, AttemptError> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers();
        if status.is_redirection() {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let text = format!("{} redirects to {to}; set --url to it", self.server);
            return Err(self.unexpected(text));
        }
        let retry_after =
            headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = if has_type(headers, "application/problem+json") {
            self.read(response).await?
        } else {
            Bytes::new()
        };
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        // The types of Tidings are anchors of its documentation; those of others are not known.
        let slug = problem.r#type.split_once('#').map(|(_, slug)| slug.to_owned());
        let text = if slug.is_some() {
            self.has_answered.store(true, Ordering::Relaxed);
            format!("{}: {}", problem.title, problem.detail)
        } else {
            format!("{} answers {status}", self.server)
        };
        // What a server or a proxy answers when it is too busy, about to stop, or has lost what is behind
        // it (Cloudflare: 520 to 530). Also 500: repeating is safe, since the server knows the key.
        if matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504 | 506..=599) {
            let retry_after = retry_after.map(Duration::from_secs);
            return Err(AttemptError::Temporary { why: text, retry_after, timed_out: false });
        }
        let Some(slug) = slug else { return Err(self.not_tidings(status)) };
        let hint = match slug.as_str() {
            "token-missing" => " (set TIDINGS_TOKEN or --token-file)",
            _ => "",
        };
        Err(AttemptError::Refused { slug, text: format!("{text}{hint}") })
    }

    /// Reads an answer.
    async fn read(&self, mut response: Response) -> Result<Bytes, AttemptError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(refused(format!("{} answers too much", self.server)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    fn unanswered(&self, error: &reqwest::Error) -> AttemptError {
        let server = &self.server;
        if error.is_builder() {
            return refused(format!("the request cannot be sent: {}", innermost(error)));
        }
        if let Some(certificate) = certificate_error(error) {
            let text = format!("the certificate of {server} is not accepted: {certificate}");
            return self.unexpected(text);
        }
        let why = if error.is_timeout() {
            format!("{server} does not answer")
        } else {
            format!("{server} cannot be reached ({})", innermost(error))
        };
        AttemptError::Temporary { why, retry_after: None, timed_out: error.is_timeout() }
    }

    fn not_tidings(&self, status: StatusCode) -> AttemptError {
        let server = &self.server;
        self.unexpected(format!("{server} answers {status}, and not as Tidings does; check --url"))
    }

    /// What is a mistake of the user at first is temporary once Tidings has answered.
    fn unexpected(&self, why: String) -> AttemptError {
        if self.has_answered.load(Ordering::Relaxed) {
            AttemptError::Temporary { why, retry_after: None, timed_out: false }
        } else {
            refused(why)
        }
    }
}

fn refused(text: String) -> AttemptError {
    AttemptError::Refused { slug: String::new(), text }
}

fn has_type(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split(';').next() == Some(media_type))
}

/// The cause that says most.
fn innermost(error: &dyn Error) -> &dyn Error {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// The certificate that was not accepted, if that is the cause: trying again does not help.
fn certificate_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(found);
    }
    // The source of an I/O error is that of the error in it, and not that error.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let found = inner.and_then(|inner| certificate_error(inner));
    found.or_else(|| error.source().and_then(certificate_error))
}
