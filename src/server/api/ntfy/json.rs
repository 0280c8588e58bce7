//! Publishing JSON at the base address: the topic is one of the fields.

use std::{fmt, sync::Arc};

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::{
    Deserialize,
    de::{Deserializer, SeqAccess, Visitor},
};

use super::{
    super::{
        body::ReadBody,
        idempotency,
        json_object::JsonObject,
        notification::{Actions, MAX_TAGS, Notification, Parameter, Parameters},
        publishing::Publishing,
    },
    store,
};
use crate::{
    problem,
    server::{
        client::Client,
        error::Problem,
        guard::{Access, Identity, MayPublish},
        mount,
        stream_path::parse_name,
    },
};

/// How many bytes are read from a client that may publish nothing.
const MAX_GUEST_BYTES: usize = 4096;
/// How many bytes the fields besides the message may have.
const MAX_OTHER_BYTES: usize = 16 * 1024;
/// How much of an error is shown, in characters: it repeats a value that is not of the expected type.
const MAX_ERROR: usize = 200;

/// `POST` or `PUT` of JSON to `/` or `/streams`. Headers hold what the JSON does not.
pub(crate) async fn publish_json(
    State(publishing): State<Arc<Publishing>>,
    State(access): State<Access>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = access.identify(&headers, client);
    let key = idempotency::key(&headers)?;
    let ReadBody { bytes, memory } = read(&publishing, &identity, client, body).await?;
    let json = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
    let JsonObject::<PublishJson>(json) = json;
    drop(bytes);
    let stream = parse_name(&json.topic)?;
    let may = MayPublish::check(&access, &identity, client, stream)?;
    let mut parameters = Parameters::from_headers(&headers);
    let Tags(tags) = json.tags;
    let fields = [
        (Parameter::Title, json.title.0),
        (Parameter::Priority, json.priority.0),
        (Parameter::Tags, tags.join(",")),
        (Parameter::Click, json.click.0),
        (Parameter::Attach, json.attach.0),
        (Parameter::Filename, json.filename.0),
        (Parameter::Delay, json.delay.0),
        (Parameter::Email, json.email.0),
        (Parameter::Call, json.call.0),
        (Parameter::Cache, json.cache.0),
    ];
    let links = json.actions.map_or_else(Vec::new, |Actions(links)| links);
    let values = fields.iter().map(|(_, value)| value).chain(&links);
    if values.map(String::len).sum::<usize>() > MAX_OTHER_BYTES {
        let detail =
            format!("The fields besides the message may have at most {MAX_OTHER_BYTES} bytes.");
        return Err(Problem::new(problem::MALFORMED_NOTIFICATION, detail));
    }
    for (parameter, value) in fields {
        if !value.is_empty() {
            parameters.set(parameter, value);
        }
    }
    let mut notification = Notification::new(&parameters)?;
    notification.add_links(links);
    let message = match json.message.0 {
        message if message.is_empty() => parameters.take_message(),
        message => message,
    };
    store(&publishing, &may, notification, message, key, memory).await
}

/// Reads the body of a client, which is large only if the client may publish something.
async fn read(
    publishing: &Publishing,
    identity: &Identity,
    client: Client,
    body: Body,
) -> Result<ReadBody, Problem> {
    // A character takes at most six bytes in JSON, per byte of text.
    let max = publishing.max_message_bytes.saturating_mul(6).saturating_add(MAX_OTHER_BYTES);
    let max = if identity.may_publish_somewhere() { max } else { MAX_GUEST_BYTES };
    let too_large = || identity.refuse_publishing().unwrap_or_else(|| publishing.too_large());
    publishing.bodies.read(client, body, max, too_large).await
}

fn malformed(error: &serde_json::Error) -> Problem {
    let error: String = error.to_string().chars().take(MAX_ERROR).collect();
    let detail = format!(
        "Send a JSON object with at least the field topic, in UTF-8 ({error}); or POST plain text to {}.",
        mount::address("/{topic}")
    );
    Problem::new(problem::MALFORMED_NOTIFICATION, detail)
}

/// The fields of ntfy's JSON. Others have no effect.
#[derive(Deserialize)]
struct PublishJson {
    topic: String,
    #[serde(default)]
    message: Scalar,
    #[serde(default)]
    title: Scalar,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    priority: Scalar,
    #[serde(default)]
    click: Scalar,
    #[serde(default)]
    attach: Scalar,
    #[serde(default)]
    filename: Scalar,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    delay: Scalar,
    #[serde(default)]
    email: Scalar,
    #[serde(default)]
    call: Scalar,
    #[serde(default)]
    cache: Scalar,
}

/// The text of a string, a number or a truth value; empty for null.
#[derive(Default)]
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a truth value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
}

/// Tags: an array, or names separated by commas.
#[derive(Default)]
struct Tags(Vec<String>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tags, E> {
        Ok(Tags(vec![text.to_owned()]))
    }

    fn visit_unit<E>(self) -> Result<Tags, E> {
        Ok(Tags::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tags, A::Error> {
        let mut tags = Vec::new();
        while let Some(Scalar(tag)) = elements.next_element()? {
            if tags.len() < MAX_TAGS {
                tags.push(tag);
            }
        }
        Ok(Tags(tags))
    }
}
