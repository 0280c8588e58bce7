//! The operations that read streams.

use utoipa::{
    ToSchema as _,
    openapi::{Object, Ref, ResponseBuilder},
};

use super::{
    Terms,
    operation::{Operation, PAGE, Security, answer, content, get, with_headers},
    parameters::{self, cursor, flag, limit, query},
    problems::{BAD_TOKEN, EVENTS, READ, RIGHTS},
    schemas, tag,
};
use crate::{
    message::{
        DELETED, END_EVENT, LISTED, NEW_MESSAGE, PING, RESET, ResetReason, STREAM, StreamNames,
        WATCHERS,
    },
    problem,
    server::api::{
        history::{self, Entry, HistoryPage},
        streams, syndication,
    },
};

pub(super) fn operations(_: &Terms<'_>) -> Vec<Operation> {
    vec![
        events(),
        history(),
        feed("/streams/{name}/feed.atom", "readAtom", "application/atom+xml", schemas::text()),
        feed(
            "/streams/{name}/feed.json",
            "readJsonFeed",
            "application/feed+json",
            schemas::json_feed(),
        ),
        list(),
        counter(),
    ]
}

/// What every event stream has.
fn about_events() -> String {
    let reasons = ResetReason::ALL.map(ResetReason::as_str).join("`, `");
    format!(
        "`{RESET}` says that the cursor is not known, and that everything follows; its data is JSON with a \
         `reason` (`{reasons}`). `{PING}` is sent after 15 seconds of silence. The stream does not end by \
         itself as long as there is more to come: reconnect with the last id."
    )
}

/// The response with events of these kinds, and those of every event stream.
fn events_response(kinds: &[&str]) -> ResponseBuilder {
    let events = answer("Events, as they happen.")
        .content("text/event-stream", content(event_schema(kinds)));
    with_headers(events, ["X-Accel-Buffering"])
}

fn event_schema(kinds: &[&str]) -> Object {
    schemas::event([RESET, PING].iter().chain(kinds).copied())
}

fn events() -> Operation {
    let note = format!(
        "`{NEW_MESSAGE}` has the text of a message as its data and an id; `{END_EVENT}` is the last event. \
         With up to {} names, the events of all these streams come on one connection, and an id lists the \
         cursor of each: `web=1763891234567-42,ci=1763891230000-7`, that of the event's own stream first. \
         With `watchers`, `{WATCHERS}` has the number of event streams that are open to the stream. {}",
        StreamNames::MAX,
        about_events()
    );
    get("/streams/{name}/events", "watch", "Watch a stream, or several")
        .tag(tag::WATCH)
        .note(note)
        .needs(Security::Watch)
        .with([parameters::names()])
        .with(cursor(schemas::cursors()))
        .with([flag("watchers", "Also how many watch it. Of one stream.", &[])])
        .answers(200, events_response(&[NEW_MESSAGE, END_EVENT, WATCHERS]))
        .answers(204, answer("The client has the last event. Browsers do not reconnect."))
        .refuses(&[&RIGHTS, &EVENTS, &READ, &[problem::MALFORMED_NAME]])
}

fn counter() -> Operation {
    let note = format!(
        "A built-in demonstration, a run for each client: \"Counter value 1\" and so on, then `{END_EVENT}`. {}",
        about_events()
    );
    get("/stream", "watchCounter", "Watch the counter")
        .tag(tag::WATCH)
        .note(note)
        .with(cursor(schemas::cursor()))
        .answers(200, events_response(&[NEW_MESSAGE, END_EVENT]))
        .answers(204, answer("The client has the last event."))
        .refuses(&[&EVENTS])
}

fn history() -> Operation {
    let place = "An id, or `earliest` or `latest`";
    let page = answer("A page of messages, oldest first.")
        .content("application/json", content(Ref::from_schema_name(HistoryPage::name())))
        .content(history::NDJSON, content(Ref::from_schema_name(Entry::name())));
    let page = with_headers(page, ["Link", "Tidings-Examined", "Cache-Control", "Vary"]);
    get("/streams/{name}/messages", "readHistory", "Read the history of a stream, or search it")
        .tag(tag::WATCH)
        .note(
            "With `Accept: application/x-ndjson`, one message per line. With `contains` or `excludes` a request examines a part of the history: an empty page with a \
             `next` is not the end. The words of both together are limited as those of each.",
        )
        .needs(Security::Watch)
        .with([
            parameters::name(),
            query("after", &format!("{place}: messages after it. Not with `before`."), schemas::cursor()),
            query("before", &format!("{place}: messages before it. Not with `after`."), schemas::cursor()),
            limit(history::DEFAULT_LIMIT, history::MAX_LIMIT),
            query("contains", "What all messages contain, in any case of letters.", schemas::words()),
            query("excludes", "What no message contains.", schemas::words()),
        ])
        .answers(200, page)
        .refuses(&[&RIGHTS, &READ])
        .refuses(&[&[
            problem::MALFORMED_NAME,
            problem::MALFORMED_QUERY,
            problem::MALFORMED_CURSOR,
            problem::NO_SUCH_STREAM,
            problem::UNKNOWN_CURSOR,
        ]])
}

fn feed(path: &'static str, id: &str, media_type: &str, schema: Object) -> Operation {
    let summary = format!("Read the newest {} messages as a feed", syndication::MAX_ENTRIES);
    let feed = answer("The feed, newest first.").content(media_type, content(schema));
    let with_tag = |response| with_headers(response, ["ETag", "Cache-Control"]);
    get(path, id, &summary)
        .tag(tag::WATCH)
        .needs(Security::Watch)
        .with([parameters::name(), parameters::if_none_match()])
        .answers(200, with_tag(feed))
        .answers(304, with_tag(answer("The client has it.")))
        .refuses(&[&RIGHTS, &READ])
        .refuses(&[&[problem::MALFORMED_NAME, problem::MALFORMED_QUERY, problem::NO_SUCH_STREAM]])
}

fn list() -> Operation {
    let note = format!(
        "The streams that the client may watch: with `Accept: application/json` in pages, by name; with \
         `Accept: text/event-stream` live; otherwise as a page. Live, each stream comes as `{STREAM}` (its \
         data is a `Stream` as in the JSON), then `{LISTED}`, then each that changes, and `{DELETED}` with \
         the name of one that was deleted. {}",
        about_events()
    );
    let list = answer("The streams.")
        .content("application/json", content(Ref::from_schema_name(schemas::STREAMS)))
        .content("text/event-stream", content(event_schema(&[STREAM, LISTED, DELETED])))
        .content("text/html", content(schemas::text()))
        .content("text/plain", content(schemas::text()));
    let list = with_headers(
        list,
        ["Link", "X-Accel-Buffering", "Cache-Control", "Vary", "Content-Security-Policy"],
    );
    get("/streams", "listStreams", "List the streams")
        .tag(tag::WATCH)
        .note(note)
        .needs(Security::List)
        .with([
            query("after", "Of JSON: streams after this name.", schemas::name_or_none()),
            limit(streams::DEFAULT_LIMIT, streams::MAX_LIMIT),
        ])
        .with(cursor(schemas::cursor()))
        .answers(200, list)
        .refuses(&[&BAD_TOKEN, &EVENTS, &READ])
        .with_error_pages(&PAGE)
}
