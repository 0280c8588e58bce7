//! The forms of a stream's page: to publish, and to end. They run the app's server functions, and
//! turn what these return into HTTP.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use leptos::{
    prelude::{Owner, provide_context},
    reactive::computed::ScopedFuture,
};
use serde::Deserialize;

use super::{Loaded, Pages, sign_in::HOME, wants_page};
use crate::{
    app::{
        Draft,
        composer::{self, FormResult, Refusal, SharedForms, StreamForms},
    },
    message::EventId,
    problem::{self, Kind},
    server::{
        api::{body::ReadBody, idempotency, response::PAGE_COST},
        client::Client,
        error::Problem,
        guard::{Identity, MayPublish, MemoryPermit},
        log::IdempotencyKey,
        mount,
        stream_path::parse_name,
    },
};

/// How many bytes of a form are read from a client that may publish nothing.
const MAX_GUEST_BYTES: usize = 4096;

/// What a form does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Publish,
    End,
}

/// The fields of a form.
#[derive(Clone, Debug, Default, Deserialize)]
struct Fields {
    stream: String,
    text: String,
}

/// `POST /api/publish`
pub(crate) async fn publish(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    pages.submit(client, request, Purpose::Publish).await
}

/// `POST /api/end`
pub(crate) async fn end(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    pages.submit(client, request, Purpose::End).await
}

impl Pages {
    async fn submit(
        self: &Arc<Self>,
        client: Client,
        request: Request,
        purpose: Purpose,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let is_browser = wants_page(&parts);
        let mut shown = Fields::default();
        let result = match self.read_fields(client, &parts.headers, body).await {
            Ok((fields, submission)) => {
                if is_browser {
                    shown = fields.clone();
                }
                submission.run(purpose, fields).await.map_err(Problem::from)
            }
            Err(problem) => Err(problem),
        };
        match result {
            Ok(_) if is_browser => {
                Redirect::to(&mount::address(&format!("/streams/{}", shown.stream))).into_response()
            }
            Ok(id) => Json(id).into_response(),
            Err(problem) if is_browser => {
                self.refused_form(parts, purpose, shown, problem.for_page()).await
            }
            Err(problem) => problem.for_page().into_response(),
        }
    }

    /// Reads the fields of a form, and the key that makes it harmless to send it again: the page sends
    /// one, a browser without scripts does not.
    async fn read_fields(
        self: &Arc<Self>,
        client: Client,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Fields, Submission), Problem> {
        let max_message = self.publishing.max_message_bytes;
        // A line break may take six bytes in a form, any other byte three; the rest is for the names.
        let max_form = max_message.saturating_mul(6).saturating_add(1024);
        let identity = self.access.identify(headers, client);
        let max = if identity.may_publish_somewhere() { max_form } else { MAX_GUEST_BYTES };
        let too_large =
            || identity.refuse_publishing().unwrap_or_else(|| self.publishing.too_large());
        let key = idempotency::key(headers)?;
        let ReadBody { bytes, memory } =
            self.publishing.bodies.read(client, body, max, too_large).await?;
        let mut fields: Fields = serde_urlencoded::from_bytes(&bytes).map_err(|_| {
            Problem::new(problem::MALFORMED_FORM, "Send the fields stream and text.")
        })?;
        // A form sends the end of a line as CRLF, whatever was typed.
        fields.text = fields.text.replace("\r\n", "\n");
        let memory = Mutex::new(Some(memory));
        Ok((fields, Submission { pages: Arc::clone(self), client, identity, key, memory }))
    }

    /// The page of the stream again, with the text and why it was refused, if the visitor may watch the
    /// stream.
    async fn refused_form(
        self: &Arc<Self>,
        parts: Parts,
        purpose: Purpose,
        Fields { stream, text }: Fields,
        problem: Problem,
    ) -> Response {
        let identity =
            self.access.identify(&parts.headers, Client::from_extensions(&parts.extensions));
        let loaded = match stream.parse() {
            Ok(name) => {
                let is_shown =
                    purpose == Purpose::Publish && self.access.watch(&identity, &name).is_ok();
                let page = if is_shown {
                    let draft = Draft { text, problem: problem.detail().to_owned() };
                    self.newest(&identity, name, Some(draft), None).await
                } else {
                    Err(problem.clone())
                };
                Loaded::new(page, mount::address(&format!("/streams/{stream}")))
            }
            Err(_) => Loaded::new(Err(problem.clone()), mount::address(HOME)),
        };
        let loaded = Loaded { problem: Some(problem), ..loaded };
        self.respond(Request::from_parts(parts, Body::empty()), PAGE_COST, Some(loaded)).await
    }
}

/// What the server functions run with.
struct Submission {
    pages: Arc<Pages>,
    client: Client,
    identity: Identity,
    key: Option<IdempotencyKey>,
    /// The memory reserved for the form, until the log takes it over.
    memory: Mutex<Option<MemoryPermit>>,
}

impl Submission {
    /// Runs a server function.
    async fn run(self, purpose: Purpose, fields: Fields) -> Result<EventId, Refusal> {
        let forms: SharedForms = Arc::new(self);
        let owner = Owner::new();
        let result = owner.with(|| {
            provide_context(forms);
            ScopedFuture::new(async move {
                let Fields { stream, text } = fields;
                match purpose {
                    Purpose::Publish => composer::publish(stream, text).await,
                    Purpose::End => composer::end(stream, text).await,
                }
            })
        });
        result.await
    }

    fn may_publish(&self, stream: &str) -> Result<MayPublish, Problem> {
        let name = parse_name(stream)?;
        MayPublish::check(&self.pages.access, &self.identity, self.client, name)
    }

    fn memory(&self) -> Option<MemoryPermit> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl StreamForms for Submission {
    fn publish(&self, stream: String, text: String) -> FormResult {
        let publishing = Arc::clone(&self.pages.publishing);
        let (may, key, memory) = (self.may_publish(&stream), self.key.clone(), self.memory());
        Box::pin(async move {
            let may = may?;
            let text = publishing.text(text.into_bytes())?;
            Ok(publishing.publish(&may, text, key, memory).await?.last)
        })
    }

    fn end(&self, stream: String, closing_text: String) -> FormResult {
        let publishing = Arc::clone(&self.pages.publishing);
        let (may, memory) = (self.may_publish(&stream), self.memory());
        Box::pin(async move { Ok(publishing.end(&may?, closing_text.into_bytes(), memory).await?) })
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            slug: problem.kind().slug.to_owned(),
            detail: problem.detail().to_owned(),
            retry_after: problem.retry_after_seconds(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { slug, detail, retry_after }: Refusal) -> Self {
        let kind = problem::ALL.into_iter().find(|kind: &Kind| kind.slug == slug);
        let problem = Self::new(kind.unwrap_or(problem::INTERNAL), detail);
        match retry_after {
            Some(seconds) => problem.retry_after(Duration::from_secs(seconds.into())),
            None => problem,
        }
    }
}
