//! The pages, their forms and files, the health checks, and this document.

use utoipa::{
    ToSchema as _,
    openapi::{
        Object, ObjectBuilder, Ref, Required, ResponseBuilder, Schema, Type,
        content::Content,
        path::Parameter,
        request_body::{RequestBody, RequestBodyBuilder},
    },
};

use super::{
    PATH, Terms,
    operation::{HTML, Operation, PAGE, Security, answer, content, get, post, with_headers},
    parameters::{self, query},
    problems::{APPEND, BAD_TOKEN, BODY, KEY, READ, RIGHTS, WRITE},
    schemas, tag,
};
use crate::{filter::MAX_BYTES, message::EventId, problem};

const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn operations(terms: &Terms<'_>) -> Vec<Operation> {
    let max = terms.max_message_bytes;
    let closing_text = schemas::string().max_length(Some(max)).build();
    vec![
        page("/", "showCounter", "The page of the counter"),
        stream_page(),
        page("/sign-in", "showSignIn", "The page to sign in").with([query(
            "to",
            "The address to go to afterwards.",
            schemas::text(),
        )]),
        page("/problems", "showProblems", "The page that explains the problems"),
        file(),
        form("/api/publish", "submitMessage", "Publish from a form", schemas::message(max))
            .refuses(&[&APPEND, &[problem::EMPTY_MESSAGE]]),
        form("/api/end", "submitEnd", "End a stream from a form", closing_text)
            .refuses(&[&[problem::STREAM_ENDED, problem::NO_SUCH_STREAM]]),
        sign_in(),
        sign_out(),
        health("/health/live", "isLive", "Liveness: the process responds"),
        health(
            "/health/ready",
            "isReady",
            "Readiness: the store can be written, and the server is not stopping",
        )
        .refuses(&[&[problem::DRAINING, problem::STORE_UNAVAILABLE]]),
        document(),
    ]
}

/// A page. Those that wait for `text/plain` get its source, which no proxy rewrites.
fn page(path: &'static str, id: &str, summary: &str) -> Operation {
    let page = answer("The page.")
        .content("text/html", content(schemas::text()))
        .content("text/plain", content(schemas::string().description(Some("Its source."))));
    get(path, id, summary)
        .tag(tag::PAGES)
        .answers(
            200,
            with_headers(page, ["Cache-Control", "Content-Security-Policy", "Link", "Vary"]),
        )
        .refuses(&[&READ, &[problem::UNSUPPORTED_ENCODING]])
        .with_error_pages(&PAGE)
}

fn stream_page() -> Operation {
    let find = format!(
        "Words that must all be in a message, `-word` that must not, `\"phrases\"`; at most {MAX_BYTES} bytes."
    );
    let find_schema = schemas::string().max_length(Some(MAX_BYTES));
    page("/streams/{name}", "showStream", "The page of a stream, or of several")
        .note(
            "A name without messages is a page that waits for the first one. `before`, `at` and `find` are \
             for the page of one stream.",
        )
        .needs(Security::Watch)
        .with([
            parameters::names(),
            query("before", "Older messages: those before this id.", schemas::cursor()),
            query("at", "The message with this id, among its neighbours. Not with `find`.", Ref::from_schema_name(EventId::name())),
            query("find", &find, find_schema),
            query("view", "How messages are set.", schemas::one_of(["log", "text"])),
            switch("wall", "For a screen that is read from afar."),
            switch("side-by-side", "Several streams in columns."),
            switch("embed", "For a frame in another page."),
        ])
        .refuses(&[&RIGHTS])
        .refuses(&[&[
            problem::MALFORMED_NAME,
            problem::MALFORMED_CURSOR,
            problem::MALFORMED_QUERY,
            problem::NO_SUCH_STREAM,
            problem::UNKNOWN_CURSOR,
        ]])
}

/// A parameter that counts, whatever its value.
fn switch(name: &str, description: &str) -> Parameter {
    query(name, description, schemas::text())
}

/// A file, at the address that topics are published to.
fn file() -> Operation {
    const HEADERS: [&str; 4] = ["Accept-Ranges", "Cache-Control", "Last-Modified", "Vary"];
    let any = || Content::new(None::<Schema>);
    let file = answer("The file.").content("*/*", any());
    let part = answer("A part of the file.").content("*/*", any());
    get("/{topic}", "readFile", "A file of the site, such as favicon.svg")
        .tag(tag::PAGES)
        .with([parameters::path(
            "topic",
            "The name of the file.",
            schemas::string().min_length(Some(1)),
        )])
        .answers(200, with_headers(file, HEADERS))
        .answers(206, with_headers(part, HEADERS.into_iter().chain(["Content-Range"])))
        .answers(304, with_headers(answer("The client has it."), HEADERS))
        .answers(412, with_headers(answer("It was changed since."), HEADERS))
        .answers(
            416,
            with_headers(
                answer("It has no such part."),
                ["Content-Range", "Cache-Control", "Vary"],
            ),
        )
        .refuses(&[&READ, &[problem::NOT_FOUND, problem::UNSUPPORTED_ENCODING]])
}

/// A body with the fields of a form.
fn fields(fields: ObjectBuilder) -> RequestBody {
    RequestBodyBuilder::new().required(Some(Required::True)).content(FORM, content(fields)).build()
}

fn form(path: &'static str, id: &str, summary: &str, text: Object) -> Operation {
    let body = fields(
        ObjectBuilder::new()
            .property("stream", schemas::name())
            .property("text", text)
            .required("stream")
            .required("text"),
    );
    let id_of_message = content(Ref::from_schema_name(EventId::name()));
    post(path, id, summary)
        .tag(tag::PAGES)
        .note("Browsers get the page of the stream.")
        .needs(Security::Publish)
        .with([parameters::idempotency_key()])
        .body(body)
        .answers(
            200,
            answer("It is stored: the id of the message.")
                .content("application/json", id_of_message),
        )
        .answers(303, to_a_page())
        .refuses(&[
            &RIGHTS,
            &WRITE,
            &KEY,
            &BODY,
            &[problem::MALFORMED_FORM, problem::TOO_MANY_READS],
        ])
        .with_error_pages(&HTML)
}

fn to_a_page() -> ResponseBuilder {
    with_headers(answer("Where browsers go."), ["Location", "Cache-Control", "Set-Cookie"])
}

fn sign_in() -> Operation {
    let token = schemas::string().description(Some("A token that `tidings token` prints."));
    sign("/api/sign-in", "signIn", "Sign in: keep a token in a cookie")
        .body(fields(to().property("token", token).required("token")))
        .refuses(&[&BAD_TOKEN, &[problem::TOKEN_TOO_LARGE, problem::TOO_MANY_SIGN_INS]])
}

fn sign_out() -> Operation {
    sign("/api/sign-out", "signOut", "Sign out: remove the token from the cookie")
        .body(fields(to()))
}

fn to() -> ObjectBuilder {
    let to = schemas::string().description(Some("The path to go to."));
    ObjectBuilder::new().property("to", to).required("to")
}

fn sign(path: &'static str, id: &str, summary: &str) -> Operation {
    let done = answer("It is done.");
    post(path, id, summary)
        .tag(tag::PAGES)
        .answers(204, with_headers(done, ["Cache-Control", "Set-Cookie"]))
        .answers(303, to_a_page())
        .refuses(&[&BODY, &[problem::CROSS_SITE, problem::MALFORMED_FORM, problem::TOO_MANY_READS]])
        .with_error_pages(&HTML)
}

fn health(path: &'static str, id: &str, summary: &str) -> Operation {
    let status = ObjectBuilder::new()
        .property("status", schemas::one_of(["live", "ready"]))
        .property(
            "open_streams",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(0))
                .description(Some("Of readiness: how many event streams are open.")),
        )
        .required("status");
    get(path, id, summary)
        .tag(tag::SERVER)
        .answers(200, answer("It is.").content("application/json", content(status)))
}

fn document() -> Operation {
    let document =
        answer("This document.").content("application/json", content(ObjectBuilder::new()));
    get(PATH, "describe", "This description")
        .tag(tag::SERVER)
        .with([parameters::if_none_match()])
        .answers(200, with_headers(document, ["ETag", "Cache-Control"]))
        .answers(304, with_headers(answer("The client has it."), ["ETag", "Cache-Control"]))
}
