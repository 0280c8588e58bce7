//! An operation that is being described: its parameters, body and responses, and who may use it.

use std::collections::BTreeMap;

use utoipa::openapi::{
    AllOfBuilder, ComponentsBuilder, HttpMethod, ObjectBuilder, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, SecurityRequirement, Type,
    content::Content,
    path::{self, OperationBuilder, Parameter},
    request_body::{RequestBody, RequestBodyBuilder},
    schema::SchemaType,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    Terms,
    parameters::{REQUEST_ID, header_ref},
    problems, schemas,
};
use crate::{problem::Kind, server::guard::WebhookProof};

/// An operation that is being described.
pub(super) struct Operation {
    path: &'static str,
    method: HttpMethod,
    builder: OperationBuilder,
    responses: BTreeMap<u16, ResponseBuilder>,
    problems: Vec<Kind>,
    security: Security,
    /// The media types that a refusal may have besides that of problems.
    error_pages: &'static [&'static str],
}

/// The media types of pages: those that a browser wants, and `text/plain` for their source, which no proxy
/// rewrites.
pub(super) const PAGE: [&str; 2] = ["text/html", "text/plain"];
/// That of a page in place of another response, for browsers (see `pages/explain.rs`).
pub(super) const HTML: [&str; 1] = ["text/html"];

/// What a client needs at a server with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Nothing.
    Public,
    /// A token, unless what it asks for is public.
    Watch,
    /// Nothing: a token makes the response longer.
    List,
    /// A token.
    Publish,
    /// A token, or the secret of a webhook.
    Webhook,
    /// A token in a header.
    Header,
}

/// The names of the ways to send a token.
const BEARER: &str = "bearer";
const BASIC: &str = "basic";
const COOKIE: &str = "cookie";

pub(super) fn get(path: &'static str, id: &str, summary: &str) -> Operation {
    Operation::new(HttpMethod::Get, path, id, summary)
}

pub(super) fn post(path: &'static str, id: &str, summary: &str) -> Operation {
    Operation::new(HttpMethod::Post, path, id, summary)
}

impl Operation {
    pub(super) fn new(method: HttpMethod, path: &'static str, id: &str, summary: &str) -> Self {
        let error_pages: &[_] = if method == HttpMethod::Get { &HTML } else { &[] };
        let builder = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
        Self {
            path,
            method,
            builder,
            responses: BTreeMap::new(),
            problems: problems::ALWAYS.to_vec(),
            security: Security::Public,
            error_pages,
        }
    }

    pub(super) fn tag(self, tag: &str) -> Self {
        Self { builder: self.builder.tag(tag), ..self }
    }

    /// Says more than the summary.
    pub(super) fn note(self, description: impl Into<String>) -> Self {
        Self { builder: self.builder.description(Some(description)), ..self }
    }

    pub(super) fn with(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        for parameter in parameters {
            self.builder = self.builder.parameter(parameter);
        }
        self
    }

    pub(super) fn body(self, body: RequestBody) -> Self {
        Self { builder: self.builder.request_body(Some(body)), ..self }
    }

    pub(super) fn needs(self, security: Security) -> Self {
        Self { security, ..self }
    }

    /// A response that is no refusal.
    pub(super) fn answers(mut self, status: u16, response: ResponseBuilder) -> Self {
        self.responses.insert(status, response);
        self
    }

    /// The problems that it may be refused with, besides those of every operation.
    pub(super) fn refuses(mut self, problems: &[&[Kind]]) -> Self {
        self.problems.extend(problems.iter().copied().flatten());
        self
    }

    /// Says that browsers get refusals as pages, of these media types.
    pub(super) fn with_error_pages(self, error_pages: &'static [&'static str]) -> Self {
        Self { error_pages, ..self }
    }

    /// Its path and method, and what the document says.
    pub(super) fn build(self, terms: &Terms<'_>) -> (&'static str, HttpMethod, path::Operation) {
        let Self { path, method, mut builder, responses, problems, security, error_pages } = self;
        builder = builder.securities(security.requirements(terms));
        for (status, response) in responses {
            builder = builder.response(status.to_string(), with_headers(response, [REQUEST_ID]));
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in problems {
            let kinds = by_status.entry(kind.status).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for (status, kinds) in by_status {
            builder = builder.response(status.to_string(), refusal(terms, &kinds, error_pages));
        }
        (path, method, builder.build())
    }
}

impl Security {
    /// The alternatives, at this server.
    fn requirements(self, terms: &Terms<'_>) -> Option<Vec<SecurityRequirement>> {
        let access = terms.access;
        let schemes: &[&str] = match self {
            _ if !access.is_restricted() => &[],
            Self::Public => &[],
            Self::Header => &[BEARER, BASIC],
            Self::Watch | Self::List | Self::Publish | Self::Webhook => &[BEARER, BASIC, COOKIE],
        };
        if schemes.is_empty() {
            return None;
        }
        let required = schemes
            .iter()
            .copied()
            .chain(WebhookProof::HEADERS.into_iter().filter(|_| self == Self::Webhook));
        let required = required.map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
        let is_optional = self == Self::List || self == Self::Watch && access.has_public_streams();
        let nothing = is_optional.then(SecurityRequirement::default);
        Some(required.chain(nothing).collect())
    }
}

/// Adds the ways to send a token, and the secrets of webhooks.
pub(super) fn add_security_schemes(
    components: ComponentsBuilder,
    terms: &Terms<'_>,
) -> ComponentsBuilder {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A token that `tidings token` prints."))
        .build();
    let mut basic = Http::new(HttpAuthScheme::Basic);
    basic.description = Some("The token as the password, with any user.".to_owned());
    let cookie = ApiKeyValue::with_description(
        terms.access.cookie_name().unwrap_or_else(|| "tidings".to_owned()),
        "The token, as signing in sets it. Over TLS the name begins with `__Host-`.".to_owned(),
    );
    let webhooks = WebhookProof::HEADERS.into_iter().map(|header| {
        let description =
            "The secret that `tidings token --webhook` prints, or a signature made with it.";
        (
            header,
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                header,
                description,
            ))),
        )
    });
    let tokens = [
        (BEARER, SecurityScheme::Http(bearer)),
        (BASIC, SecurityScheme::Http(basic)),
        (COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
    ];
    tokens
        .into_iter()
        .chain(webhooks)
        .fold(components, |components, (name, scheme)| components.security_scheme(name, scheme))
}

/// The response of these problems, which have one status.
fn refusal(terms: &Terms<'_>, kinds: &[Kind], error_pages: &[&str]) -> Response {
    let titles: Vec<_> =
        kinds.iter().map(|kind| format!("`{}`: {}.", kind.slug, kind.title)).collect();
    let types = kinds.iter().map(|kind| terms.base.address(&format!("/problems#{}", kind.slug)));
    let of_kind = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .property("type", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(types)));
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(schemas::PROBLEM)).item(of_kind);
    let mut response = ResponseBuilder::new()
        .description(titles.join(" "))
        .content("application/problem+json", content(schema));
    for media_type in error_pages {
        response = response.content(*media_type, content(schemas::text()));
    }
    with_headers(response, problems::headers(kinds).into_iter().chain([REQUEST_ID])).build()
}

/// A response with a description.
pub(super) fn answer(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

/// Adds headers to a response.
pub(super) fn with_headers(
    response: ResponseBuilder,
    names: impl IntoIterator<Item = &'static str>,
) -> ResponseBuilder {
    names.into_iter().fold(response, |response, name| response.header_ref(name, header_ref(name)))
}

/// The content of a body.
pub(super) fn content(schema: impl Into<RefOr<Schema>>) -> Content {
    Content::new(Some(schema))
}

/// A body of one media type, which is required.
pub(super) fn body(
    description: impl Into<String>,
    media_type: &str,
    schema: impl Into<RefOr<Schema>>,
) -> RequestBody {
    RequestBodyBuilder::new()
        .description(Some(description))
        .required(Some(Required::True))
        .content(media_type, content(schema))
        .build()
}

/// A body of one media type, which may be absent.
pub(super) fn optional_body(
    description: impl Into<String>,
    media_type: &str,
    schema: impl Into<RefOr<Schema>>,
) -> RequestBody {
    let mut body = body(description, media_type, schema);
    body.required = None;
    body
}
