//! Parameters and headers that operations share.

use utoipa::openapi::{
    ComponentsBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, Schema, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

use super::schemas;
use crate::{
    message::StreamNames,
    server::api::{
        cursor::{LAST_EVENT_ID, PARAMETER as LAST_EVENT_ID_PARAMETER},
        idempotency::{IDEMPOTENCY_KEY, MAX_KEY_LENGTH},
    },
};

pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// The headers of responses: name, type and description.
const HEADERS: [(&str, Type, &str); 17] = [
    (REQUEST_ID, Type::String, "The id of the request in the log of the server."),
    ("Retry-After", Type::Integer, "After how many seconds to try again."),
    ("WWW-Authenticate", Type::String, "How to send a token (RFC 6750)."),
    ("Accept-Encoding", Type::String, "The encodings that a body may have."),
    (
        "Idempotency-Replayed",
        Type::String,
        "`true`: the key came before, and this is what was stored then.",
    ),
    ("Link", Type::String, "The address of the next page (`rel=\"next\"`), if there is one."),
    ("Tidings-Examined", Type::Integer, "How many messages a search has examined."),
    ("ETag", Type::String, "Changes with the content. To be sent as `If-None-Match`."),
    ("Cache-Control", Type::String, "How long it may be kept."),
    ("Vary", Type::String, "The headers of the request that it depends on."),
    ("Location", Type::String, "The page to go to."),
    ("Set-Cookie", Type::String, "The cookie with the token, or an empty one."),
    ("Content-Security-Policy", Type::String, "What the page may load."),
    ("Accept-Ranges", Type::String, "That a part of the file can be asked for."),
    ("Content-Range", Type::String, "Which part of the file it is."),
    ("X-Accel-Buffering", Type::String, "`no`: asks proxies to pass each event on at once."),
    ("Last-Modified", Type::String, "When the file was changed."),
];

/// Adds the headers of responses to the components.
pub(super) fn add_headers(components: ComponentsBuilder) -> ComponentsBuilder {
    HEADERS.into_iter().fold(components, |components, (name, kind, description)| {
        let schema = ObjectBuilder::new().schema_type(kind);
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
        components.header(name, header.build())
    })
}

/// The header of this name.
pub(super) fn header_ref(name: &str) -> Ref {
    debug_assert!(HEADERS.iter().any(|(known, ..)| *known == name), "{name} is a header");
    Ref::new(format!("#/components/headers/{name}"))
}

fn parameter(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

pub(super) fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    parameter(ParameterIn::Query, name, description, schema)
}

pub(super) fn header(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    parameter(ParameterIn::Header, name, description, schema)
}

pub(super) fn path(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    // The builder makes it required.
    parameter(ParameterIn::Path, name, description, schema)
}

/// A parameter of the query that has no value, or one of `values`.
pub(super) fn flag(name: &str, description: &str, values: &[&str]) -> Parameter {
    let values = [""].iter().chain(values).copied();
    query(
        name,
        description,
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)),
    )
}

/// The name of a stream.
pub(super) fn name() -> Parameter {
    path("name", "The name of the stream.", schemas::name())
}

/// The names of streams.
pub(super) fn names() -> Parameter {
    let description = format!(
        "The name of the stream, or the names of up to {}, separated by commas.",
        StreamNames::MAX
    );
    path("name", &description, schemas::names())
}

pub(super) fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_KEY_LENGTH))
        // A header cannot begin or end with a space.
        .pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    let description = "Makes it harmless to send the request again: within a day it gets the first \
                       answer again, and the message is stored once.";
    header(IDEMPOTENCY_KEY.as_str(), description, schema)
}

/// The cursor of an event stream. `schema` is that of the one in the query: a malformed header is an unknown
/// cursor.
pub(super) fn cursor(schema: impl Into<RefOr<Schema>>) -> [Parameter; 2] {
    let description = "The id of the last event that the client has, which browsers send by themselves when \
                       they reconnect. It wins over the query.";
    [
        header(LAST_EVENT_ID.as_str(), description, schemas::text()),
        query(
            LAST_EVENT_ID_PARAMETER,
            "The same, for clients that cannot set a header; or `earliest` (the default) or `latest`. Also \
             accepted as `lastEventId` and the like.",
            schema,
        ),
    ]
}

/// How many elements a page has.
pub(super) fn limit(default: usize, max: usize) -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(max))
        .default(Some(default.into()));
    query("limit", "How many a page has at most.", schema)
}

/// The tag of what the client has.
pub(super) fn if_none_match() -> Parameter {
    header(
        "If-None-Match",
        "The `ETag` of what the client has: if it is the same, `304`.",
        schemas::text(),
    )
}
