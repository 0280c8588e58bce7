//! The operations of an ntfy server.

use utoipa::{
    ToSchema as _,
    openapi::{
        ArrayBuilder, HttpMethod, Object, ObjectBuilder, OneOfBuilder, Type, path::Parameter,
        schema::SchemaType,
    },
};

use super::{
    Terms,
    operation::{Operation, Security, body, get, optional_body},
    parameters::{self, header, query},
    problems::{APPEND, BODY, KEY, RIGHTS, WRITE},
    publishing::stored,
    schemas, tag,
};
use crate::{
    problem,
    server::api::{
        notification::{MAX_ACTIONS, PRIORITIES, Parameter as NtfyParameter},
        ntfy::{Published, RESERVED_TOPICS},
    },
};

/// The parameters that have an effect on a message, and what they are.
const PARAMETERS: [(NtfyParameter, &str); 7] = [
    (NtfyParameter::Message, "The message, where there is no body. `\\n` is a line break."),
    (NtfyParameter::Title, "Precedes the message in a line of its own."),
    (NtfyParameter::Priority, "Shown before the title, unless it is the default."),
    (
        NtfyParameter::Tags,
        "Separated by commas. Names of emojis are shown as such, others as `#tag`.",
    ),
    (NtfyParameter::Click, "An address, which follows the message."),
    (NtfyParameter::Attach, "The address of a file, which follows the message."),
    (NtfyParameter::Actions, "Buttons, of which the addresses that they open follow the message."),
];

/// The pages and streams of the site that no topic can be named like.
const PAGES: [&str; 4] = ["problems", "sign-in", "stream", "streams"];

const NOTE: &str = "Title, priority, tags and links become a part of the text of the message. They may be \
    in headers (also with `X-`) or in the query, by all the names that ntfy has for them. \
    Refused is what a message cannot have: a delay, an e-mail, a call, an uploaded file, a template, `cache=no`. \
    Ignored is what only phones do.";

pub(super) fn operations(terms: &Terms<'_>) -> Vec<Operation> {
    vec![
        publish(terms, HttpMethod::Post, "notify"),
        publish(terms, HttpMethod::Put, "notifyByPut"),
        publish_json("/", HttpMethod::Post, "notifyJson"),
        publish_json("/", HttpMethod::Put, "notifyJsonByPut"),
        publish_json("/streams", HttpMethod::Post, "notifyJsonAtStreams"),
        publish_json("/streams", HttpMethod::Put, "notifyJsonAtStreamsByPut"),
        publish_by_get("/{topic}/publish", "notifyByGet"),
        publish_by_get("/{topic}/send", "notifyByGetSend"),
        publish_by_get("/{topic}/trigger", "notifyByGetTrigger"),
    ]
}

fn publish(terms: &Terms<'_>, method: HttpMethod, id: &str) -> Operation {
    let max = terms.max_message_bytes;
    let description = format!("The message, UTF-8 of at most {max} bytes.");
    notification(Operation::new(method, "/{topic}", id, "Publish a notification"))
        .needs(Security::Publish)
        .with([topic()])
        .with(PARAMETERS.map(|parameter| described(parameter, query)))
        .with(PARAMETERS.map(|parameter| described(parameter, header)))
        .body(optional_body(description, "text/plain", schemas::message(max)))
        .refuses(&[&BODY, &[problem::NOT_FOUND, problem::MALFORMED_QUERY, problem::NOT_UTF8]])
}

fn publish_by_get(path: &'static str, id: &str) -> Operation {
    notification(get(path, id, "Publish a notification by GET"))
        .needs(Security::Header)
        .with([topic()])
        .with(PARAMETERS.map(|parameter| described(parameter, query)))
        .with(PARAMETERS.map(|parameter| described(parameter, header)))
        .refuses(&[&[
            problem::NOT_FOUND,
            problem::MALFORMED_QUERY,
            problem::GET_NEEDS_TOKEN,
            problem::UNSUPPORTED_ENCODING,
        ]])
}

fn publish_json(path: &'static str, method: HttpMethod, id: &str) -> Operation {
    let summary = "Publish a notification as JSON";
    notification(Operation::new(method, path, id, summary))
        .needs(Security::Publish)
        .body(body("The notification.", "application/json", json()))
        .refuses(&[&BODY])
}

/// What all of them have.
fn notification(operation: Operation) -> Operation {
    operation
        .tag(tag::NTFY)
        .note(NOTE)
        .with([parameters::idempotency_key()])
        .answers(200, stored("The message is stored.", Published::name().as_ref()))
        .refuses(&[&RIGHTS, &WRITE, &APPEND, &KEY])
        .refuses(&[&[problem::MALFORMED_NOTIFICATION, problem::UNSUPPORTED_NOTIFICATION]])
}

fn topic() -> Parameter {
    let reserved = RESERVED_TOPICS.into_iter().chain(PAGES);
    parameters::path(
        "topic",
        "The name of a stream, without a full stop.",
        schemas::topic(reserved),
    )
}

fn described(
    (parameter, description): (NtfyParameter, &str),
    place: fn(&str, &str, Object) -> Parameter,
) -> Parameter {
    let (name, others) = parameter.names();
    let schema = match parameter {
        NtfyParameter::Priority => schemas::one_of(PRIORITIES),
        _ => schemas::text(),
    };
    let others = others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let also = if others.is_empty() { String::new() } else { format!(" Also {others}.") };
    place(name, &format!("{description}{also}"), schema)
}

/// The schema of a notification as JSON.
fn json() -> Object {
    let types = |types: &[Type]| {
        ObjectBuilder::new().schema_type(types.iter().cloned().collect::<SchemaType>())
    };
    let scalar = || types(&[Type::String, Type::Number, Type::Boolean, Type::Null]);
    let priorities = PRIORITIES.map(serde_json::Value::from).into_iter();
    let priorities = priorities.chain((1..=5).map(Into::into)).chain([serde_json::Value::Null]);
    let tags =
        OneOfBuilder::new().item(schemas::array(scalar())).item(types(&[Type::String, Type::Null]));
    let button = ObjectBuilder::new()
        .property("action", types(&[Type::String, Type::Null]))
        .property("url", types(&[Type::String, Type::Null]));
    let array_or_null: SchemaType = [Type::Array, Type::Null].into_iter().collect();
    let buttons =
        ArrayBuilder::new().schema_type(array_or_null).items(button).max_items(Some(MAX_ACTIONS));
    ObjectBuilder::new()
        .property("topic", schemas::name())
        .property("message", scalar())
        .property("title", scalar())
        .property("tags", tags)
        .property(
            "priority",
            types(&[Type::String, Type::Integer, Type::Null]).enum_values(Some(priorities)),
        )
        .property("click", scalar())
        .property("attach", scalar())
        .property("actions", buttons)
        .required("topic")
        .build()
}
