//! Syndication: the newest messages of a stream as an Atom feed (RFC 4287) or a JSON Feed (version 1.1),
//! for feed readers.

use atom_syndication::{Content, Entry, Feed, FixedDateTime, Link, Person};
use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use axum_extra::headers::{ETag, HeaderMapExt as _, IfNoneMatch};
use serde_json::json;

use super::{accepted::accepted_at, query::parameters, response::MAX_TEXT_BYTES};
use crate::{
    escapes,
    message::{EventId, Message, StreamName},
    server::{
        client,
        error::Problem,
        guard::MayWatch,
        log::{Bound, Log, Range, ReadCursor},
        mount,
    },
};

/// The most messages of a feed. Readers request it every few minutes or hours.
pub(crate) const MAX_ENTRIES: usize = 100;
/// The longest title of an entry, in characters. A longer first line is cut.
const MAX_TITLE_LENGTH: usize = 100;

/// `GET /streams/{name}/feed.atom`
pub(crate) async fn atom(
    State(log): State<Log>,
    MayWatch { stream }: MayWatch,
    request: FeedRequest,
) -> Result<Response, Problem> {
    let messages = newest(&log, &stream).await?;
    Ok(request.respond("application/atom+xml", &stream, &messages, atom_feed))
}

/// `GET /streams/{name}/feed.json`
pub(crate) async fn json(
    State(log): State<Log>,
    MayWatch { stream }: MayWatch,
    request: FeedRequest,
) -> Result<Response, Problem> {
    let messages = newest(&log, &stream).await?;
    Ok(request.respond("application/feed+json", &stream, &messages, json_feed))
}

/// The newest messages, newest first. The closing text of a stream that has ended is the first.
async fn newest(log: &Log, stream: &StreamName) -> Result<Vec<Message>, Problem> {
    let bound = Bound { messages: MAX_ENTRIES, bytes: MAX_TEXT_BYTES };
    let page = log.read(stream, Range::Before(ReadCursor::Latest), bound).await?;
    Ok(page.end.into_iter().chain(page.messages.into_iter().rev()).collect())
}

/// A request for a feed.
pub(crate) struct FeedRequest {
    /// The scheme and the host, as the client sent them.
    origin: String,
    /// The address of the feed.
    address: String,
    if_none_match: Option<IfNoneMatch>,
}

impl<S: Send + Sync> FromRequestParts<S> for FeedRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [] = parameters(parts, []).await?;
        let origin = client::origin(parts);
        Ok(Self {
            address: format!("{origin}{}", mount::address(parts.uri.path())),
            origin,
            if_none_match: parts.headers.typed_get(),
        })
    }
}

/// The content of a feed.
struct FeedContent<'a> {
    /// The address of the feed.
    address: &'a str,
    /// The address of the stream's page.
    page: String,
    stream: &'a StreamName,
    messages: &'a [Message],
}

impl FeedRequest {
    /// The feed, or `304` where the client has it.
    fn respond(
        &self,
        content_type: &'static str,
        stream: &StreamName,
        messages: &[Message],
        feed: fn(&FeedContent<'_>) -> String,
    ) -> Response {
        let page = format!("{}{}", self.origin, mount::address(&format!("/streams/{stream}")));
        let tag = entity_tag(messages);
        let is_known = match (&self.if_none_match, &tag) {
            (Some(known), Some(tag)) => !known.precondition_passes(tag),
            _ => false,
        };
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let feed = feed(&FeedContent { address: &self.address, page, stream, messages });
            ([(header::CONTENT_TYPE, content_type)], feed).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        if let Some(tag) = tag {
            headers.typed_insert(tag);
        }
        response
    }
}

/// The entity tag of a feed of these messages. Messages do not change, and only the oldest are deleted.
fn entity_tag(messages: &[Message]) -> Option<ETag> {
    let id = |message: Option<&Message>| message.map_or(EventId::BEGINNING, |message| message.id);
    format!(r#""{}_{}""#, id(messages.last()), id(messages.first())).parse().ok()
}

impl FeedContent<'_> {
    /// The permanent link to a message, which also identifies its entry.
    fn permalink(&self, id: EventId) -> String {
        format!("{}?at={id}#at", self.page)
    }
}

fn atom_feed(content: &FeedContent<'_>) -> String {
    let link = |rel: &str, href: &str| Link {
        rel: rel.to_owned(),
        href: href.to_owned(),
        ..Link::default()
    };
    let entries = content.messages.iter().map(|message| {
        let address = content.permalink(message.id);
        let text = visible_text(&message.data);
        Entry {
            title: title(&text).into(),
            updated: time(message.id),
            published: Some(time(message.id)),
            links: vec![link("alternate", &address)],
            id: address,
            content: Some(Content {
                content_type: Some("text".to_owned()),
                value: Some(text),
                ..Content::default()
            }),
            ..Entry::default()
        }
    });
    let feed = Feed {
        id: content.page.clone(),
        title: content.stream.to_string().into(),
        updated: time(content.messages.first().map_or(EventId::BEGINNING, |message| message.id)),
        authors: vec![Person { name: content.stream.to_string(), ..Person::default() }],
        links: vec![link("alternate", &content.page), link("self", content.address)],
        entries: entries.collect(),
        ..Feed::default()
    };
    feed.to_string()
}

fn json_feed(content: &FeedContent<'_>) -> String {
    let items = content.messages.iter().map(|message| {
        let address = content.permalink(message.id);
        let text = visible_text(&message.data);
        json!({
            "id": address,
            "url": address,
            "title": title(&text),
            "content_text": text,
            "date_published": accepted_at(message.id),
        })
    });
    json!({
        "version": "https://jsonfeed.org/version/1.1",
        "title": content.stream,
        "home_page_url": content.page,
        "feed_url": content.address,
        "items": items.collect::<Vec<_>>(),
    })
    .to_string()
}

/// The first line of a text.
fn title(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    match line.char_indices().nth(MAX_TITLE_LENGTH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// A text as the page shows it, without escape sequences; and without the characters that XML cannot express
/// (XML 1.0, section 2.2).
fn visible_text(text: &str) -> String {
    let is_expressible = |c: &char| {
        !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}') || "\t\n\r".contains(*c)
    };
    escapes::strip(text).chars().filter(is_expressible).collect()
}

/// When a message was accepted.
fn time(id: EventId) -> FixedDateTime {
    // Not reached: it is a time of RFC 3339.
    FixedDateTime::parse_from_rfc3339(&accepted_at(id)).unwrap_or_default()
}
