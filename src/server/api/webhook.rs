//! Webhooks: a payload of GitHub, GitLab, Gitea, Alertmanager or Grafana becomes one readable line, and any
//! other JSON becomes the line that a template describes.
//!
//! The sender has a token, or signs the payload with the secret that `tidings token --webhook` prints (see
//! `guard/webhook.rs`).

mod alertmanager;
mod gitea;
mod github;
mod gitlab;
mod grafana;
mod line;
mod payload;
mod sender;
mod template;

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use serde::Deserialize;

pub(crate) use self::sender::SENDERS;
use self::{payload::Payload, sender::Sender, template::Template};
use super::{
    accepted::Accepted, body::ReadBody, idempotency, publish::respond, publishing::Publishing,
    query::parameters,
};
use crate::{
    message::StreamName,
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Access, MayPublish, MemoryPermit, WebhookProof},
        stream_path::StreamPath,
    },
};

/// The most bytes of a payload. (GitHub's have up to 25 MiB, and usually 10 to 30 KiB.)
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
/// The size in bytes from which a payload is read on a thread of its own, which takes a millisecond or more.
const LARGE_PAYLOAD: usize = 64 * 1024;
/// How a payload ends that was cut to the size of a message.
const ELLIPSIS: &str = "…";

/// `POST /streams/{name}/webhook`
pub(crate) async fn webhook(
    State(publishing): State<Arc<Publishing>>,
    State(access): State<Access>,
    client: Client,
    StreamPath(stream): StreamPath,
    options: WebhookOptions,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sender = options.from.or_else(|| Sender::of_headers(&headers));
    let authorization = Authorization::of(&access, &headers, client, &stream)?;
    let key = sender.map_or_else(|| idempotency::key(&headers), |sender| sender.key(&headers))?;
    let too_large = || {
        let detail = format!("A payload may have at most {MAX_PAYLOAD_BYTES} bytes.");
        Problem::new(problem::PAYLOAD_TOO_LARGE, detail)
    };
    let ReadBody { bytes, memory } =
        publishing.bodies.read(client, body, MAX_PAYLOAD_BYTES, too_large).await?;
    let may = match authorization {
        Authorization::Checked(may) => may,
        Authorization::Proof(proof) => MayPublish::as_webhook(&access, proof, stream, &bytes)?,
    };
    publishing.admit(&may)?;
    let (is_large, max) = (bytes.len() > LARGE_PAYLOAD, publishing.max_message_bytes);
    // The memory goes with the bytes, since the thread goes on when the client is gone.
    let read = move || {
        let mut memory = memory;
        let json = json_of(&headers, bytes, &mut memory)?;
        options.text(sender, &headers, &json, max).map(|text| (text, memory))
    };
    let (text, memory) = if is_large {
        let failed = |_| Err(Problem::new(problem::INTERNAL, "The server's log has the cause."));
        tokio::task::spawn_blocking(read).await.unwrap_or_else(failed)?
    } else {
        read()?
    };
    let text = publishing.text(text.into_bytes())?;
    let appended = publishing.publish_admitted(&may, text, key, memory).await?;
    let accepted = Json(Accepted::new(appended.last));
    Ok(respond((StatusCode::CREATED, accepted), appended.replayed))
}

/// What a sender is allowed to publish by.
enum Authorization {
    /// By a token, or by the secret itself.
    Checked(MayPublish),
    /// By a signature, to be checked when the payload has arrived.
    Proof(WebhookProof),
}

impl Authorization {
    /// Checks all that can be checked before the payload is read.
    fn of(
        access: &Access,
        headers: &HeaderMap,
        client: Client,
        stream: &StreamName,
    ) -> Result<Self, Problem> {
        let has_token = headers.contains_key(header::AUTHORIZATION);
        if let Some(proof) = WebhookProof::from_headers(headers).filter(|_| !has_token) {
            if proof.is_of_body() && access.is_restricted() {
                return Ok(Self::Proof(proof));
            }
            return MayPublish::as_webhook(access, proof, stream.clone(), &[]).map(Self::Checked);
        }
        let identity = access.identify(headers, client);
        let may = MayPublish::check(access, &identity, client, stream.clone());
        may.map(Self::Checked).map_err(|problem| {
            if problem.kind() != problem::TOKEN_MISSING {
                return problem;
            }
            let detail = format!(
                "Give the webhook the secret that `tidings token --webhook {stream}` prints on the \
                 server, or let it send a token as Authorization: Bearer."
            );
            Problem::new(problem::SIGNATURE_MISSING, detail)
        })
    }
}

/// The JSON of a body: GitHub can also send it as the field `payload` of a form.
fn json_of(
    headers: &HeaderMap,
    bytes: Vec<u8>,
    memory: &mut MemoryPermit,
) -> Result<Vec<u8>, Problem> {
    #[derive(Deserialize)]
    struct Form {
        payload: String,
    }
    let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !media_type.starts_with(b"application/x-www-form-urlencoded")
        || !bytes.starts_with(b"payload=")
    {
        return Ok(bytes);
    }
    memory.resize(2 * bytes.len())?;
    let form: Form = serde_urlencoded::from_bytes(&bytes).map_err(|error| {
        let detail =
            format!("Send the payload as JSON, or as the field payload of a form ({error}).");
        Problem::new(problem::MALFORMED_PAYLOAD, detail)
    })?;
    drop(bytes);
    Ok(form.payload.into_bytes())
}

/// The query.
pub(crate) struct WebhookOptions {
    /// The sender, where its headers do not tell.
    from: Option<Sender>,
    /// What to show in place of the line of the sender.
    show: Option<Template>,
    /// Whether the payload follows the line.
    with_payload: bool,
}

impl WebhookOptions {
    /// The text of the message, of at most `max` bytes.
    fn text(
        &self,
        sender: Option<Sender>,
        headers: &HeaderMap,
        json: &[u8],
        max: usize,
    ) -> Result<String, Problem> {
        let payload = Payload(json);
        let mut text = match (&self.show, sender) {
            (Some(template), _) => template.fill(payload)?,
            (None, Some(sender)) => sender.line(headers, payload)?,
            (None, None) => Sender::of_payload(payload)?.line(headers, payload)?,
        };
        if self.with_payload {
            // It has been parsed, and so is UTF-8 where it matters.
            let json = String::from_utf8_lossy(json);
            text.push('\n');
            text += json.trim_end();
            if text.len() > max {
                text.truncate(text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len())));
                text += ELLIPSIS;
            }
        }
        Ok(text)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebhookOptions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [from, show, payload] = parameters(parts, ["from", "show", "payload"]).await?;
        let malformed = |detail: String| Problem::new(problem::MALFORMED_QUERY, detail);
        let sender = |name: String| {
            Sender::of_name(&name)
                .ok_or_else(|| malformed(format!("Use ?from= with {}.", Sender::names())))
        };
        if payload.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(malformed("Use ?payload without a value.".to_owned()));
        }
        Ok(Self {
            from: from.map(sender).transpose()?,
            show: show.map(|text| Template::parse(&text)).transpose().map_err(malformed)?,
            with_payload: payload.is_some(),
        })
    }
}
