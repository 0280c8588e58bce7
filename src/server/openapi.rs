//! The description of the HTTP interface (`OpenAPI` 3.1), at `/openapi.json`.
//!
//! In a room of its own, and not in attributes of the handlers: an operation takes a screen, most of it
//! parameters and refusals that it shares with others. What can be taken from the code is: limits, names,
//! problem types, and the schemas of the responses. `tests/it/openapi.rs` compares the rest with the router
//! and with the responses of a server.

mod notifying;
mod operation;
mod parameters;
mod problems;
mod publishing;
mod schemas;
mod site;
mod watching;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use axum_extra::{
    TypedHeader,
    headers::{ETag, HeaderMapExt as _, IfNoneMatch},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::{
    Components, ComponentsBuilder, InfoBuilder, License, OpenApiBuilder, PathItem, Paths, Server,
    tag::{Tag, TagBuilder},
};

use super::guard::Access;
use crate::base_path::BasePath;

/// The path of the document.
pub(crate) const PATH: &str = "/openapi.json";

/// What the interface is for. Each operation has one of these tags.
const TAGS: [(&str, &str); 5] = [
    (tag::PUBLISH, "Write to streams."),
    (tag::WATCH, "Read streams: live, their history, and feeds."),
    (tag::NTFY, "Publish as to an ntfy server. A topic is a stream."),
    (tag::PAGES, "The pages for people, their forms and files."),
    (tag::SERVER, "The server itself."),
];

/// The names of the tags.
mod tag {
    pub(super) const PUBLISH: &str = "publish";
    pub(super) const WATCH: &str = "watch";
    pub(super) const NTFY: &str = "ntfy";
    pub(super) const PAGES: &str = "pages";
    pub(super) const SERVER: &str = "server";
}

const DESCRIPTION: &str = "A stream is a log of messages; every reader is a cursor into it. \
    Publish text to `/streams/{name}`, watch it at `/streams/{name}/events`.\n\n\
    Refusals are problem documents (RFC 9457) whose `type` is stable and leads to the page `/problems`; \
    a browser that waits for a page gets a page. Every response has an `X-Request-Id`. Where a path has \
    `GET`, it has `HEAD` too. A method that a path does not have is a `405` with `Allow`, \
    an address that does not exist a `404`, a request whose head is too large a `431` without a body. \
    Request bodies may have a `Content-Encoding` of `gzip` or `deflate`; limits are for the decoded bytes. \
    Publishing and reading refuse a query parameter that they do not know; pages do not. \
    Metrics have a listener of their own and are not described here.";

/// What differs between servers.
pub(crate) struct Terms<'server> {
    pub(crate) access: &'server Access,
    pub(crate) base: &'server BasePath,
    /// The most bytes a message may have.
    pub(crate) max_message_bytes: usize,
}

/// The document of a server, made once; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    json: Bytes,
    /// The same at every server with the same options and version.
    tag: Option<ETag>,
}

impl Document {
    pub(crate) fn new(terms: &Terms<'_>) -> Self {
        let operations = [
            publishing::operations(terms),
            watching::operations(terms),
            notifying::operations(terms),
            site::operations(terms),
        ];
        let mut paths = Paths::new();
        for operation in operations.into_iter().flatten() {
            let (path, method, operation) = operation.build(terms);
            let item = paths.paths.entry(path.to_owned()).or_default();
            item.merge_operations(PathItem::new(method, operation));
        }
        let base = if terms.base.is_root() { "/" } else { terms.base.as_str() };
        let info = InfoBuilder::new()
            .title("Tidings")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(DESCRIPTION))
            .license(Some(License::new(env!("CARGO_PKG_LICENSE"))));
        let document = OpenApiBuilder::new()
            .info(info)
            .servers(Some([Server::new(base)]))
            .paths(paths)
            .components(Some(components(terms)))
            .tags(Some(TAGS.map(described)))
            .build();
        // Texts and numbers always serialize.
        let json = document.to_json().unwrap_or_default();
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&json)));
        Self { json: json.into(), tag: tag.parse().ok() }
    }
}

fn described((name, description): (&str, &str)) -> Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}

fn components(terms: &Terms<'_>) -> Components {
    let components = ComponentsBuilder::new();
    let components = operation::add_security_schemes(components, terms);
    parameters::add_headers(schemas::add(components)).build()
}

/// `GET /openapi.json`
pub(crate) async fn document(
    State(Document { json, tag }): State<Document>,
    known: Option<TypedHeader<IfNoneMatch>>,
) -> Response {
    let is_known = match (known, &tag) {
        (Some(TypedHeader(known)), Some(tag)) => !known.precondition_passes(tag),
        _ => false,
    };
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], json).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(tag) = tag {
        headers.typed_insert(tag);
    }
    response
}
