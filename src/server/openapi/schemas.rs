//! Schemas that are not derived from the types of responses.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Array, ArrayBuilder, ComponentsBuilder, Object, ObjectBuilder, Ref, RefOr, Schema,
        SchemaFormat, Type, schema::SchemaType,
    },
};

use crate::{
    filter::{MAX_BYTES, MAX_WORDS},
    message::{EventId, StreamName, StreamNames},
    server::{
        api::{accepted::Accepted, history::HistoryPage, ntfy::Published},
        error::LinesStored,
        stream_list::EntryJson,
    },
};

/// The name of the schema of problems.
pub(super) const PROBLEM: &str = "Problem";
/// The name of the schema of a page of the list of the streams.
pub(super) const STREAMS: &str = "StreamsPage";

/// The spelling of an id: two numbers below 2^64, of which 19 digits are enough.
const ID: &str = "(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})";

impl PartialSchema for EventId {
    fn schema() -> RefOr<Schema> {
        string()
            .pattern(Some(format!("^{ID}$")))
            .description(Some(
                "When the message was accepted, in milliseconds since the Unix epoch, and its place in the \
                 stream. Opaque: hand it back as you got it.",
            ))
            .examples(["1763891234567-42"])
            .into()
    }
}

impl ToSchema for EventId {
    fn name() -> Cow<'static, str> {
        "EventId".into()
    }
}

impl PartialSchema for StreamName {
    fn schema() -> RefOr<Schema> {
        name().into()
    }
}

impl ToSchema for StreamName {
    fn name() -> Cow<'static, str> {
        "StreamName".into()
    }
}

/// Adds the schemas of responses to the components.
pub(super) fn add(components: ComponentsBuilder) -> ComponentsBuilder {
    let components = with::<Accepted>(components);
    let components = with::<LinesStored>(components);
    let components = with::<HistoryPage>(components);
    let components = with::<Published<'_>>(components);
    let components = with::<EntryJson<'_>>(components);
    components.schema(STREAMS, streams_page()).schema(PROBLEM, problem())
}

/// Adds the schema of a type, and those that it refers to.
fn with<T: ToSchema>(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut others = Vec::new();
    T::schemas(&mut others);
    components.schema(T::name(), T::schema()).schemas_from_iter(others)
}

fn problem() -> Object {
    let text = |description: &str| string().description(Some(description));
    let number = |description: &str| {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .description(Some(description))
    };
    let only_lines = "Only of an upload of lines: those that were stored before the problem.";
    ObjectBuilder::new()
        .description(Some("A refusal (RFC 9457)."))
        .property(
            "type",
            text("Stable. Leads to the explanation on the page `/problems`.")
                .format(Some(SchemaFormat::Custom("uri-reference".to_owned()))),
        )
        .property("title", text("What happened."))
        .property("status", number("The HTTP status."))
        .property("detail", text("What the client of this request can do."))
        .property("taken", number(only_lines))
        .property("altered", number(only_lines))
        .property("last_id", nullable().description(Some(only_lines)))
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
        .build()
}

fn streams_page() -> Object {
    let next = nullable().description(Some("The `after` of the next page, if there is one."));
    ObjectBuilder::new()
        .property("streams", array(Ref::from_schema_name(EntryJson::name())))
        .property("next", next)
        .required("streams")
        .required("next")
        .build()
}

fn nullable() -> ObjectBuilder {
    ObjectBuilder::new().schema_type([Type::String, Type::Null].into_iter().collect::<SchemaType>())
}

pub(super) fn array(items: impl Into<RefOr<Schema>>) -> Array {
    ArrayBuilder::new().items(items.into()).build()
}

pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Any text.
pub(super) fn text() -> Object {
    string().build()
}

/// An event of an event stream (Server-Sent Events), which `OpenAPI` describes as an object with its fields. It
/// is one of `kinds`.
pub(super) fn event<'a>(kinds: impl IntoIterator<Item = &'a str>) -> Object {
    let retry = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    ObjectBuilder::new()
        .property("event", one_of(kinds))
        .property("data", text())
        .property("id", string().description(Some("The cursor of a reader that has this event.")))
        .property("retry", retry.description(Some("After how many milliseconds to reconnect.")))
        .required("event")
        .required("data")
        .build()
}

/// A JSON Feed (version 1.1).
pub(super) fn json_feed() -> Object {
    let item = ["id", "url", "title", "content_text", "date_published"];
    let item = item
        .into_iter()
        .fold(ObjectBuilder::new(), |item, name| item.property(name, text()).required(name));
    let feed = ["version", "title", "home_page_url", "feed_url"];
    let feed = feed
        .into_iter()
        .fold(ObjectBuilder::new(), |feed, name| feed.property(name, text()).required(name));
    feed.property("items", array(item)).required("items").build()
}

/// A message of at most so many bytes.
pub(super) fn message(max_bytes: usize) -> Object {
    string().min_length(Some(1)).max_length(Some(max_bytes)).build()
}

/// One of these texts.
pub(super) fn one_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Object {
    string().enum_values(Some(texts)).build()
}

/// The pattern of a stream's name.
fn name_pattern() -> String {
    format!("[a-z0-9][a-z0-9._-]{{0,{}}}", StreamName::MAX - 1)
}

pub(super) fn name() -> Object {
    string().pattern(Some(format!("^{}$", name_pattern()))).build()
}

/// The name of a stream, or nothing.
pub(super) fn name_or_none() -> Object {
    string().pattern(Some(format!("^({})?$", name_pattern()))).build()
}

pub(super) fn names() -> Object {
    let name = name_pattern();
    string().pattern(Some(format!("^{name}(,{name}){{0,{}}}$", StreamNames::MAX - 1))).build()
}

/// The name of a stream that is a topic: without a full stop, and not `reserved`.
pub(super) fn topic<'a>(reserved: impl IntoIterator<Item = &'a str>) -> Object {
    let reserved: Vec<_> = reserved.into_iter().collect();
    let pattern =
        format!("^(?!({})$)[a-z0-9][a-z0-9_-]{{0,{}}}$", reserved.join("|"), StreamName::MAX - 1);
    string().pattern(Some(pattern)).build()
}

/// A cursor of one stream.
pub(super) fn cursor() -> Object {
    string().pattern(Some(format!("^(earliest|latest|{ID})?$"))).build()
}

/// A cursor of one stream, or of several.
pub(super) fn cursors() -> Object {
    let one = format!("{}={ID}", name_pattern());
    string().pattern(Some(format!("^(earliest|latest|{ID}|{one}(,{one})*)?$"))).build()
}

/// The words of a filter.
pub(super) fn words() -> Array {
    let word = string().min_length(Some(1)).max_length(Some(MAX_BYTES));
    ArrayBuilder::new().items(word).max_items(Some(MAX_WORDS)).build()
}
