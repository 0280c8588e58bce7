//! The operations that write to streams.

use utoipa::{
    ToSchema as _,
    openapi::{HttpMethod, ObjectBuilder, Ref, ResponseBuilder, schema::SchemaType},
};

use super::{
    Terms,
    operation::{Operation, Security, answer, body, content, optional_body, post, with_headers},
    parameters::{self, flag, header, query},
    problems::{APPEND, BODY, KEY, RIGHTS, WRITE},
    schemas, tag,
};
use crate::{
    problem,
    server::{
        api::{
            accepted::Accepted,
            lines::MAX_BYTES as MAX_KEYED_BYTES,
            notification::STREAM_HEADERS,
            webhook::{MAX_PAYLOAD_BYTES, SENDERS},
        },
        error::LinesStored,
        log::MAX_KEYED_BATCH,
    },
};

const STREAM: &str = "/streams/{name}";

pub(super) fn operations(terms: &Terms<'_>) -> Vec<Operation> {
    vec![
        publish(terms, HttpMethod::Post, "publish"),
        publish(terms, HttpMethod::Put, "publishByPut"),
        end(terms),
        delete(),
        webhook(),
    ]
}

fn publish(terms: &Terms<'_>, method: HttpMethod, id: &str) -> Operation {
    let max = terms.max_message_bytes;
    let note = format!(
        "The body is the message, whatever its content type. The first one creates the stream. With `lines`, \
         each line is a message, stored as it arrives; a line that is too long or not UTF-8 is altered, or \
         with `strict` ends the upload. With a key, `lines` takes up to {MAX_KEYED_BATCH} lines and \
         {MAX_KEYED_BYTES} bytes, which are stored as a whole or not at all."
    );
    let description = format!("The message, UTF-8 of at most {max} bytes; or lines of that size.");
    let notification = STREAM_HEADERS.map(|(name, _)| {
        header(name, "Becomes a part of the text of a message, as for ntfy.", schemas::text())
    });
    Operation::new(method, STREAM, id, "Publish a message, or each line as a message")
        .tag(tag::PUBLISH)
        .note(note)
        .needs(Security::Publish)
        .with([
            parameters::name(),
            flag("lines", "Each line is a message.", &["strict"]),
            parameters::idempotency_key(),
        ])
        .with(notification)
        .body(body(description, "text/plain", schemas::message(max)))
        .answers(201, stored("The message is stored.", Accepted::name().as_ref()))
        .answers(200, stored("The lines are stored.", LinesStored::name().as_ref()))
        .refuses(&[&RIGHTS, &WRITE, &APPEND, &KEY, &BODY])
        .refuses(&[&[
            problem::MALFORMED_QUERY,
            problem::EMPTY_MESSAGE,
            problem::NOT_UTF8,
            problem::TOO_MUCH_FOR_A_KEY,
        ]])
}

/// The response to a write, which may be a repeated one.
pub(super) fn stored(description: &str, schema: &str) -> ResponseBuilder {
    let stored =
        answer(description).content("application/json", content(Ref::from_schema_name(schema)));
    with_headers(stored, ["Idempotency-Replayed"])
}

fn end(terms: &Terms<'_>) -> Operation {
    let max = terms.max_message_bytes;
    let description = format!("The closing text, UTF-8 of at most {max} bytes.");
    let accepted = content(Ref::from_schema_name(Accepted::name()));
    post("/streams/{name}/end", "end", "End a stream for good")
        .tag(tag::PUBLISH)
        .needs(Security::Publish)
        .with([parameters::name()])
        .body(optional_body(description, "text/plain", schemas::message(max)))
        .answers(200, answer("The end is stored.").content("application/json", accepted))
        .refuses(&[&RIGHTS, &WRITE, &BODY])
        .refuses(&[&[problem::NOT_UTF8, problem::STREAM_ENDED, problem::NO_SUCH_STREAM]])
}

fn delete() -> Operation {
    Operation::new(HttpMethod::Delete, STREAM, "delete", "Delete a stream")
        .tag(tag::PUBLISH)
        .note("It is deleted on disk too. Its watchers see it emptied; the next message creates it again.")
        .needs(Security::Publish)
        .with([parameters::name()])
        .answers(204, answer("The stream is deleted."))
        .refuses(&[&RIGHTS, &WRITE, &[problem::NO_SUCH_STREAM, problem::UNSUPPORTED_ENCODING]])
}

fn webhook() -> Operation {
    let note = format!(
        "Publishes one readable line about the payload: of {}, or of any JSON by a template. The sender is \
         known by its headers or its payload. One with an id of its delivery is stored once.",
        SENDERS.map(|(_, name)| name).join(", ")
    );
    let payload = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let payload = body(
        format!(
            "The payload, of at most {MAX_PAYLOAD_BYTES} bytes; also as the field `payload` of a form."
        ),
        "application/json",
        payload,
    );
    let from = "The sender, where its headers got lost.";
    let show = "What to show: text with the paths of fields in braces, `{name} is {status.text}`.";
    // Text without braces, or with fields in them.
    let template =
        schemas::string().min_length(Some(1)).pattern(Some(r"^([^{}]|\{[^{} \t\r\n]+\})*$"));
    post(
        "/streams/{name}/webhook",
        "publishWebhook",
        "Publish a line about the payload of a webhook",
    )
    .tag(tag::PUBLISH)
    .note(note)
    .needs(Security::Webhook)
    .with([
        parameters::name(),
        query("from", from, schemas::one_of(SENDERS.map(|(_, name)| name))),
        query("show", show, template),
        flag("payload", "The payload follows the line, cut to the size of a message.", &[]),
        parameters::idempotency_key(),
    ])
    .body(payload)
    .answers(201, stored("The message is stored.", Accepted::name().as_ref()))
    .refuses(&[&RIGHTS, &WRITE, &APPEND, &KEY, &BODY])
    .refuses(&[&[
        problem::MALFORMED_QUERY,
        problem::MALFORMED_PAYLOAD,
        problem::PAYLOAD_TOO_LARGE,
        problem::SIGNATURE_MISSING,
        problem::SIGNATURE_INVALID,
    ]])
}
